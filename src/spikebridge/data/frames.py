"""Framing: a recording becomes T frames of event counts, none lost."""

from typing import Literal

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.events import Events


def frame_events(
    events: Events,
    time_steps: int,
    size: tuple[int, int],
    bins: Literal["time", "count"] = "time",
    extent: Literal["sensor", "recording"] = "sensor",
) -> np.ndarray:
    """Count events per time bin, polarity and pixel.

    The event at column x of W goes to column ⌊x·width/W⌋, likewise for rows, so that the frames sum
    to the number of events.

    Args:
        events: The recording.
        time_steps: T.
        size: Height and width of the frames in pixels.
        bins: Bins of equal duration, the last one closed, or of equal numbers of events, to within
            one.
        extent: What is stretched to ``size``: the whole sensor, or what reaches from the upper left
            corner to the farthest event (N-Caltech101's recordings have the size of their photos).

    Returns:
        x_TCHW as int32; channel 0 counts OFF events, channel 1 ON.

    Raises:
        UserError: there are fewer events than time steps.
    """
    if len(events) < time_steps:
        raise UserError(
            f"{len(events)} events cannot fill {time_steps} time steps; lower data.time_steps or "
            "remove the recording"
        )
    height, width = size
    if bins == "time":
        since_N = events.t_N - events.t_N[0]
        step_N = since_N * time_steps // (since_N[-1] + 1)
    else:
        step_N = np.arange(len(events)) * time_steps // len(events)
    across, down = events.sensor
    if extent == "recording":
        across, down = int(events.x_N.max()) + 1, int(events.y_N.max()) + 1
    column_N = events.x_N.astype(np.int64) * width // across
    row_N = events.y_N.astype(np.int64) * height // down
    cell_N = ((step_N * 2 + events.polarity_N) * height + row_N) * width + column_N
    counts = np.bincount(cell_N, minlength=time_steps * 2 * height * width)
    return counts.reshape(time_steps, 2, height, width).astype(np.int32)


def network_input(counts_BTCHW: np.ndarray, scale: Literal["recording", "none"]) -> np.ndarray:
    """Event counts as the network sees them, float32.

    A hybrid batch holds photos, with values in [0, 1], beside event frames; were these many times
    larger, one of them would rule the batch statistics of all its neighbours.

    Args:
        counts_BTCHW: Frames of B recordings, from `frame_events`.
        scale: "recording" divides each recording by the 95th percentile of its non-zero counts and
            cuts at 1; "none" only changes the type.
    """
    x_BTCHW = counts_BTCHW.astype(np.float32)
    if scale == "recording":
        for counts_TCHW, x_TCHW in zip(counts_BTCHW, x_BTCHW, strict=True):
            x_TCHW /= full_scale(counts_TCHW)
        x_BTCHW.clip(max=1, out=x_BTCHW)
    return x_BTCHW


def full_scale(counts_TCHW: np.ndarray) -> float:
    """The count that `network_input` makes 1, at least 1."""
    return max(1.0, _percentile_95(counts_TCHW))


def _percentile_95(counts_TCHW: np.ndarray) -> float:
    """The 95th percentile of the counts that are not zero, as NumPy interpolates it; 1 for none."""
    cells_C = np.bincount(counts_TCHW.reshape(-1))
    cells_C[:1] = 0
    up_to_C = np.cumsum(cells_C)
    if not len(up_to_C) or not up_to_C[-1]:
        return 1.0
    place = 0.95 * (up_to_C[-1] - 1)
    low, high = np.searchsorted(up_to_C, (np.floor(place), np.ceil(place)), "right")
    return float(low + (high - low) * (place % 1))
