"""The search for a camera whose simulations are like recordings, setting by setting."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from functools import cache
from itertools import groupby
from typing import Any, Literal, get_args

import numpy as np
import torch
from scipy.ndimage import gaussian_filter
from torch import Tensor
from torch.nn import functional as F

from spikebridge.base.errors import UserError
from spikebridge.data.events import Events
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import fit_photo
from spikebridge.data.simulation.camera import HIGHEST_SACCADE, Motion, Simulator, Speed
from spikebridge.data.simulation.converter import Converter
from spikebridge.data.simulation.event_statistics import (
    EventStatistics,
    event_statistics,
    largest_sensor,
)
from spikebridge.data.simulation.likeness import likeness, likeness_by_shift, turns
from spikebridge.data.simulation.simulate import picture_size, recorded_size, simulate_photo

_LONGEST = 48  # cells; finer ones cost time and find nothing more
_STEPS = 9  # three per saccade
_BLUR = 0.02  # of the mean recordings, which are few; a share of their height
_REACH = 0.15  # of the sensor, that its middle may lie beside the path's
_THRESHOLDS = (0.05, 5.0)
_NOISE_HZ = (0.003, 30.0)
_CUTOFF_HZ = (1.0, 300.0)  # a faster pixel shows nowhere
_LOUD_HZ = 30.0
_QUIET = 0.01  # events per recording and pixel that a camera twice as sensitive has
_QUIET_CELLS = 0.01  # share of all that tell the noise
_AT_REST = 0.001  # events per time bin and pixel that such a camera has
_CLEARLY_BETTER = 0.02
_STANDARD_ERRORS = 2  # also what the best of eight fitted settings gains by chance (χ², 95 %)
_GROUPS = 20
_KIND = ("motion", "speed", "negative")
_COORDINATES = ("offset_x", "offset_y", "amplitude", "saccade_height", "cutoff_hz")


class Search:
    """Coordinate by coordinate, each judged by what it shows in.

    Args:
        recordings: At least one; where ``paired``, each of the photo at its place.
        photos: Each photo_HWC with the seed of its simulation.
        shown: How many of them eventcv is to record, too.
        start: The camera to start from; sensor and duration become the recordings'.
        margin: Of the photos.
        paired: Whether each recording is compared with its own photo's simulation, or the mean
            with the mean.
        steps: Time bins that are compared.
        seen: The first of them that are looked at at all.
        longest: Cells along the sensor's longer side, at most.
        motions: Those that the recordings may have.
        apex: Whether the saccades' apex is to be found, too.
    """

    def __init__(
        self,
        recordings: Sequence[Events],
        photos: Sequence[tuple[np.ndarray, int]],
        shown: int,
        start: Simulator,
        *,
        margin: float,
        paired: bool,
        steps: int = _STEPS,
        seen: int | None = None,
        longest: int = _LONGEST,
        motions: Sequence[Motion] = get_args(Motion),
        apex: bool = False,
    ) -> None:
        self.paired, self.photos, self.shown = paired, photos, photos[:shown]
        self.steps, self.seen, self.motions = steps, seen or steps, motions
        self.coordinates = (*_COORDINATES, *(("saccade_apex",) if apex else ()))
        width, height = largest_sensor(recordings)
        self.recorded = event_statistics(recordings[: len(self.shown)] if paired else recordings)
        share = min(1, longest / max(width, height))
        self.cells = max(1, round(height * share)), max(1, round(width * share))
        self.counts_BTCHW = torch.stack(
            [self._framed(replace(e, sensor=(width, height))) for e in recordings]
        )
        self.pattern_BTCHW = self._pattern(self.counts_BTCHW)
        self.start = replace(start, width=width, height=height)
        span = self.start.frames / (self.start.frames - 1)  # the first frame is at 0
        self.camera = replace(
            self.start, margin=margin, duration_ms=round(self.recorded.duration_ms * span, 1)
        )
        self._score = cache(self._scored)
        self._pictures = cache(self._fitted)

    def pairs_hold(self) -> bool:
        """Whether recordings are more like their own photos' simulations than like others'."""
        if not self.paired:
            return True
        simulated_BTCHW = self.simulate(clean(self.camera))
        own, others = (
            likeness(self.pattern_BTCHW, x) for x in (simulated_BTCHW, simulated_BTCHW.roll(1, 0))
        )
        return own > others + _CLEARLY_BETTER

    def choose_kind(self, factors: Sequence[float]) -> None:
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
            for motion in self.motions
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
        counts_BTCHW = self.simulate(clean(camera))
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
        return camera, max(best, still) - _turns_apart(self.counts_BTCHW, counts_BTCHW)

    def refine(self, step: float) -> None:
        """Fit what the numbers of events tell, then what their places do."""
        self.fit_noise()
        self.fit_thresholds(2)
        self.walk(step)

    def walk(self, step: float) -> None:
        """Go along each coordinate to the top of a parabola, where that is more like the
        recordings."""
        for coordinate in self.coordinates[: None if self.camera.motion == "saccade" else 3]:

            def moved(by: float, coordinate: str = coordinate, here: Simulator = self.camera):
                return _moved(here, coordinate, by * step)

            down, here, up = (self._score(moved(by)) for by in (-1, 0, 1))
            bend = 2 * here - down - up
            top = within((up - down) / (2 * bend), (-2, 2)) if bend > 0 else 2 * np.sign(up - down)
            self.camera = max(map(moved, (0, -1, 1, top)), key=self._score)

    def fit_thresholds(self, rounds: int) -> None:
        """Give the simulations as many events of each polarity as the recordings have."""
        wanted_B2 = self.counts_BTCHW.sum((1, 3, 4))
        for _ in range(rounds):
            seen_B2 = self.simulate(self.camera).sum((1, 3, 4))
            if self.paired:
                ratio_2 = ((seen_B2 + 1) / (wanted_B2 + 1)).median(0).values
            else:
                ratio_2 = (seen_B2.median(0).values + 1) / (wanted_B2.median(0).values + 1)
            self._scale_thresholds(ratio_2)

    def _scale_thresholds(self, ratio_2: Tensor) -> None:
        """Make OFF and ON events fewer by these ratios, nearly."""
        off, on = (ratio_2**0.8).tolist()
        self.camera = _desensitised(self.camera, on, off)

    def fit_noise(self) -> None:
        """Where nothing else happens, shot noise is of both polarities, the background ON.

        Recordings that are never quiet do not tell: the noise stays.
        """
        quiet = clean(self.camera)
        sensitive = _desensitised(quiet, 0.5, 0.5)
        loud = replace(quiet, shot_noise_hz=_LOUD_HZ)
        seen, noise, wanted = (
            self._places(x_BTCHW)
            for x_BTCHW in (
                self.simulate(sensitive),
                self.simulate(loud) - self.simulate(quiet),
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
            shot_noise_hz=within(_LOUD_HZ * shot, _NOISE_HZ),
            background_hz=within(background, (0.0, _NOISE_HZ[1])),
        )

    def fit_noise_at_rest(self) -> None:
        """As `fit_noise`, of the time bins in which nothing moves; of a single pair.

        Recordings that never rest do not tell: the noise stays.
        """
        quiet = clean(self.camera)
        sensitive = _desensitised(quiet, 0.5, 0.5)
        loud = replace(quiet, shot_noise_hz=_LOUD_HZ)
        seen_T2, base_T2, noise_T2, wanted_T2 = (
            x_BTCHW.sum((0, 3, 4))
            for x_BTCHW in (
                self.simulate(sensitive),
                self.simulate(quiet),
                self.simulate(loud),
                self.counts_BTCHW,
            )
        )
        photo_HWC, _ = self.photos[0]
        height, width = recorded_size(photo_HWC.shape[0], photo_HWC.shape[1], self.camera)
        rests_T = seen_T2.sum(1) <= _AT_REST * height * width
        if not rests_T.any():
            return
        # The median: at its ends a rest that begins later has some events of the motion.
        off, on = (wanted_T2 - base_T2)[rests_T].median(0).values.tolist()
        louder = float((noise_T2 - base_T2)[rests_T, 0].mean())
        bin_s = self.camera.duration_ms / 1000 / self.steps
        self.camera = replace(
            self.camera,
            shot_noise_hz=within(_LOUD_HZ * off / max(louder, 1e-9), _NOISE_HZ),
            background_hz=within((on - off) / height / width / bin_s, (0.0, _NOISE_HZ[1])),
        )

    def _places(self, counts_BTCHW: Tensor) -> Tensor:
        """Counts of each pair, or in the mean, over time."""
        counts_BCHW = counts_BTCHW.sum(1)
        return counts_BCHW if self.paired else counts_BCHW.mean(0, keepdim=True)

    def correct_thresholds(self) -> None:
        """Give eventcv's recordings the numbers of events that the converter's have."""
        made = sum(
            np.bincount(e.polarity_N[self._is_seen(e)], minlength=2)
            for e in self._events(self.camera)
        )
        wanted_2 = self.simulate(self.camera)[: len(self.shown)].sum((0, 1, 3, 4))
        self._scale_thresholds((torch.from_numpy(made) + 1) / (wanted_2 + 1))

    def keep_path(self) -> None:
        """Go back to the start's path and bandwidth, unless the recordings are more like what was
        found by more than chance: recordings of other scenes than the photos'."""
        found = self.camera
        kept = {name: getattr(self.start, name) for name in (*_KIND, *_COORDINATES)}
        self.camera = replace(found, **kept)
        self.fit_thresholds(2)
        if self._clearly_better(found, self.camera):
            self.camera = found

    def keep_thresholds(self) -> bool:
        """Go back to the start's thresholds where number and ON share of the events that they give
        are the recordings' but for chance.

        Returns:
            Whether they are.
        """
        kept = replace(
            self.camera,
            pos_threshold=self.start.pos_threshold,
            neg_threshold=self.start.neg_threshold,
        )
        recorded_B2, simulated_M2 = (
            (x_BTCHW.sum((1, 3, 4)) + 1).log()
            for x_BTCHW in (self.counts_BTCHW, self._shown_by_eventcv(kept))
        )
        alike = all(
            _same_median(told(recorded_B2), told(simulated_M2))
            for told in (lambda x_N2: x_N2.logsumexp(1), lambda x_N2: x_N2[:, 1] - x_N2[:, 0])
        )
        if alike:
            self.camera = kept
        return alike

    def _clearly_better(self, camera: Simulator, other: Simulator) -> bool:
        """Whether a camera is more like the recordings than another by more than chance, which a
        jackknife over recordings and over photos tells; by eventcv, for a small gain may also come
        of how the converter differs from it."""
        ours, others = (self._shown_by_eventcv(clean(one)) for one in (camera, other))

        def gain(row_B: Tensor, row_M: Tensor) -> float:
            recorded = self.counts_BTCHW[row_B]
            better, worse = (self._alike(recorded, x[row_M], camera.motion) for x in (ours, others))
            return better - worse

        row_B, row_M = torch.arange(len(self.counts_BTCHW)), torch.arange(len(ours))
        variance = _jackknifed(lambda some: gain(some, row_M), row_B)
        variance += _jackknifed(lambda some: gain(row_B, some), row_M)
        return gain(row_B, row_M) > _STANDARD_ERRORS * variance**0.5

    def _is_seen(self, events: Events) -> np.ndarray:
        """Which events lie in the time bins that are looked at."""
        since_N = events.t_N - events.t_N[0]
        return since_N * self.steps < self.seen * (since_N[-1] + 1)

    def _scored(self, camera: Simulator) -> float:
        """How much a camera deserves to be taken."""
        simulated_BTCHW = self.simulate(clean(camera))
        return self._alike(self.counts_BTCHW, simulated_BTCHW, camera.motion)

    def _alike(self, recorded_BTCHW: Tensor, simulated_BTCHW: Tensor, motion: Motion) -> float:
        """How like recordings a camera's simulations are.

        Where each recording draws its motion, what two have in common is where events lie in all,
        and how the motion turns.
        """
        recorded, simulated = (self._pattern(x) for x in (recorded_BTCHW, simulated_BTCHW))
        if motion == "saccade":
            return likeness(recorded, simulated)
        places, seen = (x.sum(1, keepdim=True) for x in (recorded, simulated))
        return likeness(places, seen) - _turns_apart(recorded_BTCHW, simulated_BTCHW)

    def likeness(self, camera: Simulator) -> float:
        """Likeness of what a camera sees, without noise, to the recordings."""
        return likeness(self.pattern_BTCHW, self._pattern(self.simulate(clean(camera))))

    def simulate(self, camera: Simulator) -> Tensor:
        """Event counts of the photos, counts_BTCHW."""
        made = Converter(replace(camera, margin=0.0), self.cells, self.steps)
        return torch.cat(
            [
                made(photo_B3HW, made.takes([camera] * len(seeds), seeds))
                for photo_B3HW, seeds in self._pictures(camera.margin, camera.aspect)
            ]
        )[:, : self.seen]

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
        if len(events) < self.steps:
            return torch.zeros(self.seen, 2, *self.cells)
        return torch.from_numpy(frame_events(events, self.steps, self.cells)).float()[: self.seen]

    def _pattern(self, counts_BTCHW: Tensor) -> Tensor:
        """What is compared: each pair, or the mean, blurred as it is of few."""
        if self.paired:
            return counts_BTCHW
        mean_TCHW, blur = counts_BTCHW.mean(0).numpy(), _BLUR * self.cells[0]
        return torch.from_numpy(gaussian_filter(mean_TCHW, (0, 0, blur, blur)))[None]

    def by_eventcv(self, camera: Simulator) -> EventStatistics:
        """Statistics of what eventcv records of the photos that are shown to it.

        Raises:
            UserError: the photos show the camera nothing.
        """
        return event_statistics(self._events(camera))

    def _events(self, camera: Simulator) -> list[Events]:
        made = [events for events in self._each(camera) if events is not None]
        if not made:
            raise UserError(
                "calibration: the training photos show the simulated camera nothing; lower "
                "data.source.simulator.pos_threshold and neg_threshold"
            )
        return made

    def _shown_by_eventcv(self, camera: Simulator) -> Tensor:
        """Event counts_MTCHW of what eventcv records of the photos that are shown to it."""
        size = camera.width, camera.height
        nothing_TCHW = torch.zeros_like(self.counts_BTCHW[0])
        return torch.stack(
            [
                nothing_TCHW if events is None else self._framed(replace(events, sensor=size))
                for events in self._each(camera)
            ]
        )

    def _each(self, camera: Simulator) -> list[Events | None]:
        """What eventcv records of each photo shown to it; None of one that shows it nothing."""

        def one(photo: tuple[np.ndarray, int]) -> Events | None:
            with suppress(UserError):  # it saw nothing; others may
                return simulate_photo(photo[0], camera, photo[1])

        with ThreadPoolExecutor() as pool:
            return list(pool.map(one, self.shown))


def clean(camera: Simulator) -> Simulator:
    """Without noise."""
    return replace(camera, shot_noise_hz=0.0, background_hz=0.0, hot_pixels=0)


def within(value: float, limits: tuple[float, float]) -> float:
    """The value, or the limit that it is beyond."""
    return float(np.clip(value, *limits))


def _turns_apart(first_BTCHW: Tensor, second_BTCHW: Tensor) -> float:
    return float((turns(second_BTCHW) - turns(first_BTCHW)).square().mean().sqrt())


def _jackknifed(statistic: Callable[[Tensor], float], rows_N: Tensor) -> float:
    """Variance of a statistic of rows that were drawn by chance; infinite of a single one."""
    groups = min(_GROUPS, len(rows_N))
    if groups < 2:
        return math.inf
    found = [statistic(rows_N[rows_N % groups != group]) for group in range(groups)]
    return (groups - 1) * float(np.var(found))


def _same_median(x_N: Tensor, y_M: Tensor) -> bool:
    """Whether two samples' medians differ by no more than chance, as of normal ones."""
    count, other = len(x_N), len(y_M)
    squares = sum(float((some - some.mean()).square().sum()) for some in (x_N, y_M))
    variance = math.pi / 2 * squares / max(1, count + other - 2) * (1 / count + 1 / other)
    return abs(float(x_N.median() - y_M.median())) <= _STANDARD_ERRORS * variance**0.5


def _moved(camera: Simulator, coordinate: str, step: float) -> Simulator:
    """A camera some steps along a coordinate."""
    value = getattr(camera, coordinate)
    match coordinate:
        case "offset_x":
            return replace(camera, offset_x=value + step * 0.02 * camera.width)
        case "offset_y":
            return replace(camera, offset_y=value + step * 0.02 * camera.height)
        case "saccade_height":
            height = within(value + step * 0.2, (0.0, HIGHEST_SACCADE))
            return replace(camera, saccade_height=height)
        case "saccade_apex":
            return replace(camera, saccade_apex=within(value + step * 0.2, (0.0, 1.0)))
        case "cutoff_hz":
            return replace(camera, cutoff_hz=within(value * 2**step, _CUTOFF_HZ))
    factor = 1.5**step  # of amplitude, and of thresholds, so that as many events are left
    return replace(_desensitised(camera, factor, factor), amplitude=value * factor)


def _desensitised(camera: Simulator, on: float, off: float) -> Simulator:
    """With thresholds times these factors."""
    return replace(
        camera,
        pos_threshold=within(camera.pos_threshold * on, _THRESHOLDS),
        neg_threshold=within(camera.neg_threshold * off, _THRESHOLDS),
    )


def rounded(camera: Simulator) -> Simulator:
    """With four digits, as a recipe states it."""

    def short(value: Any) -> Any:
        if isinstance(value, tuple):
            return tuple(map(short, value))
        return float(f"{value:.4g}") if isinstance(value, float) else value

    return replace(camera, **{name: short(value) for name, value in asdict(camera).items()})
