"""The process that reads recordings by eventcv and SciPy; `foreign` starts it and asks it.

A request is a line of JSON. The answer is one, too, and then the events as bytes: t_N (int64), x_N
and y_N (int32), polarity_N (bool).
"""

import json
import math
import os
import re
import signal
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import eventcv
import numpy as np

from spikebridge.data.columns import Columns, event_columns
from spikebridge.data.foreign import MAX_EVENTS, READY
from spikebridge.data.headers import SUFFIXES, readable
from spikebridge.errors import UserError

_ANY_SENSOR = (1 << 16, 1 << 16)
_FRACTION = re.compile(rb"^[-+\d., \t]*?(?:\.\d*[1-9]|\d[eE]-\d)", re.MULTILINE)
_NOT_A_NUMBER = re.compile(rb"^[^#\n]*\b(?:nan|inf)", re.MULTILINE | re.IGNORECASE)
_LONGEST_IN_SECONDS_US = 3_600_000_000
_REMEDIES = {
    ".h5": "expected the data sets x, y, t (integer, µs) and p (0 and 1, 8 bits)",
    ".hdf5": "expected the data sets x, y, t (integer, µs) and p (0 and 1, 8 bits)",
    ".txt": "expected a line 't x y p' per event, or a header that names the columns",
    ".csv": "expected a line 't x y p' per event, or a header that names the columns",
}


def main() -> None:
    """Answer requests until the pipe closes."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    with os.fdopen(os.dup(1), "wb") as answers:
        os.dup2(2, 1)  # what a library prints is no answer
        answers.write(READY)
        answers.flush()
        for line in sys.stdin.buffer:
            request = json.loads(line)
            os.chdir(request["folder"])
            _limit(request["seconds"], request["memory"])
            sensor = request["sensor"] and tuple(request["sensor"])
            try:
                (x_N, y_N, t_N, polarity_N), size = read(Path(request["file"]), sensor)
            except UserError as error:
                answers.write(json.dumps({"refused": str(error)}).encode() + b"\n")
            else:
                answers.write(json.dumps({"events": len(t_N), "sensor": size}).encode() + b"\n")
                for column_N in (t_N, x_N, y_N, polarity_N):
                    answers.write(np.ascontiguousarray(column_N).data)
            answers.flush()


def _limit(seconds: int, memory: int) -> None:
    """Bound the time and memory that are taken from now on, where the system can do that."""
    with suppress(ImportError, OSError, ValueError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        used = resource.getrusage(resource.RUSAGE_SELF)
        _lower(resource.RLIMIT_CPU, math.ceil(used.ru_utime + used.ru_stime) + seconds)
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        physical = os.sysconf("SC_PHYS_PAGES") * resource.getpagesize()
        _lower(resource.RLIMIT_AS, pages * resource.getpagesize() + min(memory, physical // 2))


def _lower(kind: int, value: int) -> None:
    import resource

    hard = resource.getrlimit(kind)[1]
    resource.setrlimit(kind, (value if hard == resource.RLIM_INFINITY else min(value, hard), hard))


def read(file: Path, sensor: tuple[int, int] | None) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of a recording and the sensor that the file tells.

    Raises:
        UserError: the file is no such recording, or has too many events.
    """
    mat = file.suffix.lower() == ".mat"
    columns, size = (_read_mat(file), None) if mat else _read_eventcv(file, sensor)
    if len(columns[0]) > MAX_EVENTS:
        raise UserError(f"{file}: holds more than {MAX_EVENTS} events; cut the recording")
    return columns, size


def _read_mat(file: Path) -> Columns:
    """CEP-DVS: variables x, y, ts (µs) and p (ON where positive)."""
    from scipy.io import loadmat

    names = ("x", "y", "ts", "p")
    try:
        variables = loadmat(file, variable_names=names, verify_compressed_data_integrity=False)
        return event_columns(*(variables[name] for name in names))
    except Exception as error:
        raise UserError(
            f"{file}: no readable recording ({_reason(error)}); expected a MATLAB file (below "
            "version 7.3) with the variables x, y, ts and p"
        ) from error


def _read_eventcv(
    file: Path, sensor: tuple[int, int] | None
) -> tuple[Columns, tuple[int, int] | None]:
    suffix = file.suffix.lower()
    # Told a sensor, eventcv drops the events outside it, unseen; so it is told one that holds any
    # address. Of an .aedat it takes the size to turn the picture over.
    any_sensor: dict[str, Any] = {} if suffix == ".aedat" else {"sensor_size": _ANY_SENSOR}
    hdf5 = suffix in (".h5", ".hdf5")
    size = None
    try:
        unit = _time_unit(file, suffix)
        with readable(file) if suffix in SUFFIXES else nullcontext(file) as path:
            stream = eventcv.load(str(path), max_events=MAX_EVENTS + 1, **unit, **any_sensor)
            x_N, y_N, t_N, p_N = stream.numpy().T
            if sensor is None or hdf5:
                size = eventcv.load(str(path), max_events=1, **unit).sensor_size
        columns = x_N.astype(np.int32), y_N.astype(np.int32), t_N.astype(np.int64), p_N > 0
    except UserError:
        raise
    except BaseException as error:  # a panic of eventcv's Rust code is no Exception
        raise UserError(
            f"{file}: not a readable recording ({_reason(error)}); "
            + _REMEDIES.get(suffix, "fetch the file again")
            + (" or set data.sensor" if sensor is None else "")
        ) from error
    if unit.get("time_unit") == "s":
        _check_seconds(file, columns[2])
    if hdf5 and size:
        _check_hdf5(file, size, columns[3])
    return columns, size


def _time_unit(file: Path, suffix: str) -> dict[str, Any]:
    """Unit of the formats that do not tell it; eventcv's own guess fails below a second."""
    if suffix not in (".txt", ".csv"):
        return {"time_unit": "us"} if suffix in (".h5", ".hdf5") else {}
    text = file.read_bytes()
    letters = text.lower()
    if b"n" in letters and _NOT_A_NUMBER.search(text):  # eventcv reads nan as 0
        raise ValueError("a time stamp is not finite")
    has_fractions = b"." in text or b"e-" in letters
    return {"time_unit": "s" if has_fractions and _FRACTION.search(text) else "us"}


def _check_seconds(file: Path, t_N: np.ndarray) -> None:
    duration_us = int(t_N.max()) - int(t_N.min()) if len(t_N) else 0
    if duration_us > _LONGEST_IN_SECONDS_US:
        raise UserError(
            f"{file}: time stamps with fractions are seconds, but these last "
            f"{duration_us / 1e6:.0f} s; write whole microseconds"
        )


def _check_hdf5(file: Path, size: tuple[int, int], polarity_N: np.ndarray) -> None:
    if max(size) > max(_ANY_SENSOR):  # eventcv wraps such addresses
        raise UserError(f"{file}: addresses up to {max(size) - 1}; at most 65535 are known")
    if len(polarity_N) and polarity_N.all():  # eventcv reads −1 as ON
        raise UserError(
            f"{file}: holds ON events alone, as if polarity were 1 and −1; "
            "write polarity as 0 and 1"
        )


def _reason(error: BaseException) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__


if __name__ == "__main__":
    main()
