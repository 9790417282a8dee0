"""A reading process that hangs, crashes or wants memory where the file says so."""

import os
import signal
from pathlib import Path

from spikebridge.data.formats import foreign_worker
from spikebridge.data.formats.columns import Columns

_read = foreign_worker.read


def read(file: Path, sensor: tuple[int, int] | None) -> tuple[Columns, tuple[int, int] | None]:
    """As the real one, but for files that begin with an order."""
    match file.read_bytes()[:6]:
        case b"hangs!":
            while True:
                pass
        case b"crash!":
            os.kill(os.getpid(), signal.SIGSEGV)
        case b"greedy":
            bytearray(1 << 32)
    return _read(file, sensor)


if __name__ == "__main__":
    foreign_worker.read = read
    foreign_worker.main()
