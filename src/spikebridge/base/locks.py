"""Locks on folders that a process loses when it dies; a file system without locks locks nothing."""

import errno
import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.base.files import writing_failed

_NAME = ".lock"
_NO_LOCKS = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP}


@contextmanager
def locked(folder: Path, name: str = _NAME, *, waiting: str | None = None) -> Iterator[None]:
    """Wait until no other process is within this block for the same folder and name.

    Args:
        folder: Made where there is none.
        name: Of the file in it that is locked, and stays.
        waiting: What to say before waiting for another process.
    """
    with _open(folder / name) as file:
        if not _take(file, fcntl.LOCK_NB):
            if waiting:
                console.print(waiting, soft_wrap=True, markup=False)
            _take(file)
        yield


@contextmanager
def alone(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep other processes from training in a run's folder.

    Args:
        folder: Made where there is none.
        wait: Wait for another process, and say so.

    Raises:
        UserError: another process is within this block for the same folder, and is not waited for.
    """
    lock = try_lock(folder)
    if lock is None and not wait:
        raise UserError(f"{folder}: another process trains this run; wait for it")
    with lock or locked(folder, waiting=f"{folder}: waiting for another process, which trains it"):
        yield


def try_lock(folder: Path, name: str = _NAME) -> IO[str] | None:
    """A lock on a folder until the file is closed or this process ends; None where it is held."""
    file = _open(folder / name)
    if _take(file, fcntl.LOCK_NB):
        return file
    file.close()
    return None


def _take(file: IO[str], how: int = 0) -> bool:
    """Whether the lock is taken; False only under LOCK_NB."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | how)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    return True


def _open(path: Path) -> IO[str]:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return open(path, "w")
    except OSError as error:
        raise writing_failed(path, error) from error
