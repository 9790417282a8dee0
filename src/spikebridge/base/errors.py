"""Errors that a user can mend."""

import errno
import os

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What the system says of a full disk."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    The command prints the line without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        """One line, even where a file name in it has several."""
        return " ".join(super().__str__().splitlines())


class Unreadable(UserError):
    """A file that is there and cannot be read, though it may be whole."""


def reading_failed(path: str | os.PathLike[str], error: OSError) -> Unreadable:
    """The error to raise where a file could not be read, though it is there."""
    return Unreadable(f"{path}: cannot be read ({_reason(error)}); {_remedy(error)}")


def system_refused(error: OSError) -> UserError:
    """The error to raise where no one place knows what the system may not do."""
    if isinstance(error.filename, str | bytes):
        return UserError(f"{os.fsdecode(error.filename)}: {_reason(error)}; {_remedy(error)}")
    remedy = _remedy(error) if error.errno in FULL else "repeat the command"
    return UserError(f"the system refused something ({_reason(error)}); {remedy}")


def _reason(error: OSError) -> str:
    return error.strerror or str(error) or type(error).__name__


def _remedy(error: OSError) -> str:
    if error.errno in FULL:
        return "free some space"
    return "check its permissions" if isinstance(error, PermissionError) else "check the path"


def gpu_is_full(error: Exception) -> UserError:
    """The error to raise for torch.OutOfMemoryError."""
    said = str(error).split(". ")[:2]  # What follows is advice on PyTorch's allocator.
    return UserError(
        f"{'. '.join(said).rstrip('.')}; give train.memory low or train.cuda_graph false, with "
        "which a run that had begun goes on, too, or a smaller train.batch_size (a teacher: "
        "teacher.batch_size)"
    )


class Interrupted(Exception):
    """Ctrl-C, SIGTERM or SIGHUP: training stopped after a step, and its checkpoint is written.

    Args:
        stopped: Where it stopped.
        option: Option with which the command goes on; empty where repeating it is enough.
    """

    def __init__(self, stopped: str, option: str = " with --resume") -> None:
        super().__init__(f"{stopped}; repeat the command{option} to go on")
        self.stopped = stopped
