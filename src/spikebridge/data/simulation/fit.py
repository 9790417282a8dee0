"""A simulated camera fitted to one recording and its photo, and judged on the rest of it.

The recording is of three saccades (N-Caltech101, N-MNIST). Path, place, thresholds, bandwidth and
noise come from the first two. When the picture moved is read from how many events there are at each
time, in the third, too: the first two do not tell when that began.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d, generic_filter
from scipy.optimize import minimize
from torch import Tensor

from spikebridge.base.console import working
from spikebridge.base.errors import UserError
from spikebridge.data.events import Events
from spikebridge.data.frames import frame_events, network_input
from spikebridge.data.simulation.camera import SaccadeTimes, Simulator
from spikebridge.data.simulation.likeness import likeness
from spikebridge.data.simulation.search import Search, rounded
from spikebridge.data.simulation.simulate import (
    hot_places,
    picture_size,
    recorded_size,
    simulate_photo,
)

_FEWEST_EVENTS = 1000
_LEAST_LIKE = 0.5  # a photo of another face reaches 0.36
_SEED = 1
_ASKEW = 0.1  # of the picture, that more may be missing on one side than on the other
_BEYOND = 2
_STEPS = 60  # 5 ms each in N-Caltech101
_LONGEST = 120
_SPREAD = 0.1807  # standard deviation of a raised cosine, as a share of its length
_HOT_TIMES = 4.0  # so many times its neighbours' median
_HOT_EVENTS = 20
_HOT_TENTHS = 8  # of the time, with an event


@dataclass(frozen=True)
class Beside:
    """A recording and its simulation, during some saccades."""

    recorded_events: int
    simulated_events: int
    recorded_on: float
    """ON events among all."""
    simulated_on: float
    recorded_extent: tuple[int, int]
    """Width and height of what the events cover."""
    simulated_extent: tuple[int, int]
    recorded_rate: tuple[float, ...]
    """Share of the events in each tenth of the time."""
    simulated_rate: tuple[float, ...]
    likeness: float
    """Correlation of the frames, one per saccade, cells of 2×2 pixels, as a network gets them."""

    @property
    def rates_apart(self) -> float:
        """Share of the events that come in another tenth of the time."""
        pairs = zip(self.recorded_rate, self.simulated_rate, strict=True)
        return sum(abs(a - b) for a, b in pairs) / 2


@dataclass(frozen=True)
class CameraFit:
    """A camera that was found, and how well it fits."""

    simulator: Simulator
    fitted: Beside
    """The first two saccades."""
    judged: Beside
    """The third one."""


def fit_camera(events: Events, photo_HWC: np.ndarray) -> CameraFit:
    """Find the camera whose recording of a photo is like one that a real camera made.

    Args:
        events: A recording of three saccades, down to the right, up to the right and back to the
            left.
        photo_HWC: RGB, uint8: what was recorded.

    Raises:
        UserError: too few events, not three saccades, or the photo is not what was recorded.
    """
    if len(events) < _FEWEST_EVENTS:
        raise UserError(
            f"{len(events):,} events are too few to fit a camera to; give a recording of at least "
            f"{_FEWEST_EVENTS:,}"
        )
    rate_N, borders = _rate_and_borders(events)
    start = Simulator(
        width=events.sensor[0],
        height=events.sensor[1],
        saccade_height=1.0,
        saccade_times=_times(rate_N, borders),
        speed="smooth",
    )
    shown = _during(events, (0.0, borders[2]))
    start = replace(start, crop=_crop(shown, photo_HWC, start))
    hot_HW, hot_hz = _hot(shown)
    cool = events.chosen(~hot_HW[events.y_N, events.x_N])
    with working("fitting the simulated camera"):
        search = _search(cool, photo_HWC, start, longest=_LONGEST, seen=round(borders[2] * _STEPS))
        clock = _search(cool, photo_HWC, start, longest=1)
        search.fit_thresholds(2)
        search.choose_kind((0.5, 1.0, 2.0))
        for step in (1.0, 0.5, 0.25, 0.25, 0.12, 0.12):
            search.fit_noise_at_rest()
            search.fit_thresholds(2)
            search.walk(step)
            search.camera = _timed(clock, search.camera, borders)
        search.fit_noise_at_rest()
        search.fit_thresholds(3)
        search.correct_thresholds()
        size = recorded_size(photo_HWC.shape[0], photo_HWC.shape[1], search.camera)
        hot_pixels = _hot_pixels(int(hot_HW.sum()), size, search.camera)
        camera = rounded(replace(search.camera, hot_pixels=hot_pixels, hot_hz=hot_hz))
        made = simulate_photo(photo_HWC, camera, _SEED)
    fitted = _beside(events, made, borders[:3])
    if fitted.likeness < _LEAST_LIKE:
        raise UserError(
            f"looks little like the photo (correlation {fitted.likeness:.2f} at best); give the "
            "photo that was recorded, and a recording of three saccades"
        )
    return CameraFit(camera, fitted, _beside(events, made, borders[2:]))


def _search(
    events: Events,
    photo_HWC: np.ndarray,
    start: Simulator,
    *,
    longest: int,
    seen: int | None = None,
) -> Search:
    return Search(
        [events],
        [(photo_HWC, _SEED)],
        1,
        start,
        margin=0.0,
        paired=True,
        steps=_STEPS,
        seen=seen,
        longest=longest,
        motions=("saccade",),
        apex=True,
    )


def _hot(events: Events) -> tuple[np.ndarray, float]:
    """Which pixels hot_HW fire all the time and far more than those around them, and how much more,
    in Hz."""
    width, height = events.sensor
    count_THW = frame_events(events, 10, (height, width)).sum(1)
    count_HW = count_THW.sum(0)
    ring_33 = np.ones((3, 3), bool)
    ring_33[1, 1] = False
    around_HW = generic_filter(count_HW.astype(float), np.median, footprint=ring_33, mode="nearest")
    always_HW = (count_THW > 0).sum(0) >= _HOT_TENTHS
    hot_HW = always_HW & (count_HW >= np.maximum(_HOT_EVENTS, _HOT_TIMES * around_HW))
    if not hot_HW.any():
        return hot_HW, 0.0
    duration_s = (events.t_N[-1] - events.t_N[0]) / 1e6
    return hot_HW, float((count_HW - around_HW)[hot_HW].mean() / duration_s)


def _hot_pixels(count: int, size: tuple[int, int], camera: Simulator) -> int:
    """Number of hot pixels of the sensor, of which so many lie within a recording of a size."""
    if not count:
        return 0
    everywhere = replace(camera, hot_pixels=camera.width * camera.height)
    inside_N = (hot_places(everywhere) < size).all(1).cumsum()
    return int(np.searchsorted(inside_N, count)) + 1


def _crop(events: Events, photo_HWC: np.ndarray, camera: Simulator) -> int:
    """Pixels that are not recorded at each side of the photo's picture."""
    height, width = picture_size(photo_HWC.shape[0], photo_HWC.shape[1], camera)
    across, down = width - int(events.x_N.max()) - 1, height - int(events.y_N.max()) - 1
    if min(across, down) < -_BEYOND or abs(across - down) > max(4, max(height, width) * _ASKEW):
        raise UserError(
            f"its events cover {width - across}×{height - down} pixels, and the photo's picture "
            f"would have {width}×{height}; give the photo that was recorded, and the sensor's size"
        )
    return max(0, round((across + down) / 4))


def _rate_and_borders(events: Events) -> tuple[np.ndarray, tuple[float, float, float, float]]:
    """Events in each 600th of the time, and where it is quietest between saccades."""
    bins = 10 * _STEPS
    since_N = events.t_N - events.t_N[0]
    rate_N = np.bincount(since_N * bins // (since_N[-1] + 1), minlength=bins).astype(float)
    smooth_N = gaussian_filter1d(rate_N, bins / 60, mode="nearest")
    third, reach = bins // 3, bins // 10
    borders = [
        (at - reach + int(smooth_N[at - reach : at + reach].argmin())) / bins
        for at in (third, 2 * third)
    ]
    return rate_N, (0.0, borders[0], borders[1], 1.0)


def _times(rate_N: np.ndarray, borders: tuple[float, ...]) -> SaccadeTimes:
    """When each saccade begins and ends: as far as events come that a smooth one would give."""
    at_N = (np.arange(len(rate_N)) + 0.5) / len(rate_N)
    floor = np.quantile(gaussian_filter1d(rate_N, len(rate_N) / 60, mode="nearest"), 0.05)
    found: list[float] = []
    for begin, end in pairwise(borders):
        inside_N = (at_N > begin) & (at_N < end)
        weight_N = np.where(inside_N, (rate_N - floor).clip(0), 0)
        if not weight_N.any():
            raise UserError(
                f"nothing moves between {begin:.0%} and {end:.0%} of the recording; give one of "
                "three saccades"
            )
        weight_N /= weight_N.sum()
        middle = float((weight_N * at_N).sum())
        half = float(np.sqrt((weight_N * (at_N - middle) ** 2).sum())) / _SPREAD / 2
        found += [max(begin, middle - half), min(end, middle + half)]
    first, second, third = zip(found[::2], found[1::2], strict=True)
    return (*first, *second, *third)


def _timed(clock: Search, camera: Simulator, borders: tuple[float, ...]) -> Simulator:
    """A camera whose saccades begin and end so that the events come when the recorded ones do."""
    for saccade, (begin, end) in enumerate(pairwise(borders)):
        camera = _one_timed(clock, camera, saccade, begin, end)
    return camera


def _one_timed(
    clock: Search, camera: Simulator, saccade: int, begin: float, end: float
) -> Simulator:
    at, times = 2 * saccade, camera.saccade_times
    assert times
    bins = slice(round(begin * _STEPS), round(end * _STEPS))
    wanted_T = _rate(clock.counts_BTCHW[0, bins])

    def moved(first_and_last: np.ndarray) -> Simulator:
        first, last = np.clip(np.sort(first_and_last), begin, end).tolist()
        last = max(last, first + 1e-3)
        return replace(camera, saccade_times=(*times[:at], first, last, *times[at + 2 :]))

    def apart(first_and_last: np.ndarray) -> float:
        seen_T = _rate(clock.simulate(moved(first_and_last))[0, bins])
        return float((seen_T - wanted_T).square().sum())

    here = np.array(times[at : at + 2])
    corners = here + np.array([(0, 0), (0.02, 0), (0, -0.02)])
    limits = {"initial_simplex": corners, "maxfev": 50, "xatol": 1e-3, "fatol": 1e-9}
    return moved(minimize(apart, here, method="Nelder-Mead", options=limits).x)


def _rate(counts_TCHW: Tensor) -> Tensor:
    """Share of the events in each time bin."""
    count_T = counts_TCHW.sum((1, 2, 3))
    return count_T / count_T.sum().clamp(min=1)


def _beside(recorded: Events, simulated: Events, borders: Sequence[float]) -> Beside:
    """What both have in the saccades between some shares of the time."""
    size = recorded.sensor[1] // 2, recorded.sensor[0] // 2
    alike = []
    for of in pairwise(borders):
        frames = [frame_events(_during(e, of), 1, size)[None] for e in (recorded, simulated)]
        first, second = (torch.from_numpy(network_input(x, "recording")) for x in frames)
        alike.append(likeness(first, second))
    of = borders[0], borders[-1]
    real, made = (_during(events, of) for events in (recorded, simulated))
    return Beside(
        recorded_events=len(real),
        simulated_events=len(made),
        recorded_on=float(real.polarity_N.mean()),
        simulated_on=float(made.polarity_N.mean()),
        recorded_extent=_extent(real),
        simulated_extent=_extent(made),
        recorded_rate=_tenths(recorded, of),
        simulated_rate=_tenths(simulated, of),
        likeness=float(np.mean(alike)),
    )


def _extent(events: Events) -> tuple[int, int]:
    return int(np.ptp(events.x_N)) + 1, int(np.ptp(events.y_N)) + 1


def _tenths(events: Events, of: tuple[float, float]) -> tuple[float, ...]:
    count_K = np.histogram(_share(events), 10, of)[0]
    return tuple((count_K / count_K.sum()).tolist())


def _during(events: Events, of: tuple[float, float]) -> Events:
    share_N = _share(events)
    return events.chosen((share_N >= of[0]) & (share_N <= of[1]))


def _share(events: Events) -> np.ndarray:
    """When events come, as shares of the recording's time."""
    return (events.t_N - events.t_N[0]) / max(1, events.t_N[-1] - events.t_N[0])
