"""A simulated camera fitted to one recording and its photo, and judged on the rest of it.

The recording is of three saccades (N-Caltech101, N-MNIST). Path, place, thresholds, bandwidth and
noise come from the first two. When the picture moved is read from how many events there are at each
time, in the third, too: the first two do not tell when that began.
"""

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
_SEED = 1
_STEPS = 60  # 5 ms each in N-Caltech101
_LONGEST = 120
_PARTS = 10
_SPREAD = 0.1807  # standard deviation of a raised cosine, as a share of its length
_HOT_TIMES = 4.0  # so many times its neighbours' median
_HOT_EVENTS = 20
_HOT_PARTS = 8  # of ten, with an event


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
        UserError: too few events, or the photo is not what was recorded.
    """
    if len(events) < _FEWEST_EVENTS:
        raise UserError(
            f"{len(events)} events are too few to fit a camera to; give a recording of at least "
            f"{_FEWEST_EVENTS:,}"
        )
    with working("fitting the simulated camera"):
        hot_HW = _hot(events)
        cool = _chosen(events, ~hot_HW[events.y_N, events.x_N])
        start = Simulator(width=events.sensor[0], height=events.sensor[1], speed="smooth")
        start = replace(start, crop=_crop(events, photo_HWC, start))
        rate_N, borders = _rate_and_borders(cool)
        times = _times(rate_N, borders)
        start = replace(start, saccade_times=times, saccade_height=1.0)
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
        camera = rounded(_with_hot_pixels(search.camera, photo_HWC, hot_HW, events))
    made = simulate_photo(photo_HWC, camera, _SEED)
    return CameraFit(
        camera,
        _beside(events, made, (0.0, borders[2]), borders),
        _beside(events, made, (borders[2], 1.0), borders),
    )


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


def _hot(events: Events) -> np.ndarray:
    """Which pixels hot_HW fire all the time, and far more than those around them."""
    width, height = events.sensor
    since_N = events.t_N - events.t_N[0]
    part_N = since_N * _PARTS // (since_N[-1] + 1)
    count_PHW = np.zeros((_PARTS, height, width), np.int64)
    np.add.at(count_PHW, (part_N, events.y_N, events.x_N), 1)
    count_HW = count_PHW.sum(0)
    ring_33 = np.ones((3, 3), bool)
    ring_33[1, 1] = False
    around_HW = generic_filter(count_HW.astype(float), np.median, footprint=ring_33, mode="nearest")
    always_HW = (count_PHW > 0).sum(0) >= _HOT_PARTS
    return always_HW & (count_HW >= np.maximum(_HOT_EVENTS, _HOT_TIMES * around_HW))


def _chosen(events: Events, chosen_N: np.ndarray) -> Events:
    return replace(
        events,
        x_N=events.x_N[chosen_N],
        y_N=events.y_N[chosen_N],
        t_N=events.t_N[chosen_N],
        polarity_N=events.polarity_N[chosen_N],
    )


def _crop(events: Events, photo_HWC: np.ndarray, camera: Simulator) -> int:
    """Pixels that are not recorded at each side of the photo's picture."""
    height, width = picture_size(*photo_HWC.shape[:2], camera)
    less = width - int(events.x_N.max()) - 1 + height - int(events.y_N.max()) - 1
    return max(0, round(less / 4))


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
        weight_N /= weight_N.sum()
        middle = float((weight_N * at_N).sum())
        half = float(np.sqrt((weight_N * (at_N - middle) ** 2).sum())) / _SPREAD / 2
        found += [max(begin, middle - half), min(end, middle + half)]
    return tuple(found)


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


def _with_hot_pixels(
    camera: Simulator, photo_HWC: np.ndarray, hot_HW: np.ndarray, events: Events
) -> Simulator:
    """With as many hot pixels within the picture, of as many events, as the recording has."""
    count = int(hot_HW.sum())
    if not count:
        return camera
    all_hot = replace(camera, hot_pixels=camera.width * camera.height)
    size = recorded_size(*photo_HWC.shape[:2], camera)
    inside_N = (hot_places(all_hot) < size).all(1).cumsum()
    fired = int(hot_HW[events.y_N, events.x_N].sum())
    duration_s = (events.t_N[-1] - events.t_N[0]) / 1e6
    return replace(
        camera,
        hot_pixels=int(np.searchsorted(inside_N, count)) + 1,
        hot_hz=float(fired / count / duration_s),
    )


def _beside(
    recorded: Events, simulated: Events, of: tuple[float, float], borders: tuple[float, ...]
) -> Beside:
    """What both have between two shares of the time."""
    parts = [_during(events, of) for events in (recorded, simulated)]
    inner = [b for b in borders if of[0] <= b <= of[1]]
    sensor = recorded.sensor
    alike = []
    for begin, end in pairwise(inner):
        first, second = (
            torch.from_numpy(
                network_input(
                    frame_events(
                        _during(events, (begin, end)), 1, (sensor[1] // 2, sensor[0] // 2)
                    )[None],
                    "recording",
                )
            )
            for events in (recorded, simulated)
        )
        alike.append(likeness(first, second))
    extents = [(int(np.ptp(e.x_N)) + 1, int(np.ptp(e.y_N)) + 1) for e in parts]
    rates = [
        tuple((np.histogram(_share(e, all_), _PARTS, of)[0] / len(e)).tolist())
        for e, all_ in zip(parts, (recorded, simulated), strict=True)
    ]
    return Beside(
        len(parts[0]),
        len(parts[1]),
        float(parts[0].polarity_N.mean()),
        float(parts[1].polarity_N.mean()),
        extents[0],
        extents[1],
        rates[0],
        rates[1],
        float(np.mean(alike)),
    )


def _during(events: Events, of: tuple[float, float]) -> Events:
    share_N = _share(events, events)
    return _chosen(events, (share_N >= of[0]) & (share_N <= of[1]))


def _share(some: Events, of: Events) -> np.ndarray:
    """When some of a recording's events come, as shares of its time."""
    return (some.t_N - of.t_N[0]) / (of.t_N[-1] - of.t_N[0])
