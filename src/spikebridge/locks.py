"""Locks on folders that a process loses when it dies."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spikebridge.console import console
from spikebridge.errors import UserError
from spikebridge.files import writing_failed

_NAME = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Wait until no other process is within this block for the same folder."""
    with _open(folder) as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def alone(folder: Path, *, waiting: str | None = None) -> Iterator[None]:
    """Keep other processes from training in a run's folder.

    Args:
        folder: Made where there is none.
        waiting: What to say before waiting for another process; None refuses.

    Raises:
        UserError: another process is within this block for the same folder.
    """
    lock = try_lock(folder)
    if lock is None:
        if waiting is None:
            raise UserError(f"{folder}: another process trains this run; wait for it")
        console.print(waiting, soft_wrap=True, markup=False)
    with lock or locked(folder):
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
    path = folder / _NAME
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return open(path, "w")
    except OSError as error:
        raise writing_failed(path, error) from error
