"""Classifying a stream while it comes: the newest window, or none."""

import threading
import time
from collections import deque
from collections.abc import Generator, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.datasets import DATASETS
from spikebridge.results.predict.classify import Classifier
from spikebridge.results.predict.recordings import TimedGuess
from spikebridge.results.predict.sources import LiveSource
from spikebridge.results.predict.windows import Window, WindowCutter

_SILENCE_S = 1.0
_WAKE_S = 0.1
_DELAYS = 10_000


@dataclass(frozen=True)
class LiveGuess(TimedGuess):
    """What was seen in one window of a stream."""

    delay_ms: float
    """From the end of the window, when its last events were read, to the answer."""
    dropped: int
    """Windows so far that were over before the one ahead of them was classified."""

    def as_json(self) -> dict[str, Any]:
        """One line of ``--json``."""
        return {**super().as_json(), "delay_ms": self.delay_ms, "dropped": self.dropped}


@dataclass(frozen=True)
class Summary:
    """A session in numbers; its windows are the classified, few, dropped and empty ones."""

    seconds: float
    events: int
    classified: int
    too_few: int
    """Windows with some events, but too few."""
    dropped: int
    """Windows that could not be processed in time."""
    empty: int
    late_events: int
    """Came when their windows were over."""
    outside_events: int
    """Lay outside the sensor."""
    thrown_away_events: int
    """Were too many for one window."""
    clock_set_back: int
    """Times that the stream's clock went back by more than a second."""
    lost: int | None
    """Datagrams thrown away by the kernel, or overflows of the camera's driver; None: unknown."""
    delay_ms: tuple[float, float] | None
    """Median and 95th percentile of the newest 10,000 delays."""


class Session:
    """Reads a source in a thread of its own, and classifies in the caller's.

    At most one window waits: a newer one takes its place, and the older one counts as dropped. So
    neither memory nor delay grows where classification is slower than the stream. After a second
    of silence an open window is taken as it is.

    Args:
        classifier: Of the run.
        source: Is closed at the end.
        window_ms: As `time_line` takes it.
        stride_ms: Likewise.

    Raises:
        UserError: a length is below 1 µs.
    """

    def __init__(
        self,
        classifier: Classifier,
        source: LiveSource,
        window_ms: float,
        stride_ms: float | None = None,
    ) -> None:
        self._cutter = WindowCutter(window_ms, stride_ms, source.sensor)
        self._classifier, self._source = classifier, source
        self._transposed = DATASETS[classifier.trained.config.data.name].transposed
        self._changed = threading.Condition()
        self._waiting: tuple[Window, tuple[int, int], float] | None = None
        self._stop = threading.Event()
        self._failure: Exception | None = None
        self._events = self._classified = self._few = self._dropped = self._empty = 0
        self._extent = (1, 1)
        self._delays: deque[float] = deque(maxlen=_DELAYS)
        self._seconds, self._lost = 0.0, None

    def guesses(self, seconds: float | None = None) -> Generator[LiveGuess]:
        """Answers as they come, for some seconds or until closed; none for windows without events.

        Raises:
            UserError: the source failed.
        """
        begin = time.monotonic()
        reader = threading.Thread(target=self._read, name="live events", daemon=True)
        reader.start()
        try:
            while (now := time.monotonic() - begin) < (seconds or np.inf):
                if (taken := self._take(min(_WAKE_S, (seconds or np.inf) - now))) is not None:
                    yield self._answer(*taken)
                elif self._failure is not None:
                    raise UserError(
                        f"{self._source.name}: stopped ({self._failure}); check it and start again"
                    ) from self._failure
        finally:
            self._stop.set()
            reader.join()
            self._seconds = time.monotonic() - begin
            self._lost = self._source.lost
            self._source.close()

    @property
    def summary(self) -> Summary:
        """The session in numbers, once `guesses` has ended."""
        delays = np.quantile(self._delays, (0.5, 0.95)).tolist() if self._delays else None
        return Summary(
            seconds=self._seconds,
            events=self._events,
            classified=self._classified,
            too_few=self._few,
            dropped=self._dropped,
            empty=self._empty,
            late_events=self._cutter.late,
            outside_events=self._source.outside,
            thrown_away_events=self._cutter.thrown_away,
            clock_set_back=self._cutter.set_back,
            lost=self._lost,
            delay_ms=None if delays is None else (delays[0], delays[1]),
        )

    def _read(self) -> None:
        heard = time.monotonic()
        try:
            while not self._stop.is_set():
                columns = self._source.read()
                if columns is not None and len(columns[2]):
                    heard = time.monotonic()
                    self._events += len(columns[2])
                    across, down = int(columns[0].max()) + 1, int(columns[1].max()) + 1
                    self._extent = max(across, self._extent[0]), max(down, self._extent[1])
                    self._offer(self._cutter.push(columns))
                elif time.monotonic() - heard > _SILENCE_S:
                    self._offer(self._cutter.flush())
        except Exception as error:
            self._failure = error

    def _offer(self, windows: Iterator[Window]) -> None:
        for window in windows:
            if not len(window.events):
                self._empty += window.count
                continue
            with self._changed:
                self._dropped += self._waiting is not None
                self._waiting = (window, self._extent, time.monotonic())
                self._changed.notify()

    def _take(self, timeout_s: float) -> tuple[Window, tuple[int, int], float] | None:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting is not None, timeout_s)
            taken, self._waiting = self._waiting, None
        return taken

    def _answer(self, window: Window, extent: tuple[int, int], over: float) -> LiveGuess:
        events, guess = window.events, None
        if len(events) >= self._classifier.min_events:
            if self._transposed:
                events, extent = events.transposed(), (extent[1], extent[0])
            guess = self._classifier(events, extent)
            delay_ms = 1e3 * (time.monotonic() - over)
            self._delays.append(delay_ms)
            self._classified += 1
        else:
            delay_ms = 1e3 * (time.monotonic() - over)
            self._few += 1
        start_ms, end_ms = window.start_us / 1e3, window.end_us / 1e3
        return LiveGuess(start_ms, end_ms, len(events), guess, delay_ms, self._dropped)
