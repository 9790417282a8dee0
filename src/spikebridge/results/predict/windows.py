"""Cutting events that come in pieces into windows of equal length."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.events import Events
from spikebridge.data.formats.columns import Columns

_SET_BACK_US = 1_000_000
_MOST_EVENTS = 1 << 24


@dataclass(frozen=True)
class Window:
    """Events of one window, or the stretch of one or more windows without any."""

    start_us: int
    """From the first event of the recording, or of the stream since its clock was last set."""
    end_us: int
    """Open; the recording's end where that comes first."""
    events: Events
    count: int = 1
    """Windows that it stands for: more than one in a stretch without events."""


class WindowCutter:
    """Windows [k·stride, k·stride + window) of a stream's own time, from its first event on.

    Events are held until their last window is over, so that what is held lies within one window;
    2²⁴ of them, of a stream whose clock stands still, are thrown away.

    Args:
        window_ms: Length of a window in ms.
        stride_ms: From one window's start to the next one's; None takes the window's length.
        sensor: Width and height in pixels.

    Raises:
        UserError: a length is below 1 µs.
    """

    def __init__(self, window_ms: float, stride_ms: float | None, sensor: tuple[int, int]) -> None:
        for name, value in (("window-ms", window_ms), ("stride-ms", stride_ms)):
            if value is not None and not 1e-3 <= value < 1e12:
                raise UserError(f"{name} must be at least 0.001, got {value}")
        self._window = round(1000 * window_ms)
        self._stride = round(1000 * (window_ms if stride_ms is None else stride_ms))
        self._sensor = sensor
        self._pieces: list[Columns] = []
        self._held = 0
        self._origin: int | None = None
        self._start = self._over = self._latest = 0
        self.late = 0
        """Events that came when their windows were over, and were left out."""
        self.set_back = 0
        """Times that the stream's clock went back by more than a second."""
        self.thrown_away = 0
        """Events of windows that had too many."""

    def push(self, columns: Columns) -> Iterator[Window]:
        """The windows that are over with these events, which may be out of order."""
        t_N = columns[2]
        if not len(t_N):
            return
        if self._origin is not None and t_N.max() < self._origin + self._latest - _SET_BACK_US:
            self.set_back += 1
            self._forget()
        if self._origin is None:
            self._origin, self._start, self._over, self._latest = int(t_N.min()), 0, 0, 0
        x_N, y_N, t_N, polarity_N = columns
        t_N = t_N - self._origin
        self.late += int((t_N < min(self._start, self._over)).sum())
        if t_N.min() < self._start:
            keep_N = t_N >= self._start
            x_N, y_N, t_N, polarity_N = (c[keep_N] for c in (x_N, y_N, t_N, polarity_N))
        self._pieces.append((x_N, y_N, t_N, polarity_N))
        self._held += len(t_N)
        self._latest = max(self._latest, int(t_N.max(initial=0)))
        if self._latest >= self._start + self._window:
            yield from self._cut(self._latest)
        if self._held > _MOST_EVENTS:
            self.thrown_away += self._held
            self._forget()

    def flush(self) -> Iterator[Window]:
        """The windows that the end of the stream leaves open; then a stream may begin anew."""
        if self._held:
            yield from self._cut(None)
        self._forget()

    def _forget(self) -> None:
        self._pieces, self._held, self._origin = [], 0, None

    def _cut(self, now: int | None) -> Iterator[Window]:
        """Windows that are over at a time; None ends the stream behind its last event."""
        x_N, y_N, t_N, polarity_N = (np.concatenate(c) for c in zip(*self._pieces, strict=True))
        if (t_N[1:] < t_N[:-1]).any():
            order_N = t_N.argsort(kind="stable")
            x_N, y_N, t_N, polarity_N = (c[order_N] for c in (x_N, y_N, t_N, polarity_N))
        last = self._latest + 1
        while now is None or self._start + self._window <= now:
            end = self._start + self._window
            low, high = np.searchsorted(t_N, (self._start, end))
            rows = slice(low, high)
            events = Events(x_N[rows], y_N[rows], t_N[rows], polarity_N[rows], self._sensor)
            count = 1
            if not len(events) and high < len(t_N):
                # All that end before the next event, or with it.
                count += (int(t_N[high]) - end) // self._stride
                end += (count - 1) * self._stride
            start, self._start, self._over = self._start, self._start + count * self._stride, end
            yield Window(start, end if now is not None else min(end, last), events, count)
            if now is None and (end >= last or self._start >= last):
                return
        kept = slice(int(np.searchsorted(t_N, self._start)), None)
        self._pieces = [(x_N[kept], y_N[kept], t_N[kept], polarity_N[kept])]
        self._held = len(t_N[kept])
