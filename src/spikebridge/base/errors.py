"""Errors that a user can mend."""


class UserError(Exception):
    """Bad input: one line that says what is wrong, where, and what to do.

    The command prints the line without a traceback and exits with code 2.
    """

    def __str__(self) -> str:
        """One line, even where a file name in it has several."""
        return " ".join(super().__str__().splitlines())


def gpu_is_full(error: Exception) -> UserError:
    """The error to raise for torch.OutOfMemoryError."""
    said = str(error).split(". ")[:2]  # What follows is advice on PyTorch's allocator.
    return UserError(
        f"{'. '.join(said).rstrip('.')}; give a smaller train.batch_size (a teacher: "
        "teacher.batch_size), or train.memory low"
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
