"""The process that reads recordings by libraries; `foreign` starts it and asks it.

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

from spikebridge.base.errors import UserError
from spikebridge.data.formats.columns import Columns, event_columns
from spikebridge.data.formats.foreign import MAX_EVENTS, READY
from spikebridge.data.formats.hdf5 import read_hdf5
from spikebridge.data.formats.headers import SUFFIXES, readable, told_size
from spikebridge.data.formats.text import read_text

_ANY_SENSOR = (1 << 16, 1 << 16)
_TOPICS_SHOWN = 8
_ADVICE = re.compile(r"\W*\bpass\b.*", re.IGNORECASE)
"""What eventcv advises, in terms of its own functions."""
_HDF5 = (
    "expected data sets x, y, t and p, or one table 'events' of those four columns, with t in µs "
    "(or in seconds with fractions) and p 0 and 1 or -1 and 1"
)
_TEXT = (
    "expected a line 't x y p', 'x y t p' or 'x y p t' per event, or a first line that names the "
    "columns x, y, t and p, with t in µs (or in seconds with fractions) and p 0 and 1 or -1 and 1"
)
_REMEDIES = {
    ".h5": _HDF5,
    ".hdf5": _HDF5,
    ".txt": _TEXT,
    ".csv": _TEXT,
    ".mat": (
        "expected a MATLAB file (below version 7.3) with the variables x, y, ts and p, ts in µs "
        "(or in seconds with fractions) and p 0 and 1 or -1 and 1"
    ),
    ".aedat": "expected AEDAT 2.0 of a DVS128 or DAVIS, or AEDAT 3.1; export it as one of them",
    ".bag": "expected one topic of dvs_msgs/EventArray; fetch the file again",
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
    suffix = file.suffix.lower()
    try:
        match suffix:
            case ".mat":
                columns, size = _read_mat(file), None
            case ".txt" | ".csv":
                columns, size = read_text(file, MAX_EVENTS + 1)
            case ".h5" | ".hdf5":
                columns, size = read_hdf5(file, MAX_EVENTS + 1)
            case _:
                columns, size = _read_eventcv(file, suffix, sensor)
    except UserError:
        raise
    except MemoryError as error:
        raise UserError(
            f"{file}: not a readable recording (it asks for far too much memory); fetch the file "
            "again"
        ) from error
    except BaseException as error:  # a panic of eventcv's Rust code is no Exception
        raise UserError(
            f"{file}: not a readable recording ({_reason(error)}); "
            + _REMEDIES.get(suffix, "fetch the file again")
        ) from error
    if len(columns[0]) > MAX_EVENTS:
        raise UserError(f"{file}: holds more than {MAX_EVENTS} events; cut the recording")
    return columns, size


def _read_mat(file: Path) -> Columns:
    """CEP-DVS: variables x, y, ts and p."""
    from scipy.io import loadmat

    names = ("x", "y", "ts", "p")
    variables = loadmat(file, variable_names=names, verify_compressed_data_integrity=False)
    return event_columns(*(variables[name] for name in names))


def _read_eventcv(
    file: Path, suffix: str, sensor: tuple[int, int] | None
) -> tuple[Columns, tuple[int, int] | None]:
    options: dict[str, Any] = {"topic": _topic(file)} if suffix == ".bag" else {}
    # Told a sensor, eventcv drops the events outside it, unseen; so it is told one that holds any
    # address. Of an .aedat it takes the size to turn the picture over.
    any_sensor: dict[str, Any] = {} if suffix == ".aedat" else {"sensor_size": _ANY_SENSOR}
    size = None
    with readable(file) if suffix in SUFFIXES else nullcontext(file) as path:
        stream = eventcv.load(str(path), max_events=MAX_EVENTS + 1, **options, **any_sensor)
        x_N, y_N, t_N, p_N = stream.numpy().T
        if suffix in (".raw", ".dat"):  # eventcv guesses what the header does not tell
            size = told_size(path)
        elif sensor is None:
            with suppress(Exception):  # AEDAT 4 need not tell it
                size = eventcv.load(str(path), max_events=1, **options).sensor_size
    return event_columns(x_N, y_N, t_N, p_N), size


def _topic(file: Path) -> str:
    """The topic of a ROS bag that holds the events; of two cameras', left and right, the left one.

    Raises:
        ValueError: none, or several.
    """
    topics = [name for name, kind in eventcv.bag_topics(str(file)) if kind.endswith("/EventArray")]
    found = [t for t in topics if "right" not in t or t.replace("right", "left") not in topics]
    if len(found) != 1:
        shown = ", ".join(found[:_TOPICS_SHOWN])
        raise ValueError(f"it holds several topics of events, {shown}" if found else "no events")
    return found[0]


def _reason(error: BaseException) -> str:
    return _ADVICE.sub("", " ".join(str(error).split()))[:240] or type(error).__name__


if __name__ == "__main__":
    main()
