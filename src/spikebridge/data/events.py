"""Event recordings: x, y, t in µs, polarity, and the sensor they come from.

N-Caltech101's and N-MNIST's 40-bit ``.bin`` is read and written here, CEP-DVS's ``.mat`` by SciPy,
all other formats by eventcv.
"""

import os
import re
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.data.aedat2 import DVS128_SENSOR, is_dvs128, read_dvs128
from spikebridge.errors import UserError
from spikebridge.files import atomic_path

_EVENTCV_SUFFIXES = (
    ".aedat", ".aedat4", ".raw", ".dat", ".h5", ".hdf5", ".npz", ".csv", ".txt", ".bag",
)  # fmt: skip
EVENT_SUFFIXES = (".bin", ".mat", *_EVENTCV_SUFFIXES)

_BIN_MAX_TIME = 1 << 23
_BIN_OVERFLOW_Y = 240
_BIN_OVERFLOW_STEP = 1 << 13

_ANY_SENSOR = (1 << 16, 1 << 16)
_FRACTION = re.compile(rb"^[-+\d., \t]*?(?:\.\d*[1-9]|\d[eE]-\d)", re.MULTILINE)
_LONGEST_IN_SECONDS_US = 3_600_000_000
_REMEDIES = {
    ".npz": "expected the arrays x, y (uint16), t (int64, µs) and p (uint8)",
    ".h5": "expected the data sets x, y, t (integer, µs) and p (0 and 1, 8 bits)",
    ".hdf5": "expected the data sets x, y, t (integer, µs) and p (0 and 1, 8 bits)",
    ".txt": "expected a line 't x y p' per event, or a header that names the columns",
    ".csv": "expected a line 't x y p' per event, or a header that names the columns",
}
_STDERR = threading.Lock()


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

    def __len__(self) -> int:
        return len(self.t_N)


def read_events(path: str | os.PathLike[str], sensor: tuple[int, int] | None = None) -> Events:
    """Read a recording in any known format.

    ``.npz`` and HDF5 are taken to hold microseconds, and so is text, unless its time stamps have
    fractions: those are seconds.

    Args:
        path: The file; its suffix names the format.
        sensor: (width, height), for formats that do not tell it; where the file tells it too, this
            one is taken. None takes the file's, or else the smallest that holds all events (240×180
            for ``.bin``).

    Raises:
        UserError: the file is missing, empty, truncated or of an unknown format, an event lies
            outside the sensor, or time stamps run backwards.
    """
    file = Path(path)
    suffix = file.suffix.lower()
    if suffix not in EVENT_SUFFIXES:
        raise UserError(
            f"{file}: unknown event format {suffix!r}; expected one of {', '.join(EVENT_SUFFIXES)}"
        )
    if not file.is_file():
        raise UserError(f"{file}: no such recording; check the path")
    if file.stat().st_size == 0:
        raise UserError(f"{file}: empty file; remove it or fetch it again")
    match suffix:
        case ".bin":
            events = _read_bin(file, sensor or (240, 180))
        case ".mat":
            events = _read_mat(file, sensor)
        case ".aedat" if is_dvs128(file):
            events = Events(*read_dvs128(file), sensor or DVS128_SENSOR)
        case _:
            events = _read_eventcv(file, sensor)
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


def _read_bin(file: Path, sensor: tuple[int, int]) -> Events:
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
        x_N, y_N, t_N, polarity_N = (a[~overflow_N] for a in (x_N, y_N, t_N, polarity_N))
    return Events(x_N, y_N, t_N, polarity_N, sensor)


def _read_mat(file: Path, sensor: tuple[int, int] | None) -> Events:
    """CEP-DVS: variables x, y, ts (µs) and p (ON where positive)."""
    from scipy.io import loadmat

    try:
        variables = loadmat(file, variable_names=["x", "y", "ts", "p"])
        x_N, y_N, t_N, p_N = (np.asarray(variables[k]).ravel() for k in ("x", "y", "ts", "p"))
        if not len(x_N) == len(y_N) == len(t_N) == len(p_N):
            raise ValueError("x, y, ts and p differ in length")
        x_N, y_N, t_N = x_N.astype(np.int32), y_N.astype(np.int32), t_N.astype(np.int64)
    except Exception as error:
        raise UserError(
            f"{file}: no readable recording ({_reason(error)}); expected a MATLAB file (below "
            "version 7.3) with the variables x, y, ts and p"
        ) from error
    return Events(x_N, y_N, t_N, p_N > 0, sensor or _tight_sensor(x_N, y_N))


def _read_eventcv(file: Path, sensor: tuple[int, int] | None) -> Events:
    suffix = file.suffix.lower()
    # Told a sensor, eventcv drops the events outside it, unseen; so it is told one that holds any
    # address, and `_check` sees them all. Of an .aedat it takes the size to turn the picture over.
    any_sensor = {} if suffix == ".aedat" else {"sensor_size": _ANY_SENSOR}
    try:
        unit = _time_unit(file, suffix)
        stream = _load_quietly(file, **unit, **any_sensor)
        events_N4 = stream.numpy().astype(np.int64)
        size = sensor or _load_quietly(file, **unit).sensor_size
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # a panic of eventcv's Rust code is no Exception
        raise UserError(
            f"{file}: not a readable recording ({_reason(error)}); "
            + _REMEDIES.get(suffix, "fetch the file again")
            + (" or set data.sensor" if sensor is None else "")
        ) from error
    x_N, y_N, t_N, p_N = events_N4.T
    if unit.get("time_unit") == "s" and np.ptp(t_N) > _LONGEST_IN_SECONDS_US:
        raise UserError(
            f"{file}: time stamps with fractions are seconds, but these last "
            f"{np.ptp(t_N) / 1e6:.0f} s; write whole microseconds"
        )
    if suffix in (".h5", ".hdf5") and len(p_N) and (p_N > 0).all():
        # eventcv reads −1 as ON.
        raise UserError(
            f"{file}: holds ON events alone, as if polarity were 1 and −1; "
            "write polarity as 0 and 1"
        )
    return Events(x_N.astype(np.int32), y_N.astype(np.int32), t_N, p_N > 0, size)


def _time_unit(file: Path, suffix: str) -> dict[str, str]:
    """Unit of the formats that do not tell it; eventcv's own guess fails below a second."""
    if suffix in (".txt", ".csv"):
        return {"time_unit": "s" if _FRACTION.search(file.read_bytes()) else "us"}
    return {"time_unit": "us"} if suffix in (".npz", ".h5", ".hdf5") else {}


def _load_quietly(file: Path, **options: Any) -> Any:
    """eventcv's stream of events; a panic of its Rust code prints no trace."""
    import eventcv

    if file.suffix.lower() != ".bag":
        return eventcv.load(str(file), **options)
    with _STDERR, open(os.devnull, "wb") as nowhere:
        stderr = os.dup(2)
        os.dup2(nowhere.fileno(), 2)
        try:
            return eventcv.load(str(file), **options)
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


def _tight_sensor(x_N: np.ndarray, y_N: np.ndarray) -> tuple[int, int]:
    return (int(x_N.max(initial=0)) + 1, int(y_N.max(initial=0)) + 1)


def _check(file: Path, events: Events) -> None:
    if not len(events):
        raise UserError(f"{file}: holds no event; remove it or fetch it again")
    width, height = events.sensor
    outside_N = (events.x_N < 0) | (events.x_N >= width) | (events.y_N < 0) | (events.y_N >= height)
    if outside_N.any():
        first = int(outside_N.argmax())
        raise UserError(
            f"{file}: event {first} at ({events.x_N[first]}, {events.y_N[first]}) lies outside the "
            f"{width}×{height} sensor; set data.sensor to the camera's size or fetch the file again"
        )
    backwards_N = np.diff(events.t_N) < 0
    if backwards_N.any():
        first = int(backwards_N.argmax()) + 1
        raise UserError(
            f"{file}: time stamps run backwards at event {first} "
            f"({events.t_N[first - 1]} then {events.t_N[first]} µs); sort or repair the file"
        )
