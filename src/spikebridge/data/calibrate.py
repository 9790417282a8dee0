"""A simulated camera that sees the training photos as the real one recorded: without labels.

Training recordings whose own photo trains too are compared each with what the camera makes of that
photo; where there are none, or they are not alike, the mean of the recordings with the mean of many
photos' simulations.
Of recordings only the training split is read.
"""

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import groupby
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

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
from spikebridge.data.photos import fit_photo
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import Motion, Simulator, Speed
from spikebridge.data.simulation.converter import Converter
from spikebridge.data.simulation.event_statistics import (
    EventStatistics,
    event_statistics,
    largest_sensor,
)
from spikebridge.data.simulation.likeness import likeness, likeness_by_shift, turns
from spikebridge.data.simulation.simulate import picture_size, simulate_photo

_VERSION = 3
_RECORDINGS = 200
_FEWEST_PAIRS = 4
_PHOTO_PIXELS = 300_000  # of all photos' sensors; bounds the time on large sensors
_PAIRS = (16, 64)
_PHOTOS = (100, 400)
_EVENTCV_PIXELS = 100_000
_EVENTCV_PHOTOS = (16, 64)
_STEPS = 9  # three per saccade
_LONGEST = 48  # cells; finer ones cost time and find nothing more
_BLUR = 0.02  # of the mean recordings, which are few; a share of their height
_REACH = 0.15  # of the sensor, that its middle may lie beside the path's
_AMPLITUDES = (0.5, 1.0, 2.0)
_THRESHOLDS = (0.05, 5.0)
_NOISE_HZ = (0.003, 30.0)
_CUTOFF_HZ = (1.0, 300.0)  # a faster pixel shows nowhere
_LOUD_HZ = 30.0
_QUIET = 0.01  # events per recording and pixel that a camera twice as sensitive has
_QUIET_CELLS = 0.01  # share of all that tell the noise
_CLEARLY_BETTER = 0.02
_COORDINATES = ("offset_x", "offset_y", "amplitude", "saccade_height", "cutoff_hz")


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
        search = _Search(config, recordings, photos, pairs, sensor)
        found = search.result()
        if not search.pairs_hold():  # Files of one name that have nothing to do with each other.
            found = _Search(config, recordings, photos, (), sensor).result()
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


class _Search:
    """Coordinate by coordinate, each judged by what it shows in."""

    def __init__(
        self,
        config: DataConfig,
        recordings: Sequence[Entry],
        photos: Sequence[Entry],
        pairs: Sequence[tuple[Entry, Entry]],
        sensor: tuple[int, int] | None,
    ) -> None:
        self.paired = len(pairs) >= _FEWEST_PAIRS
        if self.paired:
            recordings, photos = zip(*pairs[: _PAIRS[1]], strict=True)
        read = [read_recording(e.file, config, sensor) for e in recordings[:_RECORDINGS]]
        width, height = largest_sensor(read)
        pixels, limits = width * height, _PAIRS if self.paired else _PHOTOS
        photos = photos[: int(_within(_PHOTO_PIXELS // pixels, limits))]
        if self.paired:
            read = read[: len(photos)]
        self.photos = [(read_listed_photo(e), int(e.sha256[:8], 16)) for e in photos]
        self.shown = self.photos[: int(_within(_EVENTCV_PIXELS // pixels, _EVENTCV_PHOTOS))]
        self.recorded = event_statistics(read[: len(self.shown)] if self.paired else read)
        share = min(1, _LONGEST / max(width, height))
        self.cells = max(1, round(height * share)), max(1, round(width * share))
        self.counts_BTCHW = torch.stack(
            [self._framed(replace(e, sensor=(width, height))) for e in read]
        )
        self.pattern_BTCHW = self._pattern(self.counts_BTCHW)
        self.turns_TT = turns(self.counts_BTCHW)
        self.start = replace(config.source_simulator, width=width, height=height)
        span = self.start.frames / (self.start.frames - 1)  # the first frame is at 0
        self.camera = replace(
            self.start,
            margin=config.photo_margin,
            duration_ms=round(self.recorded.duration_ms * span, 1),
        )
        self._score = cache(self._scored)
        self._pictures = cache(self._fitted)

    def result(self) -> Calibration:
        """Search, from what shows most to what shows least."""
        before, likeness_before = self._by_eventcv(self.start), self._likeness(self.start)
        self._fit_thresholds(2)
        self._choose_kind(_AMPLITUDES)
        self._refine(1.0)
        self._choose_kind((1.0,))  # speeds differ little before the rest fits
        for step in (1.0, 0.5, 0.25, 0.12):
            self._refine(step)
        self._fit_noise()
        self._fit_thresholds(3)
        self._correct_thresholds()
        camera = _rounded(self.camera)
        return Calibration(
            camera,
            self.recorded,
            before,
            self._by_eventcv(camera),
            likeness_before,
            self._likeness(camera),
        )

    def pairs_hold(self) -> bool:
        """Whether recordings are more like their own photos' simulations than like others'."""
        if not self.paired:
            return True
        simulated_BTCHW = self._simulate(_clean(self.camera))
        own, others = (
            likeness(self.pattern_BTCHW, x) for x in (simulated_BTCHW, simulated_BTCHW.roll(1, 0))
        )
        return own > others + _CLEARLY_BETTER

    def _choose_kind(self, factors: Sequence[float]) -> None:
        """Take the motion, photo or negative, speed and place that are most like the recordings,
        of all at an amplitude times some factors."""
        kinds = [
            replace(
                self.camera,
                motion=motion,
                speed=speed,
                negative=negative,
                amplitude=self.camera.amplitude * factor,
            )
            for motion in get_args(Motion)
            for speed in (get_args(Speed) if motion != "random" else ("constant",))
            for negative in (False, True)
            for factor in factors
        ]
        self.camera, _ = max(map(self._shifted, kinds), key=lambda found: found[1])

    def _shifted(self, camera: Simulator) -> tuple[Simulator, float]:
        """A camera whose path lies where it is most like the recordings, and how like it is.

        What a motion that each recording draws anew looks like in the mean differs little from one
        kind to the other: how it turns is compared too.
        """
        counts_BTCHW = self._simulate(_clean(camera))
        alike_HW = likeness_by_shift(self.pattern_BTCHW, self._pattern(counts_BTCHW))
        height, width = self.cells
        far = [int(_REACH * side) for side in self.cells]
        near_HW = alike_HW.roll(far, (0, 1))[: 2 * far[0] + 1, : 2 * far[1] + 1]
        best, still = float(near_HW.max()), float(alike_HW[0, 0])
        if best > still + _CLEARLY_BETTER:
            row, column = divmod(int(near_HW.argmax()), near_HW.shape[1])
            camera = replace(
                camera,
                offset_x=camera.offset_x + (column - far[1]) * camera.width / width,
                offset_y=camera.offset_y + (row - far[0]) * camera.height / height,
            )
        return camera, max(best, still) - self._turns_apart(counts_BTCHW)

    def _refine(self, step: float) -> None:
        """Fit what the numbers of events tell, then what their places do."""
        self._fit_noise()
        self._fit_thresholds(2)
        self._walk(step)

    def _walk(self, step: float) -> None:
        """Go along each coordinate to the top of a parabola, where that is more like the
        recordings."""
        for coordinate in _COORDINATES[: 5 if self.camera.motion == "saccade" else 3]:

            def moved(by: float, coordinate: str = coordinate, here: Simulator = self.camera):
                return _moved(here, coordinate, by * step)

            down, here, up = (self._score(moved(by)) for by in (-1, 0, 1))
            bend = 2 * here - down - up
            top = _within((up - down) / (2 * bend), (-2, 2)) if bend > 0 else 2 * np.sign(up - down)
            self.camera = max(map(moved, (0, -1, 1, top)), key=self._score)

    def _fit_thresholds(self, rounds: int) -> None:
        """Give the simulations as many events of each polarity as the recordings have."""
        wanted_B2 = self.counts_BTCHW.sum((1, 3, 4))
        for _ in range(rounds):
            seen_B2 = self._simulate(self.camera).sum((1, 3, 4))
            if self.paired:
                ratio_2 = ((seen_B2 + 1) / (wanted_B2 + 1)).median(0).values
            else:
                ratio_2 = (seen_B2.median(0).values + 1) / (wanted_B2.median(0).values + 1)
            self._scale_thresholds(ratio_2)

    def _scale_thresholds(self, ratio_2: Tensor) -> None:
        """Make OFF and ON events fewer by these ratios, nearly."""
        off, on = (ratio_2**0.8).tolist()
        self.camera = _desensitised(self.camera, on, off)

    def _fit_noise(self) -> None:
        """Where nothing else happens, shot noise is of both polarities, the background ON.

        Recordings that are never quiet do not tell: the noise stays.
        """
        clean = _clean(self.camera)
        sensitive = _desensitised(clean, 0.5, 0.5)
        loud = replace(clean, shot_noise_hz=_LOUD_HZ)
        seen, noise, wanted = (
            self._places(x_BTCHW)
            for x_BTCHW in (
                self._simulate(sensitive),
                self._simulate(loud) - self._simulate(clean),
                self.counts_BTCHW,
            )
        )
        pixels = self.camera.width * self.camera.height / self.cells[0] / self.cells[1]
        near_P1HW = F.max_pool2d(seen.sum(1, keepdim=True), 3, 1, 1)
        quiet_PHW = (near_P1HW <= _QUIET * pixels)[:, 0]
        if quiet_PHW.float().mean() < _QUIET_CELLS:
            return
        off, on = (float(wanted[:, c][quiet_PHW].mean()) for c in (0, 1))
        shot = off / max(float(noise[:, 0][quiet_PHW].mean()), 1e-9)
        background = (on - off) / pixels / self.camera.duration_ms * 1000
        self.camera = replace(
            self.camera,
            shot_noise_hz=_within(_LOUD_HZ * shot, _NOISE_HZ),
            background_hz=_within(background, (0.0, _NOISE_HZ[1])),
        )

    def _places(self, counts_BTCHW: Tensor) -> Tensor:
        """Counts of each pair, or in the mean, over time."""
        counts_BCHW = counts_BTCHW.sum(1)
        return counts_BCHW if self.paired else counts_BCHW.mean(0, keepdim=True)

    def _correct_thresholds(self) -> None:
        """Give eventcv's recordings the numbers of events that the converter's have."""
        made = sum(np.bincount(e.polarity_N, minlength=2) for e in self._events(self.camera))
        wanted_2 = self._simulate(self.camera)[: len(self.shown)].sum((0, 1, 3, 4))
        self._scale_thresholds((torch.from_numpy(made) + 1) / (wanted_2 + 1))

    def _scored(self, camera: Simulator) -> float:
        """How much a camera deserves to be taken.

        Where each recording draws its motion, what two have in common is where events lie in all,
        and how the motion turns.
        """
        if camera.motion == "saccade":
            return self._likeness(camera)
        counts_BTCHW = self._simulate(_clean(camera))
        places, recorded = (
            x.sum(1, keepdim=True) for x in (self._pattern(counts_BTCHW), self.pattern_BTCHW)
        )
        return likeness(recorded, places) - self._turns_apart(counts_BTCHW)

    def _likeness(self, camera: Simulator) -> float:
        """Likeness of what a camera sees, without noise, to the recordings."""
        return likeness(self.pattern_BTCHW, self._pattern(self._simulate(_clean(camera))))

    def _turns_apart(self, counts_BTCHW: Tensor) -> float:
        return float((turns(counts_BTCHW) - self.turns_TT).square().mean().sqrt())

    def _simulate(self, camera: Simulator) -> Tensor:
        """Event counts of the photos, counts_BTCHW."""
        made = Converter(replace(camera, margin=0.0), self.cells, _STEPS)
        return torch.cat(
            [
                made(photo_B3HW, made.takes([camera] * len(seeds), seeds))
                for photo_B3HW, seeds in self._pictures(camera.margin, camera.aspect)
            ]
        )

    def _fitted(
        self, margin: float, aspect: Literal["keep", "stretch"]
    ) -> list[tuple[Tensor, list[int]]]:
        """The photos as they stand before the sensor, and their seeds: those of a size together."""
        camera = replace(self.start, aspect=aspect)
        sizes = (
            picture_size(photo_HWC.shape[0], photo_HWC.shape[1], camera)
            for photo_HWC, _ in self.photos
        )
        fitted = [
            (fit_photo(photo_HWC, size, margin), seed)
            for (photo_HWC, seed), size in zip(self.photos, sizes, strict=True)
        ]
        found = []
        for _, same in groupby(fitted, key=lambda photo: photo[0].shape):
            pictures, seeds = zip(*same, strict=True)
            photo_B3HW = torch.from_numpy(np.stack(pictures).transpose(0, 3, 1, 2)).float() / 255
            found.append((photo_B3HW.contiguous(), list(seeds)))
        return found

    def _framed(self, events: Events) -> Tensor:
        """Event counts_TCHW of a recording in few frames."""
        if len(events) < _STEPS:
            return torch.zeros(_STEPS, 2, *self.cells)
        return torch.from_numpy(frame_events(events, _STEPS, self.cells)).float()

    def _pattern(self, counts_BTCHW: Tensor) -> Tensor:
        """What is compared: each pair, or the mean, blurred as it is of few."""
        if self.paired:
            return counts_BTCHW
        mean_TCHW, blur = counts_BTCHW.mean(0).numpy(), _BLUR * self.cells[0]
        return torch.from_numpy(gaussian_filter(mean_TCHW, (0, 0, blur, blur)))[None]

    def _by_eventcv(self, camera: Simulator) -> EventStatistics:
        return event_statistics(self._events(camera))

    def _events(self, camera: Simulator) -> list[Events]:
        def one(photo: tuple[np.ndarray, int]) -> Events | None:
            with suppress(UserError):  # it saw nothing; others may
                return simulate_photo(photo[0], camera, photo[1])

        with ThreadPoolExecutor() as pool:
            made = [events for events in pool.map(one, self.shown) if events is not None]
        if not made:
            raise UserError(
                "calibration: the training photos show the simulated camera nothing; lower "
                "data.source.simulator.pos_threshold and neg_threshold"
            )
        return made


def _clean(camera: Simulator) -> Simulator:
    """Without noise."""
    return replace(camera, shot_noise_hz=0.0, background_hz=0.0)


def _within(value: float, limits: tuple[float, float]) -> float:
    return float(np.clip(value, *limits))


def _moved(camera: Simulator, coordinate: str, step: float) -> Simulator:
    """A camera some steps along a coordinate."""
    value = getattr(camera, coordinate)
    match coordinate:
        case "offset_x":
            return replace(camera, offset_x=value + step * 0.02 * camera.width)
        case "offset_y":
            return replace(camera, offset_y=value + step * 0.02 * camera.height)
        case "saccade_height":
            return replace(camera, saccade_height=_within(value + step * 0.2, (0.0, 1.0)))
        case "cutoff_hz":
            return replace(camera, cutoff_hz=_within(value * 2**step, _CUTOFF_HZ))
    factor = 1.5**step  # of amplitude, and of thresholds, so that as many events are left
    return replace(_desensitised(camera, factor, factor), amplitude=value * factor)


def _desensitised(camera: Simulator, on: float, off: float) -> Simulator:
    """With thresholds times these factors."""
    return replace(
        camera,
        pos_threshold=_within(camera.pos_threshold * on, _THRESHOLDS),
        neg_threshold=_within(camera.neg_threshold * off, _THRESHOLDS),
    )


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
