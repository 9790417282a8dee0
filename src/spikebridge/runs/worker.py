"""The process that trains runs for `workers`: it gets jobs and answers why they failed, or None."""

import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from queue import SimpleQueue
from types import FrameType

_interrupted = threading.Event()


def _note(number: int, frame: FrameType | None) -> None:
    _interrupted.set()


if __name__ == "__main__":
    signal.signal(signal.SIGINT, _note)  # before the imports, which take seconds

import torch  # noqa: E402

from spikebridge.base.console import console  # noqa: E402
from spikebridge.base.errors import Interrupted  # noqa: E402
from spikebridge.runs.queue import attempt  # noqa: E402


def main() -> None:
    """Run jobs until there are no more, SIGINT comes or the connection closes."""
    connection = Connection(int(sys.argv[1]))
    jobs: SimpleQueue = SimpleQueue()
    threading.Thread(target=_receive, args=(connection, jobs), daemon=True).start()
    console.quiet = True
    torch.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    try:
        while (job := jobs.get()) is not None:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            if _interrupted.is_set():
                return
            failure = attempt(job)
            signal.signal(signal.SIGINT, _note)
            connection.send(failure)
    except (Interrupted, KeyboardInterrupt):
        return


def _receive(connection: Connection, jobs: SimpleQueue) -> None:
    """Pass jobs on; when nobody is there to send any, end this session's processes at once."""
    try:
        while (job := connection.recv()) is not None:
            jobs.put(job)
        jobs.put(None)
    except (EOFError, OSError):
        os.killpg(0, signal.SIGKILL)


if __name__ == "__main__":
    main()
