"""Recordings that libraries read, in processes of their own.

On damaged files eventcv's Rust code, the HDF5 library and SciPy crash, run for ever or ask for
terabytes of memory, and nothing in the file tells it beforehand: one changed byte is enough. So
`foreign_worker` calls them in a process that may take a little time and memory for each byte of the
file, and that can die without harm.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
from contextlib import suppress
from io import BufferedReader
from pathlib import Path
from typing import BinaryIO, cast

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.formats.columns import Columns

MAX_EVENTS = 1 << 27
READY = b"ready\n"

_WORKER = "spikebridge.data.formats.foreign_worker"
_SECONDS, _BYTES_PER_SECOND = 5, 1 << 18
_MEMORY, _MEMORY_PER_BYTE = 1 << 28, 128
_EVENT_BYTES = 8 + 4 + 4 + 1
_ENVIRONMENT = {  # One thread reads one file; each thread more would claim memory of its own.
    "MALLOC_ARENA_MAX": "1", "OPENBLAS_NUM_THREADS": "1", "RAYON_NUM_THREADS": "1",
}  # fmt: skip
_IDLE: dict[int, list[subprocess.Popen[bytes]]] = {}


def read_foreign(
    file: Path, sensor: tuple[int, int] | None
) -> tuple[Columns, tuple[int, int] | None]:
    """Columns of a recording that `foreign_worker` reads, and the sensor that the file tells.

    Threads may call it at once; each then has a process.

    Raises:
        UserError: the file is no such recording, or reading it crashes, takes more than 5 s and 1 s
            per 256 KiB of the file, or more than 256 MiB and 128 bytes of memory per byte.
    """
    size = file.stat().st_size
    request = {
        "folder": os.getcwd(),
        "file": str(file),
        "sensor": sensor,
        "seconds": _SECONDS + size // _BYTES_PER_SECOND,
        "memory": _MEMORY + size * _MEMORY_PER_BYTE,
    }
    process = _take()
    try:
        answer, data = _ask(process, request)
    except BaseException as error:
        _stop(process)
        if not isinstance(error, (OSError, ValueError, EOFError)):
            raise
        raise UserError(
            f"{file}: not a readable recording ({_cause(process)}); fetch the file again"
        ) from error
    _IDLE[os.getpid()].append(process)
    if "refused" in answer:
        raise UserError(answer["refused"])
    count = answer["events"]
    t_N = np.frombuffer(data, np.int64, count)
    x_N = np.frombuffer(data, np.int32, count, 8 * count)
    y_N = np.frombuffer(data, np.int32, count, 12 * count)
    polarity_N = np.frombuffer(data, bool, count, 16 * count)
    return (x_N, y_N, t_N, polarity_N), answer["sensor"] and tuple(answer["sensor"])


def _take() -> subprocess.Popen[bytes]:
    """A process that waits for a file; a fork does not share those of its parent."""
    idle = _IDLE.setdefault(os.getpid(), [])
    with suppress(IndexError):
        while (process := idle.pop()).poll() is not None:
            _stop(process)
        return process
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", _WORKER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **_ENVIRONMENT, "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    if cast(BufferedReader, process.stdout).readline() != READY:
        _stop(process)
        raise RuntimeError(f"python -m {_WORKER} does not start")
    return process


def _ask(process: subprocess.Popen[bytes], request: dict) -> tuple[dict, bytearray]:
    requests, answers = cast(BinaryIO, process.stdin), cast(BufferedReader, process.stdout)
    requests.write(json.dumps(request).encode() + b"\n")
    requests.flush()
    answer = json.loads(answers.readline())
    data = bytearray(_EVENT_BYTES * answer.get("events", 0))
    if answers.readinto(data) != len(data):
        raise EOFError
    return answer, data


def _cause(process: subprocess.Popen[bytes]) -> str:
    if process.returncode == -signal.SIGXCPU:
        return "reading it takes too long"
    return "it crashes the reader or asks for far too much memory"


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe and not pipe.closed:
            with suppress(BrokenPipeError):
                pipe.close()


@atexit.register
def _stop_all() -> None:
    for process in _IDLE.pop(os.getpid(), []):
        _stop(process)
