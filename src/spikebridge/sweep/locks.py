"""Locks on folders that a process loses when it dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spikebridge.files import writing_failed

_CLAIM = ".claim"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is within this block for the same folder."""
    with _open(folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def try_lock(folder: Path) -> IO[str] | None:
    """A lock on a folder until the file is closed or this process ends; None where it is held."""
    file = _open(folder)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        return None
    return file


def _open(folder: Path) -> IO[str]:
    path = folder / _CLAIM
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(path, "w")
    except OSError as error:
        raise writing_failed(path, error) from error
