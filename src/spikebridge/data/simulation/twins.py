"""Simulated twins: a recording of every photo in a folder, in N-Caltech101's layout and format."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np

from spikebridge.base.console import each_in_threads
from spikebridge.base.errors import UserError
from spikebridge.base.files import (
    atomic_path,
    json_text,
    remove_stale_temporaries,
    write_json,
)
from spikebridge.data.events import Events, write_bin
from spikebridge.data.photos import list_photo_folder, read_photo
from spikebridge.data.simulation.camera import NOTE, Simulator
from spikebridge.data.simulation.simulate import simulate_photo

Format = Literal["bin", "npz"]

_BIN_SENSOR = (256, 240)
_WRITING_S = 60.0
"""No recording is written for so long: what is older, a killed call has left."""


def simulate_folder(
    photos: str | os.PathLike[str],
    out: str | os.PathLike[str],
    simulator: Simulator,
    *,
    seed: int,
    exclude: Sequence[str] = (),
    format: Format = "bin",
    jobs: int | None = None,
) -> int:
    """Simulate a whole data set in N-Caltech101's layout: OUT/CLASS/NAME.bin.

    A recording depends on its photo, the settings, ``seed`` and its class and name only. Recordings
    that are there already are kept, so that an interrupted call can be repeated, and what a killed
    one left unfinished goes after a minute; ``simulator.json`` holds the settings.

    Args:
        photos: Folder with CLASS/PHOTO.
        out: Folder of the recordings.
        simulator: Camera and motion.
        seed: Seed of paths, thresholds and noise.
        exclude: Classes to leave out.
        format: ``bin`` is N-Caltech101's own; ``npz`` holds the arrays x, y, t (µs) and p.
        jobs: Number of threads; None takes all cores.

    Returns:
        Number of recordings that were made.

    Raises:
        UserError: a photo does not decode or shows nothing to the camera, two would make the same
            recording, the sensor does not fit ``.bin``, or the folder holds recordings of other
            settings or another format.
    """
    if format == "bin" and (simulator.width > _BIN_SENSOR[0] or simulator.height > _BIN_SENSOR[1]):
        raise UserError(
            f"a {simulator.width}×{simulator.height} sensor does not fit .bin, which holds at most "
            "256×240; lower simulator.width and simulator.height or choose format npz"
        )
    root = Path(out)
    photo_of = _photo_of(photos, root, exclude, format)
    for folder in (root, *root.glob("*/")):
        remove_stale_temporaries(folder, older_than_s=_WRITING_S)
    _refuse_other_formats(root, format)
    _note_settings(root, {"seed": seed, **simulator.settings()})
    missing = [(file, target) for target, file in photo_of.items() if not target.exists()]

    def simulate(job: tuple[Path, Path]) -> None:
        file, target = job
        photo_HWC = read_photo(file)
        try:
            events = simulate_photo(photo_HWC, simulator, _seed_of(file, seed))
        except UserError as error:
            raise UserError(f"{file}: {error}") from error
        _WRITERS[format](target, events)

    # eventcv simulates without the interpreter's lock: threads are as fast as processes.
    each_in_threads(simulate, missing, "simulating recordings", jobs)
    return len(missing)


def _photo_of(
    photos: str | os.PathLike[str], out: Path, exclude: Sequence[str], format: Format
) -> dict[Path, Path]:
    """The photo of each recording."""
    photo_of: dict[Path, Path] = {}
    for name, files in list_photo_folder(photos, exclude).items():
        for file in files:
            target = out / name / f"{file.stem}.{format}"
            if target in photo_of:
                raise UserError(
                    f"{file}: {photo_of[target].name} beside it would make the same recording; "
                    "rename one of them"
                )
            photo_of[target] = file
    return photo_of


def _seed_of(file: Path, seed: int) -> int:
    words = f"{seed}/{file.parent.name}/{file.stem}".encode()
    return int(np.random.SeedSequence(list(words)).generate_state(1)[0])


def _refuse_other_formats(out: Path, format: Format) -> None:
    for other in get_args(Format):
        if other != format and any(out.glob(f"*/*.{other}")):
            raise UserError(
                f"{out}: holds .{other} recordings; choose another --out or --format {other}"
            )


def _note_settings(out: Path, settings: dict[str, Any]) -> None:
    note = out / NOTE
    if note.exists():
        held = None
        with suppress(ValueError):
            held = json.loads(note.read_text(encoding="utf-8"))
        # What an earlier version did not note has its default.
        held = {**Simulator().settings(), **held} if isinstance(held, dict) else held
        if held != json.loads(json_text(settings)):
            raise UserError(
                f"{out}: holds recordings of other settings ({note.name}); choose another --out"
            )
    else:
        write_json(note, settings)


def _write_npz(path: Path, events: Events) -> None:
    with atomic_path(path) as temporary, open(temporary, "wb") as stream:
        np.savez_compressed(
            stream,
            x=events.x_N.astype(np.uint16),
            y=events.y_N.astype(np.uint16),
            t=events.t_N,
            p=events.polarity_N.astype(np.uint8),
        )


_WRITERS: dict[Format, Callable[[Path, Events], None]] = {"bin": write_bin, "npz": _write_npz}
