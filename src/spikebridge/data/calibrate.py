"""A simulated camera that sees the training photos as the real one recorded: without labels.

Training recordings whose own photo trains too are compared each with what the camera makes of that
photo; where there are none, or they are not alike, the mean of the recordings with the mean of many
photos' simulations. Means of other scenes differ by chance: there the start's path and thresholds
stay, where what was found instead is no better than chance makes it.
Of recordings only the training split is read.
"""

import json
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from spikebridge.base.console import working
from spikebridge.base.files import settings_key, write_json
from spikebridge.base.locks import locked
from spikebridge.data.collection import cache_folder
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import read_listed_photo, read_recording
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.event_statistics import EventStatistics, largest_sensor
from spikebridge.data.simulation.search import Search, rounded, within

_VERSION = 4
_RECORDINGS = 200
_FEWEST_PAIRS = 4
_PHOTO_PIXELS = 300_000  # of all photos' sensors; bounds the time on large sensors
_PAIRS = (16, 64)
_PHOTOS = (100, 400)
_EVENTCV_PIXELS = 100_000
_EVENTCV_PHOTOS = (16, 64)
_AMPLITUDES = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class Calibration:
    """A camera that was found, and how well it fits."""

    simulator: Simulator
    recorded: EventStatistics
    before: EventStatistics
    """Of the camera that calibration started from."""
    simulated: EventStatistics
    likeness_before: float
    likeness: float
    """Correlation of recordings with their photos' simulations, or of the mean of one with that of
    the other, over time and pixels; mean over both polarities."""


def calibrate(
    config: DataConfig, manifest: Manifest, sensor: tuple[int, int] | None
) -> Calibration:
    """Find the camera that sees the training photos as the training recordings are.

    Sensor and duration are the recordings', the margin is ``config.photo_margin``; the rest starts
    from ``config.source_simulator``. Motion, photo or negative, speed, amplitude, height, place and
    bandwidth are those whose simulations are most like the recordings; thresholds give the numbers
    of ON and OFF events; shot noise and background the numbers where nothing else happens. What was
    found is kept by content: a second call reads nothing.

    Args:
        config: Framing, cache and starting camera.
        manifest: The split; of many recordings or photos, some that their hashes choose are read.
        sensor: Width and height; None where each recording tells its own.

    Raises:
        UserError: a file cannot be read, or the photos show the camera nothing.
    """
    recordings = _sample(manifest.used("recording", "train"))
    photos = _sample(manifest.used("photo", "train"))
    pairs = _pairs(manifest, recordings, photos)
    key = settings_key(
        _VERSION,
        DATASETS[config.name].transposed,
        [config.photo_margin, sensor and list(sensor)],
        config.source_simulator.settings(),
        *([e.sha256 for e in some] for some in (recordings, photos)),
        [[e.sha256 for e in pair] for pair in pairs],
    )
    path = cache_folder(config) / f"calibration-{key}.json"
    if found := _read(path):
        return found
    with (
        working("calibrating the simulated camera"),
        locked(path.parent, f"{path.stem}.lock"),
    ):
        if found := _read(path):  # Another process made it meanwhile.
            return found
        search = _search(config, recordings, photos, pairs, sensor)
        found = _found_by(search)
        if not search.pairs_hold():  # Files of one name that have nothing to do with each other.
            found = _found_by(_search(config, recordings, photos, (), sensor))
        write_json(path, asdict(found))
    return found


def _read(path: Path) -> Calibration | None:
    """What was kept; None where there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    return None


def _sample(entries: Sequence[Entry]) -> list[Entry]:
    """Entries by their hashes: whatever their order, and blind to their classes."""
    return sorted(entries, key=lambda entry: entry.sha256)


def _pairs(
    manifest: Manifest, recordings: Sequence[Entry], photos: Sequence[Entry]
) -> list[tuple[Entry, Entry]]:
    """Recordings whose own photo is among these, and the photo."""
    photo_of = {manifest.scene(e): e for e in photos}
    photo_of.pop("", None)
    scenes = ((e, manifest.scene(e)) for e in recordings)
    return [(e, photo_of[scene]) for e, scene in scenes if scene in photo_of]


def _search(
    config: DataConfig,
    recordings: Sequence[Entry],
    photos: Sequence[Entry],
    pairs: Sequence[tuple[Entry, Entry]],
    sensor: tuple[int, int] | None,
) -> Search:
    """What compares pairs where there are enough, else means; of large sensors, fewer."""
    paired = len(pairs) >= _FEWEST_PAIRS
    if paired:
        recordings, photos = zip(*pairs[: _PAIRS[1]], strict=True)
    read = [read_recording(e.file, config, sensor) for e in recordings[:_RECORDINGS]]
    width, height = largest_sensor(read)
    pixels, limits = width * height, _PAIRS if paired else _PHOTOS
    photos = photos[: int(within(_PHOTO_PIXELS // pixels, limits))]
    return Search(
        read[: len(photos)] if paired else read,
        [(read_listed_photo(e), int(e.sha256[:8], 16)) for e in photos],
        int(within(_EVENTCV_PIXELS // pixels, _EVENTCV_PHOTOS)),
        config.source_simulator,
        margin=config.photo_margin,
        paired=paired,
    )


def _found_by(search: Search) -> Calibration:
    """Search, from what shows most to what shows least."""
    before, likeness_before = search.by_eventcv(search.start), search.likeness(search.start)
    search.fit_thresholds(2)
    search.choose_kind(_AMPLITUDES)
    search.refine(1.0)
    search.choose_kind((1.0,))  # speeds differ little before the rest fits
    for step in (1.0, 0.5, 0.25, 0.12):
        search.refine(step)
    if not search.paired:
        search.keep_path()
    search.fit_noise()
    search.fit_thresholds(3)
    if search.paired or not search.keep_thresholds():
        search.correct_thresholds()
    camera = rounded(search.camera)
    return Calibration(
        camera,
        search.recorded,
        before,
        search.by_eventcv(camera),
        likeness_before,
        search.likeness(camera),
    )


def _from_json(values: dict[str, Any]) -> Calibration:
    def known(value: dict[str, Any]) -> EventStatistics:
        return EventStatistics(**{**value, "rate": tuple(value["rate"])})

    return Calibration(
        simulator=Simulator().changed(values["simulator"]),
        recorded=known(values["recorded"]),
        before=known(values["before"]),
        simulated=known(values["simulated"]),
        likeness_before=values["likeness_before"],
        likeness=values["likeness"],
    )
