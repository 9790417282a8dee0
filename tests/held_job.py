"""A run that does not end before it is told to, for tests that interrupt or kill it."""

import signal
import time
from unittest import mock

from spikebridge.runs.queue import Job
from spikebridge.training.loop import StopOnInterrupt
from spikebridge.training.tasks import StudentTask

TRAINS = "trains"
"""In the run's folder, once it has made a step and waits."""


class HeldJob(Job):
    """Makes a step, says so, and goes on when Ctrl-C or a signal asks it to stop."""

    def run(self) -> None:
        """Train; a worker imports this module and runs it."""
        original = StudentTask.losses

        def losses(task, tensors):
            result = original(task, tensors)
            (self.folder / TRAINS).touch()
            handler = signal.getsignal(signal.SIGINT)
            stop = getattr(handler, "__self__", None)
            assert isinstance(stop, StopOnInterrupt)
            while not stop.requested:
                time.sleep(0.01)
            return result

        with mock.patch.object(StudentTask, "losses", losses):
            super().run()
