"""A simulated camera that sees the training photos as the real one recorded: without labels.

What is compared: how many events recordings have, of which polarity, where and when. Of recordings
only the training split is read.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from spikebridge.base.console import working
from spikebridge.base.errors import UserError
from spikebridge.base.files import settings_key, write_json
from spikebridge.base.locks import locked
from spikebridge.data.collection import cache_folder
from spikebridge.data.datasets import DATASETS
from spikebridge.data.datasets.catalog import read_listed_photo, read_recording
from spikebridge.data.events import Events
from spikebridge.data.frames import frame_events
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Motion, Simulator, Speed
from spikebridge.data.simulation.event_statistics import (
    EventStatistics,
    event_statistics,
    largest_sensor,
)
from spikebridge.data.simulation.simulate import simulate_photo

_VERSION = 2
_RECORDINGS = 200
_PHOTOS = (16, 64)
_PHOTO_PIXELS = 100_000  # of all photos' sensors; bounds the time on large sensors
_PATTERN_STEPS = 9  # three per saccade
_PATTERN_BLUR = 0.02  # of the frame's height
_THRESHOLDS = (0.05, 5.0)
_NOISE_HZ = (0.003, 30.0)
_NO_NOISE = 0.003  # events per recording and pixel
_NEVER_QUIET = 1.0  # events per recording and pixel
_CLEARLY_BETTER = 0.02
_COORDINATES = ("offset_y", "amplitude", "saccade_height", "offset_x", "cutoff_hz")


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
    """Correlation of the mean recording with the mean simulated one, over time, polarity and
    pixels."""


def calibrate(
    config: DataConfig, manifest: Manifest, sensor: tuple[int, int] | None
) -> Calibration:
    """Find the camera that sees the training photos as the training recordings are.

    Sensor and duration are the recordings', the margin is ``config.photo_margin``; the rest starts
    from ``config.source_simulator``. Motion, photo or negative, speed, amplitude, height, place and
    bandwidth are those whose mean simulated recording is most like the mean recording; thresholds
    give the median numbers of ON and OFF events; shot noise and background the numbers where
    least happens. What was found is kept by content: a second call reads nothing.

    Args:
        config: Framing, cache and starting camera.
        manifest: The split; of many recordings or photos, some that their hashes choose are read.
        sensor: Width and height; None where each recording tells its own.

    Raises:
        UserError: a file cannot be read, or the photos show the camera nothing.
    """
    recordings = _sample(manifest.used("recording", "train"), _RECORDINGS)
    photos = manifest.used("photo", "train")
    key = settings_key(
        _VERSION,
        DATASETS[config.name].transposed,
        [list(config.size), config.extent, config.photo_margin, sensor and list(sensor)],
        config.source_simulator.settings(),
        *([e.sha256 for e in _sample(some, len(some))] for some in (recordings, photos)),
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
        found = _Search(config, recordings, photos, sensor).result()
        write_json(path, asdict(found))
    return found


def _read(path: Path) -> Calibration | None:
    """What was kept; None where there is none that can be read."""
    with suppress(OSError, ValueError, KeyError, TypeError):
        return _from_json(json.loads(path.read_text(encoding="utf-8")))
    return None


class _Search:
    """Coordinate by coordinate, each judged by what it shows in."""

    def __init__(
        self,
        config: DataConfig,
        recordings: Sequence[Entry],
        photos: Sequence[Entry],
        sensor: tuple[int, int] | None,
    ) -> None:
        self.config = config
        self._seen: dict[Simulator, tuple[EventStatistics, float]] = {}
        read = [read_recording(e.file, config, sensor) for e in recordings]
        self.recorded, self.pattern = self._look(read)
        width, height = largest_sensor(read)
        most = int(np.clip(_PHOTO_PIXELS // (width * height), *_PHOTOS))
        self.photos = [(read_listed_photo(e), int(e.sha256[:8], 16)) for e in _sample(photos, most)]
        self.start = replace(config.source_simulator, width=width, height=height)
        span = self.start.frames / (self.start.frames - 1)  # the first frame is at 0
        self.camera = replace(
            self.start,
            margin=config.photo_margin,
            duration_ms=round(self.recorded.duration_ms * span, 1),
        )

    def result(self) -> Calibration:
        """Search, from what shows most to what shows least."""
        before, likeness_before = self._seen_by(self.start)
        self._fit_thresholds(3)
        self._choose_kind()
        self._fit_noise()
        self._fit_thresholds(1)
        for step in (1.0, 0.5, 0.25):
            self._walk(step)
        for _ in range(3):
            self._fit_noise()
            self._fit_thresholds(2)
        camera = _rounded(self.camera)
        simulated, likeness = self._seen_by(camera)
        return Calibration(camera, self.recorded, before, simulated, likeness_before, likeness)

    def _choose_kind(self) -> None:
        """Take another motion, the negative or another speed where that is clearly more like the
        recordings."""
        kinds = [
            replace(self.camera, motion=motion, speed=speed, negative=negative)
            for motion in get_args(Motion)
            for speed in (get_args(Speed) if motion != "random" else ("constant",))
            for negative in (False, True)
        ]
        best = max(kinds, key=self._likeness)
        if self._likeness(best) > self._likeness(self.camera) + _CLEARLY_BETTER:
            self.camera = best

    def _walk(self, step: float) -> None:
        """Go a step up or down each coordinate, where that is more like the recordings."""
        for coordinate in _COORDINATES:
            if coordinate == "saccade_height" and self.camera.motion != "saccade":
                continue
            for sign in (1, -1):
                moved = _moved(self.camera, coordinate, sign * step)
                if self._likeness(moved) > self._likeness(self.camera):
                    self.camera = moved
                    break

    def _fit_thresholds(self, rounds: int) -> None:
        for _ in range(rounds):
            seen, _ = self._seen_by(self.camera)
            wanted = self.recorded
            on, off = seen.on / max(wanted.on, 1), seen.off / max(wanted.off, 1)
            self.camera = replace(
                self.camera,
                pos_threshold=_within(self.camera.pos_threshold * on**0.8, _THRESHOLDS),
                neg_threshold=_within(self.camera.neg_threshold * off**0.8, _THRESHOLDS),
            )

    def _fit_noise(self) -> None:
        """Where nothing else happens, shot noise is of both polarities, the background ON.

        Recordings that are never quiet do not tell: the noise stays.
        """
        seen, wanted = self._seen_by(self.camera)[0], self.recorded
        if wanted.quiet_on + wanted.quiet_off > _NEVER_QUIET:
            return
        shot = (wanted.quiet_off + _NO_NOISE) / (seen.quiet_off + _NO_NOISE)
        more = (wanted.quiet_on - wanted.quiet_off) - (seen.quiet_on - seen.quiet_off)
        background = self.camera.background_hz + 1000 * more / wanted.duration_ms
        self.camera = replace(
            self.camera,
            shot_noise_hz=_within(self.camera.shot_noise_hz * shot, _NOISE_HZ),
            background_hz=_within(background, (0.0, _NOISE_HZ[1])),
        )

    def _likeness(self, camera: Simulator) -> float:
        return self._seen_by(camera)[1]

    def _seen_by(self, camera: Simulator) -> tuple[EventStatistics, float]:
        """Statistics of what a camera sees, and the likeness of its mean recording."""
        if camera not in self._seen:
            seen, pattern = self._look(self._simulate(camera))
            self._seen[camera] = seen, _correlation(self.pattern, pattern)
        return self._seen[camera]

    def _simulate(self, camera: Simulator) -> list[Events]:
        def one(photo: tuple[np.ndarray, int]) -> Events | None:
            with suppress(UserError):  # it saw nothing; others may
                return simulate_photo(photo[0], camera, photo[1])

        with ThreadPoolExecutor() as pool:
            made = [events for events in pool.map(one, self.photos) if events is not None]
        if not made:
            raise UserError(
                "calibration: the training photos show the simulated camera nothing; lower "
                "data.source.simulator.pos_threshold and neg_threshold"
            )
        return made

    def _look(self, recordings: Sequence[Events]) -> tuple[EventStatistics, np.ndarray]:
        """Statistics, and the mean recording in few and blurred frames."""
        frames = [
            frame_events(e, _PATTERN_STEPS, self.config.size, "time", self.config.extent)
            for e in recordings
            if len(e) >= _PATTERN_STEPS
        ]
        shape = (1, _PATTERN_STEPS, 2, *self.config.size)
        mean = np.mean(frames or np.zeros(shape), axis=0)
        blur = _PATTERN_BLUR * self.config.size[0]
        return event_statistics(recordings), gaussian_filter(mean, (0, 0, blur, blur))


def _correlation(first: np.ndarray, second: np.ndarray) -> float:
    if not (first.std() and second.std()):
        return 0.0
    return float(np.corrcoef(first.reshape(-1), second.reshape(-1))[0, 1])


def _within(value: float, limits: tuple[float, float]) -> float:
    return float(np.clip(value, *limits))


def _moved(camera: Simulator, coordinate: str, step: float) -> Simulator:
    """A camera one step of at most ±1 along a coordinate."""
    value = getattr(camera, coordinate)
    match coordinate:
        case "offset_x":
            moved = value + step * 0.04 * camera.width
        case "offset_y":
            moved = value + step * 0.04 * camera.height
        case "saccade_height":
            moved = _within(value + step * 0.2, (0.0, 1.0))
        case _:
            moved = value * 1.35**step
    return replace(camera, **{coordinate: moved})


def _sample(entries: Sequence[Entry], most: int) -> list[Entry]:
    """Some entries, by their hashes: whatever their order, and blind to their classes."""
    return sorted(entries, key=lambda entry: entry.sha256)[:most]


def _rounded(camera: Simulator) -> Simulator:
    """With four digits, as a recipe states it."""
    numbers = {k: v for k, v in asdict(camera).items() if isinstance(v, float)}
    return replace(camera, **{k: float(f"{v:.4g}") for k, v in numbers.items()})


def _from_json(values: dict[str, Any]) -> Calibration:
    def known(value: dict[str, Any]) -> EventStatistics:
        return EventStatistics(**{**value, "rate": tuple(value["rate"])})

    return Calibration(
        simulator=Simulator(**values["simulator"]),
        recorded=known(values["recorded"]),
        before=known(values["before"]),
        simulated=known(values["simulated"]),
        likeness_before=values["likeness_before"],
        likeness=values["likeness"],
    )
