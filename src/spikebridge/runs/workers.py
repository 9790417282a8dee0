"""Processes that train runs side by side; `worker` is what each of them executes.

A worker leads a session of its own, so that Ctrl-C in the terminal reaches this process alone, and
it ends when its connection to this process closes, whatever became of this process.
"""

import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from socket import socketpair

from spikebridge.base.errors import Interrupted
from spikebridge.runs.queue import Job, Queue, show_progress
from spikebridge.training.loop import StopOnInterrupt

_THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
_LOOK_EVERY_S = 0.2
_GRACE_S = 5.0


def run_in_processes(queue: Queue, workers: int, threads: int) -> None:
    """Run a queue's jobs in several processes, which stay for one job after the other.

    Args:
        queue: Is emptied, and told how each job ended.
        workers: Number of processes.
        threads: Threads of each.

    Raises:
        Interrupted: Ctrl-C; each run that was going on stopped after a step and wrote its
            checkpoint. A second Ctrl-C kills them (KeyboardInterrupt).
    """
    with show_progress(queue) as show, StopOnInterrupt() as stop, _Team(threads) as team:
        while True:
            if stop.requested:
                for job in team.stop():
                    queue.end(job, None)
                break
            while len(team.busy) < workers and (job := queue.take()) is not None:
                team.start(job)
            if not team.busy:
                return
            show(team.busy)
            for job, failure in team.ended():
                queue.end(job, failure)
                if failure is None:
                    queue.announce(job)
    raise Interrupted(f"stopped, {queue}", option="")


class _Team:
    """All workers; on leaving the context none is left.

    Args:
        threads: Threads of each.
    """

    def __init__(self, threads: int) -> None:
        self._environment = {**os.environ, **dict.fromkeys(_THREADS, str(threads))}
        self._idle: list[_Worker] = []
        self._busy: dict[Connection, tuple[_Worker, Job]] = {}

    @property
    def busy(self) -> list[Job]:
        """What is running."""
        return [job for _, job in self._busy.values()]

    def start(self, job: Job) -> None:
        """Give a job to an idle worker, or to a new one."""
        worker = self._idle.pop() if self._idle else _Worker(self._environment)
        self._busy[worker.connection] = worker, job
        with suppress(OSError):  # it has died; `ended` finds out
            worker.connection.send(job)

    def ended(self) -> Iterator[tuple[Job, str | None]]:
        """Jobs that ended, and why those that failed did; waits a moment for one."""
        for connection in wait(list(self._busy), _LOOK_EVERY_S):
            assert isinstance(connection, Connection)
            worker, job = self._busy.pop(connection)
            try:
                answer = connection.recv()
            except (EOFError, OSError):
                yield job, worker.died()
            else:
                self._idle.append(worker)
                yield job, answer

    def stop(self) -> list[Job]:
        """Have each worker stop after a step and wait for all; what finished in the meantime."""
        for worker, _ in self._busy.values():
            worker.process.send_signal(signal.SIGINT)
        finished = []
        while self._busy:
            finished += [job for job, failure in self.ended() if failure is None]
        return finished

    def __enter__(self) -> "_Team":
        return self

    def __exit__(self, kind: type[BaseException] | None, *rest: object) -> None:
        if kind is None:
            for worker in self._idle:
                worker.dismiss()
        for worker in (*self._idle, *(worker for worker, _ in self._busy.values())):
            worker.kill(_GRACE_S if kind is None else 0)


class _Worker:
    """One process and the connection to it."""

    def __init__(self, environment: dict[str, str]) -> None:
        ours, theirs = socketpair()
        self.connection = Connection(ours.detach())
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "spikebridge.runs.worker", str(theirs.fileno())],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._complaints,
                stderr=self._complaints,
                env={**environment, "PYTHONPATH": os.pathsep.join(sys.path)},
                start_new_session=True,
            )

    def dismiss(self) -> None:
        """Tell an idle worker to end."""
        with suppress(OSError):
            self.connection.send(None)

    def kill(self, grace_s: float) -> None:
        """End it and all that it started, some time after asking; no harm if it has ended."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(grace_s)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.connection.close()
        self._complaints.close()

    def died(self) -> str:
        """Clear up after one that ended without an answer, and say why in one line."""
        with suppress(subprocess.TimeoutExpired):
            self.process.wait(_GRACE_S)
        self._complaints.seek(0)
        lines = self._complaints.read().decode(errors="replace").split("\n")
        self.kill(0)
        code = self.process.returncode
        if code < 0:
            remedy = "; out of memory? Try fewer --jobs" if code == -signal.SIGKILL else ""
            return f"its process was killed by {signal.Signals(-code).name}{remedy}"
        last = next((line.strip() for line in reversed(lines) if line.strip()), "no message")
        return f"its process ended with code {code}: {last[:200]}"
