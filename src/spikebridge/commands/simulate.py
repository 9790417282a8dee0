"""The command `simulate`."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from spikebridge.base.errors import UserError

if TYPE_CHECKING:
    from spikebridge.data.simulation.camera import Simulator


def _simulate_arguments(parser: ArgumentParser) -> None:
    from spikebridge.data.simulation.camera import Motion, Simulator
    from spikebridge.settings.parsing import add_settings

    parser.usage = (
        "spikebridge simulate --photos DIR --out DIR [--sensor WxH] [--motion MOTION] "
        "[--like FILE --photo FILE] [--format FORMAT] [--seed N] [--jobs N] [--exclude CLASS …] "
        "[--simulator.… VALUE]"
    )
    parser.add_argument("--photos", type=str, help="folder with CLASS/PHOTO.jpg")
    parser.add_argument("--out", type=str, help="folder of the recordings, CLASS/PHOTO.bin")
    parser.add_argument(
        "--like", type=str, help="a real recording in three saccades, to fit the camera to"
    )
    parser.add_argument("--photo", type=str, help="the photo that it is of")
    parser.add_argument(
        "--format",
        choices=["bin", "npz"],
        default="bin",
        help="bin is N-Caltech101's own; npz has arrays x, y, t (µs) and p",
    )
    parser.add_argument(
        "--sensor",
        type=str,
        help="width and height, 240x180 say; short for --simulator.width and --simulator.height, "
        "or the recording's that --like names",
    )
    parser.add_argument(
        "--motion", choices=list(get_args(Motion)), help="short for --simulator.motion"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of paths, thresholds and noise")
    parser.add_argument("--jobs", type=int, help="number of threads; null takes all cores")
    parser.add_argument(
        "--exclude", nargs="+", action="extend", default=[], help="classes to leave out"
    )
    add_settings(parser, Simulator, "simulator")


def _simulate(given: Namespace) -> None:
    """Turn a folder of photos into simulated event recordings (N-Caltech101's layout).

    Recordings that are there already are kept; repeat the command to go on where it was
    interrupted. With --sensor 240x180 and all else left as it is, photos of Caltech101 give
    recordings like N-Caltech101's: about 115,000 events in 300 ms.

    With --like and --photo, a real recording and its photo, the camera is fitted to its first two
    saccades and judged on the third; without --photos that is all.
    """
    from spikebridge.data.simulation.twins import simulate_folder

    if given.jobs is not None and given.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {given.jobs}")
    fitted = bool(given.like or given.photo)
    _require(given, *(("like", "photo") if fitted else ()))
    if given.photos or given.out or not fitted:
        _require(given, "photos", "out")
    simulator = _fitted_camera(given) if fitted else _camera(given)
    if not given.photos:
        return
    out = Path(given.out)
    made = simulate_folder(
        given.photos,
        out,
        simulator,
        seed=given.seed,
        exclude=given.exclude,
        format=given.format,
        jobs=given.jobs,
    )
    print(f"{out}: {made} recordings made")


def _require(given: Namespace, *names: str) -> None:
    if missing := [f"--{name}" for name in names if not getattr(given, name)]:
        raise UserError(f"missing: {', '.join(missing)}; see spikebridge simulate --help")


def _camera(given: Namespace) -> "Simulator":
    """As it is described."""
    from spikebridge.data.simulation.camera import Simulator

    settings = dict(given.settings.get("simulator", {}))
    if given.motion:
        settings["motion"] = given.motion
    if given.sensor:
        settings["width"], settings["height"] = _sensor(given.sensor)
    try:
        return Simulator(**settings)
    except ValueError as error:
        raise UserError(str(error)) from error


def _fitted_camera(given: Namespace) -> "Simulator":
    """As a real recording says; prints how well it fits, and the camera."""
    import yaml

    from spikebridge.data.events import read_events
    from spikebridge.data.photos import read_photo
    from spikebridge.data.simulation.camera import Simulator
    from spikebridge.data.simulation.fit import fit_camera

    if given.motion or given.settings:
        raise UserError("--like finds the camera; leave out --motion and --simulator")
    events = read_events(given.like, _sensor(given.sensor) if given.sensor else None)
    photo_HWC = read_photo(given.photo)
    try:
        found = fit_camera(events, photo_HWC)
    except UserError as error:
        raise UserError(f"{given.like}: {error}") from error
    print(f"{'':26}{'saccades 1 and 2, fitted':>26}{'saccade 3, judged':>26}")
    print(f"{'':26}{'recorded':>13}{'simulated':>13}{'recorded':>13}{'simulated':>13}")
    for name, *values in _rows(found.fitted, found.judged):
        print(f"{name:26}{''.join(f'{value:>13}' for value in values)}")
    default = Simulator().settings()
    changes = {k: v for k, v in found.simulator.settings().items() if v != default[k]}
    settings = {"data": {"simulator": changes}}
    text = yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=96)
    print(f"\n{text}", end="", flush=True)
    return found.simulator


def _rows(*parts: Any) -> list[tuple[str, ...]]:
    def row(name: str, show: Any, kind: str) -> tuple[str, ...]:
        both = ("recorded", "simulated")
        return name, *(show(getattr(part, f"{which}_{kind}")) for part in parts for which in both)

    return [
        row("events", lambda count: f"{count:,}", "events"),
        row("ON share", lambda share: f"{share:.1%}", "on"),
        row("pixels, width × height", lambda size: f"{size[0]} × {size[1]}", "extent"),
        *(
            row(f"events in tenth {tenth + 1}", lambda rate, k=tenth: f"{rate[k]:.1%}", "rate")
            for tenth in range(len(parts[0].recorded_rate))
        ),
        ("in another tenth", *(x for p in parts for x in ("", f"{p.rates_apart:.1%}"))),
        ("correlation of frames", *(x for p in parts for x in ("", f"{p.likeness:.3f}"))),
    ]


def _sensor(text: str) -> tuple[int, int]:
    """Width and height."""
    if not (sizes := re.fullmatch(r"(\d+)[x×](\d+)", text)):
        raise UserError(f"--sensor takes WIDTHxHEIGHT such as 240x180, got {text!r}")
    return int(sizes[1]), int(sizes[2])


COMMANDS = {
    "simulate": (_simulate_arguments, _simulate),
}
