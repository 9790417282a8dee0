"""The command `simulate`."""

import re
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import get_args

from spikebridge.base.errors import UserError


def _simulate_arguments(parser: ArgumentParser) -> None:
    from spikebridge.data.simulation.camera import Motion, Simulator
    from spikebridge.settings.parsing import add_settings

    parser.usage = (
        "spikebridge simulate --photos DIR --out DIR [--sensor WxH] [--motion MOTION] "
        "[--format FORMAT] [--seed N] [--jobs N] [--exclude CLASS …] [--simulator.… VALUE]"
    )
    parser.add_argument("--photos", type=str, required=True, help="folder with CLASS/PHOTO.jpg")
    parser.add_argument(
        "--out", type=str, required=True, help="folder of the recordings, CLASS/PHOTO.bin"
    )
    parser.add_argument(
        "--format",
        choices=["bin", "npz"],
        default="bin",
        help="bin is N-Caltech101's own; npz has arrays x, y, t (µs) and p",
    )
    parser.add_argument(
        "--sensor",
        type=str,
        help="width and height, 240x180 say; short for --simulator.width and --simulator.height",
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
    """
    from spikebridge.data.simulation.camera import Simulator
    from spikebridge.data.simulation.twins import simulate_folder

    if given.jobs is not None and given.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {given.jobs}")
    settings = dict(given.settings.get("simulator", {}))
    if given.motion:
        settings["motion"] = given.motion
    if given.sensor:
        settings["width"], settings["height"] = _sensor(given.sensor)
    try:
        simulator = Simulator(**settings)
    except ValueError as error:
        raise UserError(str(error)) from error
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


def _sensor(text: str) -> tuple[int, int]:
    """Width and height."""
    if not (sizes := re.fullmatch(r"(\d+)[x×](\d+)", text)):
        raise UserError(f"--sensor takes WIDTHxHEIGHT such as 240x180, got {text!r}")
    return int(sizes[1]), int(sizes[2])


COMMANDS = {
    "simulate": (_simulate_arguments, _simulate),
}
