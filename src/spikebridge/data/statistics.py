"""What can be said of recordings without their labels."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from spikebridge.data.events import Events

_RATE_BINS = 10


@dataclass(frozen=True)
class Statistics:
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
    rate: tuple[float, ...]
    """Share of the events in each tenth of the duration, mean."""

    @property
    def on_share(self) -> float:
        """ON events among all."""
        return self.on / max(self.on + self.off, 1)


def statistics(recordings: Sequence[Events]) -> Statistics:
    """Statistics of recordings; there is at least one."""
    number = np.array([len(e) for e in recordings])
    on = np.array([int(e.polarity_N.sum()) for e in recordings])
    quarter, median, three_quarters = np.percentile(number, (25, 50, 75))
    return Statistics(
        recordings=len(recordings),
        events=float(median),
        on=float(np.median(on)),
        off=float(np.median(number - on)),
        spread=float((three_quarters - quarter) / median),
        active=_median(recordings, _active),
        duration_ms=_median(recordings, lambda e: (e.t_N[-1] - e.t_N[0]) / 1000),
        rate=tuple(np.mean([_rate(e) for e in recordings], axis=0).tolist()),
    )


def _median(recordings: Sequence[Events], of: Callable[[Events], float]) -> float:
    return float(np.median([of(events) for events in recordings]))


def _active(events: Events) -> float:
    width, height = events.sensor
    return len(np.unique(events.y_N.astype(np.int64) * width + events.x_N)) / (width * height)


def _rate(events: Events) -> np.ndarray:
    since_N = events.t_N - events.t_N[0]
    bin_N = since_N * _RATE_BINS // (since_N[-1] + 1)
    return np.bincount(bin_N, minlength=_RATE_BINS) / len(events)
