"""A command whose runs stop for good once they have logged, so that it is killed in the midst of
them whatever the machine: ``python held.py FOLDER study STUDY.yaml …``. FOLDER gets a file for each
process that holds.
"""

import os
import runpy
import subprocess
import sys
import threading
from pathlib import Path
from unittest import mock

WORKER = "spikebridge.runs.worker"


def hold_at_the_first_log(folder: Path) -> None:
    """Have this process write its first records, say so, and wait until it is killed."""
    from spikebridge.training.record import Recorder

    def flush(recorder: Recorder) -> None:
        written = original(recorder)
        if recorder._path.stat().st_size:
            (folder / str(os.getpid())).touch()
            threading.Event().wait()
        return written

    original, Recorder.flush = Recorder.flush, flush


def _start(command: list[str], **options: object) -> subprocess.Popen:
    if WORKER in command:
        place = command.index(WORKER)
        command = [*command[: place - 1], __file__, sys.argv[1], *command[place:]]
    return _popen(command, **options)  # pyright: ignore[reportCallIssue, reportArgumentType]


_popen = subprocess.Popen

if __name__ == "__main__":
    where = Path(sys.argv[1])
    if sys.argv[2] == WORKER:
        hold_at_the_first_log(where)
        sys.argv = sys.argv[2:]
        runpy.run_module(WORKER, run_name="__main__")
    else:
        from spikebridge.cli import main
        from spikebridge.runs import workers as pool

        with mock.patch.object(pool.subprocess, "Popen", _start):
            sys.exit(main(sys.argv[2:]))
