"""Event recordings: x, y, t in µs, polarity, and the sensor they come from.

N-Caltech101's and N-MNIST's 40-bit ``.bin`` is read and written here, ``.npz``, AEDAT 3.1 and the
AEDAT 2.0 of a DVS128 in modules of their own, the others in `foreign`'s processes. What time stamps
and polarities mean is decided in `columns`.
"""

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.base.files import atomic_path
from spikebridge.data.formats.aedat2 import DVS128_SENSOR, is_dvs128, read_dvs128
from spikebridge.data.formats.aedat3 import is_aedat3, read_aedat3
from spikebridge.data.formats.columns import SORTED_WITHIN_US, Columns, lateness
from spikebridge.data.formats.foreign import MAX_EVENTS, read_foreign
from spikebridge.data.formats.npz import read_npz

EVENT_SUFFIXES = (
    ".bin", ".mat", ".aedat", ".aedat4", ".raw", ".dat", ".h5", ".hdf5", ".npz", ".csv",
    ".txt", ".bag",
)  # fmt: skip

N_CALTECH101_SENSOR = (240, 180)

_TELL_SENSOR = (".raw", ".dat", ".aedat", ".aedat4")
"""Formats whose header should tell the sensor's size, and does not always."""

_BIN_MAX_TIME = 1 << 23
_BIN_OVERFLOW_Y = 240
_BIN_OVERFLOW_STEP = 1 << 13

_MAX_BYTES = 1 << 32
_MAX_SIDE = 1 << 16
_MAX_TIME_US = 1 << 60
_MAX_DURATION_US = 1 << 48


@dataclass(frozen=True)
class Events:
    """One recording of N events, ordered in time."""

    x_N: np.ndarray
    """Column, counted from the left, int32."""
    y_N: np.ndarray
    """Row, counted from the top, int32."""
    t_N: np.ndarray
    """Time stamp in µs, int64."""
    polarity_N: np.ndarray
    """True for ON (brighter), False for OFF."""
    sensor: tuple[int, int]
    """Sensor width and height in pixels."""
    late: int = 0
    """How many events the file holds after younger ones; here they are in order."""
    sensor_told: bool = True
    """False where nothing told the sensor, so that it is the smallest that holds all events."""

    def __len__(self) -> int:
        return len(self.t_N)

    def chosen(self, chosen_N: np.ndarray) -> "Events":
        """Some of them, or all in another order: by indices or by a mask."""
        return replace(
            self,
            x_N=self.x_N[chosen_N],
            y_N=self.y_N[chosen_N],
            t_N=self.t_N[chosen_N],
            polarity_N=self.polarity_N[chosen_N],
        )

    def transposed(self) -> "Events":
        """With rows and columns exchanged."""
        return replace(self, x_N=self.y_N, y_N=self.x_N, sensor=self.sensor[::-1])


def read_events(path: str | os.PathLike[str], sensor: tuple[int, int] | None = None) -> Events:
    """Read a recording in any known format.

    Where a format leaves it open, time stamps with fractions are seconds and whole ones
    microseconds, and polarity is 0 and 1 or −1 and 1. Events that come at most 1 ms late, as some
    cameras write them, are put in order. Whatever bytes a file holds, it is read or refused, in
    time and memory that its size bounds.

    Args:
        path: The file; its suffix names the format.
        sensor: (width, height), for formats that do not tell it; where the file tells it too, this
            one is taken. None takes the file's, or else the smallest that holds all events (240×180
            for ``.bin``).

    Raises:
        UserError: the file is missing, empty, truncated, damaged or of an unknown format, larger
            than 4 GiB or 2²⁷ events, an event lies outside the sensor, time stamps run backwards,
            or neither ``sensor`` nor a file that should tells the sensor's size.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in EVENT_SUFFIXES:
        if not os.path.lexists(file):
            raise UserError(f"{file}: no such file or folder")
        raise UserError(
            f"{file}: unknown event format {suffix!r}; expected one of {', '.join(EVENT_SUFFIXES)}"
        )
    size = None
    try:
        _check_file(file)
        match suffix:
            case ".bin":
                columns, size = _read_bin(file, sensor or N_CALTECH101_SENSOR), N_CALTECH101_SENSOR
            case ".aedat" if is_dvs128(file):
                columns, size = read_dvs128(file), DVS128_SENSOR
            case ".aedat" if is_aedat3(file):
                columns, size = read_aedat3(file)
            case ".npz":
                columns, size = read_npz(file)
            case _:
                columns, size = read_foreign(file, sensor)
    except OSError as error:
        raise UserError(
            f"{file}: cannot be read ({error.strerror or error}); check its permissions"
        ) from error
    except MemoryError as error:
        raise UserError(f"{file}: does not fit in this computer's memory; cut it") from error
    x_N, y_N, t_N, polarity_N = columns
    if not len(t_N):
        raise UserError(f"{file}: holds no event; remove it or fetch it again")
    if not (sensor or size) and suffix in _TELL_SENSOR:
        raise UserError(
            f"{file}: its header does not tell the sensor's size; set data.sensor to the camera's "
            "width and height"
        )
    told = sensor or size
    size = told or (max(0, int(x_N.max())) + 1, max(0, int(y_N.max())) + 1)
    events = Events(x_N, y_N, t_N, polarity_N, size, sensor_told=told is not None)
    events = _in_order(file, events)
    _check(file, events)
    return events


def write_bin(path: str | os.PathLike[str], events: Events) -> None:
    """Write 40-bit big-endian events (N-Caltech101, N-MNIST), atomically.

    Each event is x (8 bits), y (8), polarity (1), time stamp in µs (23).

    Raises:
        UserError: an address above 255, a row 240 (the format's overflow mark), or a time stamp
            that does not fit 23 bits (8.4 s).
    """
    if len(events) and (
        max(events.x_N.max(), events.y_N.max()) > 255 or (events.y_N == _BIN_OVERFLOW_Y).any()
    ):
        raise UserError(f"{path}: .bin holds columns 0–255 and rows but 240; use another format")
    if len(events) and not 0 <= events.t_N.min() <= events.t_N.max() < _BIN_MAX_TIME:
        raise UserError(f"{path}: .bin holds time stamps below 8.39 s; cut the recording")
    data_N5 = np.empty((len(events), 5), np.uint8)
    data_N5[:, 0], data_N5[:, 1] = events.x_N, events.y_N
    data_N5[:, 2] = (events.polarity_N.astype(np.int64) << 7) | (events.t_N >> 16)
    data_N5[:, 3] = (events.t_N >> 8) & 0xFF
    data_N5[:, 4] = events.t_N & 0xFF
    with atomic_path(path) as temporary:
        temporary.write_bytes(data_N5.tobytes())


def _check_file(file: Path) -> None:
    if not os.path.isfile(file):
        raise UserError(f"{file}: no such recording; check the path")
    if not os.access(file, os.R_OK):
        raise UserError(f"{file}: cannot be read; check its permissions")
    size = file.stat().st_size
    if size == 0:
        raise UserError(f"{file}: empty file; remove it or fetch it again")
    if size > (5 * MAX_EVENTS if file.suffix.lower() == ".bin" else _MAX_BYTES):
        raise UserError(f"{file}: {size / 1e9:.1f} GB are too much for one recording; cut it")


def _read_bin(file: Path, sensor: tuple[int, int]) -> Columns:
    data = np.fromfile(file, np.uint8)
    if len(data) % 5:
        raise UserError(
            f"{file}: truncated, {len(data)} bytes are not a multiple of 5; fetch the file again"
        )
    x_N, y_N, high_N, middle_N, low_N = data.reshape(-1, 5).T.astype(np.int32)
    t_N = ((high_N & 0x7F) << 16 | middle_N << 8 | low_N).astype(np.int64)
    polarity_N = high_N >> 7 == 1
    if sensor[1] <= _BIN_OVERFLOW_Y and (overflow_N := y_N == _BIN_OVERFLOW_Y).any():
        # Garrick Orchard's reader: such an event only says that the clock went on by 2^13 µs.
        t_N += np.cumsum(overflow_N) * _BIN_OVERFLOW_STEP
        keep_N = ~overflow_N
        x_N, y_N, t_N, polarity_N = x_N[keep_N], y_N[keep_N], t_N[keep_N], polarity_N[keep_N]
    return x_N, y_N, t_N, polarity_N


def _in_order(file: Path, events: Events) -> Events:
    late_N = lateness(events.t_N)
    if (far_N := late_N > SORTED_WITHIN_US).any():
        first = int(far_N.argmax())
        raise UserError(
            f"{file}: time stamps run backwards at event {first} "
            f"({events.t_N[first - 1]} then {events.t_N[first]} µs); sort or repair the file"
        )
    if not (late := int(np.count_nonzero(late_N))):
        return events
    return replace(events.chosen(np.argsort(events.t_N, kind="stable")), late=late)


def _check(file: Path, events: Events) -> None:
    width, height = events.sensor
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise UserError(
            f"{file}: a sensor of {width}×{height} pixels is none; set data.sensor or fetch the "
            "file again"
        )
    outside_N = (events.x_N < 0) | (events.x_N >= width) | (events.y_N < 0) | (events.y_N >= height)
    if outside_N.any():
        first = int(outside_N.argmax())
        raise UserError(
            f"{file}: event {first} at ({events.x_N[first]}, {events.y_N[first]}) lies outside the "
            f"{width}×{height} sensor; set data.sensor to the camera's size or fetch the file again"
        )
    first, last = int(events.t_N[0]), int(events.t_N[-1])
    if not -_MAX_TIME_US < first <= last < _MAX_TIME_US or last - first > _MAX_DURATION_US:
        raise UserError(
            f"{file}: time stamps from {first} to {last} are no µs of one recording; repair it"
        )
