"""Plain ways to read and frame recordings, which the benchmarks compare with."""

import importlib.util
from collections.abc import Callable
from pathlib import Path

import numpy as np

from spikebridge.data.events import Events


def read_bin_by_loop(path: str | Path) -> list[tuple[int, int, int, int]]:
    """The 40-bit format, event by event: (x, y, t, polarity)."""
    data = Path(path).read_bytes()
    return [
        (data[i], data[i + 1], (data[i + 2] & 0x7F) << 16 | data[i + 3] << 8 | data[i + 4],
         data[i + 2] >> 7)
        for i in range(0, len(data), 5)
    ]  # fmt: skip


def frame_by_loop(events: Events, time_steps: int, size: tuple[int, int]) -> np.ndarray:
    """`frame_events`, event by event, to dense float32."""
    x_TCHW = np.zeros((time_steps, 2, *size), np.float32)
    start, span = int(events.t_N[0]), int(events.t_N[-1] - events.t_N[0]) + 1
    for x, y, t, polarity in zip(
        events.x_N.tolist(), events.y_N.tolist(), events.t_N.tolist(), events.polarity_N.tolist(),
        strict=True,
    ):  # fmt: skip
        step = (t - start) * time_steps // span
        row, column = y * size[0] // events.sensor[1], x * size[1] // events.sensor[0]
        x_TCHW[step, int(polarity), row, column] += 1
    return x_TCHW


def frame_by_add_at(events: Events, time_steps: int, size: tuple[int, int]) -> np.ndarray:
    """`frame_events` by NumPy's unbuffered addition, to dense float32."""
    x_TCHW = np.zeros((time_steps, 2, *size), np.float32)
    since_N = events.t_N - events.t_N[0]
    step_N = since_N * time_steps // (since_N[-1] + 1)
    row_N = events.y_N.astype(np.int64) * size[0] // events.sensor[1]
    column_N = events.x_N.astype(np.int64) * size[1] // events.sensor[0]
    np.add.at(x_TCHW, (step_N, events.polarity_N.astype(np.int64), row_N, column_N), 1)
    return x_TCHW


def frame_by_tonic(time_steps: int) -> Callable[[Events], np.ndarray] | None:
    """tonic's ToFrame at the sensor's size, or None where tonic is not installed."""
    if importlib.util.find_spec("tonic") is None:
        return None
    from tonic.transforms import ToFrame  # pyright: ignore[reportMissingImports]

    kind = np.dtype([("x", np.int16), ("y", np.int16), ("t", np.int64), ("p", np.int8)])

    def frame(events: Events) -> np.ndarray:
        array = np.zeros(len(events), kind)
        array["x"], array["y"] = events.x_N, events.y_N
        array["t"], array["p"] = events.t_N, events.polarity_N
        return ToFrame(sensor_size=(*events.sensor, 2), n_time_bins=time_steps)(array)

    return frame
