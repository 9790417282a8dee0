"""What can be said of recordings without their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.ndimage import uniform_filter

from spikebridge.data.events import Events

_RATE_BINS = 10
_QUIET = 0.2


@dataclass(frozen=True)
class EventStatistics:
    """How many events some recordings have, of which polarity, where and when."""

    recordings: int
    """How many were looked at."""
    events: float
    """Events per recording, median."""
    on: float
    """ON events per recording, median."""
    off: float
    """OFF events per recording, median."""
    spread: float
    """Interquartile range of the events per recording, as a share of their median."""
    active: float
    """Share of pixels with an event, median."""
    duration_ms: float
    """From the first to the last event, median."""
    quiet_on: float
    """ON events per recording and pixel in the fifth of the sensor where least happens: noise."""
    quiet_off: float
    """OFF events there."""
    rate: tuple[float, ...]
    """Share of the events in each tenth of the duration, mean."""

    @property
    def on_share(self) -> float:
        """ON events among all."""
        return self.on / max(self.on + self.off, 1)


def event_statistics(recordings: Sequence[Events]) -> EventStatistics:
    """Statistics of recordings; there is at least one."""
    number = np.array([len(e) for e in recordings])
    on = np.array([int(e.polarity_N.sum()) for e in recordings])
    quarter, median, three_quarters = np.percentile(number, (25, 50, 75))
    quiet_off, quiet_on = _quiet(recordings)
    return EventStatistics(
        recordings=len(recordings),
        events=float(median),
        on=float(np.median(on)),
        off=float(np.median(number - on)),
        spread=float((three_quarters - quarter) / median),
        active=_median(recordings, _active),
        duration_ms=_median(recordings, lambda e: (e.t_N[-1] - e.t_N[0]) / 1000),
        quiet_on=quiet_on,
        quiet_off=quiet_off,
        rate=tuple(np.mean([_rate(e) for e in recordings], axis=0).tolist()),
    )


def largest_sensor(recordings: Sequence[Events]) -> tuple[int, int]:
    """Width and height that hold all recordings: files that do not tell it may differ."""
    return max(e.sensor[0] for e in recordings), max(e.sensor[1] for e in recordings)


def _median(recordings: Sequence[Events], of: Callable[[Events], float]) -> float:
    return float(np.median([of(events) for events in recordings]))


def _active(events: Events) -> float:
    width, height = events.sensor
    return len(np.unique(events.y_N.astype(np.int64) * width + events.x_N)) / (width * height)


def _quiet(recordings: Sequence[Events]) -> tuple[float, float]:
    """OFF and ON events per recording and pixel where least happens."""
    width, height = largest_sensor(recordings)
    count_2HW = np.zeros((2, height, width))
    for events in recordings:
        np.add.at(count_2HW, (events.polarity_N.astype(int), events.y_N, events.x_N), 1)
    around_HW = uniform_filter(count_2HW.sum(0), 5, mode="nearest")
    off, on = count_2HW[:, around_HW <= np.quantile(around_HW, _QUIET)].mean(1) / len(recordings)
    return float(off), float(on)


def _rate(events: Events) -> np.ndarray:
    since_N = events.t_N - events.t_N[0]
    bin_N = since_N * _RATE_BINS // (since_N[-1] + 1)
    return np.bincount(bin_N, minlength=_RATE_BINS) / len(events)
