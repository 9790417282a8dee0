"""Many runs, one after the other in this process or side by side in several."""

import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress

import torch
from joblib import Parallel, delayed

from spikebridge.base.console import console, progress
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.data.prepared import prepare
from spikebridge.data.settings import DataConfig
from spikebridge.runs.queue import Job, Queue, attempt, cores, needed_by, prepared
from spikebridge.runs.workers import run_in_processes

_MOST_WORKERS = 8


def default_workers(devices: Iterable[str] = ("auto",)) -> int:
    """A process for each core, at most 8; one where a CUDA device would be shared.

    Args:
        devices: Each run's ``train.device``.
    """
    shared = torch.cuda.is_available() and any(device != "cpu" for device in devices)
    return 1 if shared else min(cores(), _MOST_WORKERS)


def run_jobs(jobs: Sequence[Job], workers: int, threads: int | None = None) -> list[str | None]:
    """Run what is not finished yet.

    Args:
        jobs: In any order; a student's teacher is among them. Folders differ.
        workers: Number of processes; 1 runs all in this one.
        threads: Threads of each process; None divides the cores among the processes.

    Returns:
        For each job None, or in one line why it failed.

    Raises:
        Interrupted: Ctrl-C; whatever was running stopped after a step and wrote its checkpoint.
        UserError: workers or threads are not positive.
    """
    return run_queue(Queue(jobs), workers, threads)


def run_queue(queue: Queue, workers: int, threads: int | None = None) -> list[str | None]:
    """Run what a queue holds; arguments, result and errors are those of `run_jobs`."""
    require_workers(workers if threads is None else min(workers, threads))
    workers = min(workers, len(queue.waiting))
    if workers > 1:
        _prepare_all(queue.waiting, workers)
        run_in_processes(queue, workers, threads or max(1, cores() // workers))
    elif workers == 1:
        with _torch_threads(threads):
            _run_here(queue)
    return [queue.ended[job.folder] for job in queue.jobs]


def require_workers(workers: int) -> None:
    """Refuse a number of processes, or of threads, that is not positive.

    Raises:
        UserError: it is not.
    """
    if workers < 1:
        raise UserError(f"--jobs must be at least 1, got {workers}")


def _run_here(queue: Queue) -> None:
    while (job := queue.take()) is not None:
        try:
            failure = attempt(job)
        except Interrupted as stop:
            raise Interrupted(stop.stopped, option="") from stop
        queue.end(job, failure)
        if failure is None:
            queue.announce(job)


@contextmanager
def _torch_threads(number: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _prepare_all(jobs: Sequence[Job], workers: int) -> None:
    """Prepare data once before several processes ask for them.

    Recordings and photos one set after the other, each on all cores; then the simulated sources
    side by side, for a calibration hardly uses more than one core. What cannot be prepared fails
    again in its run, which then says so.
    """
    different = {repr(needed): needed for job in jobs for needed in needed_by(job)}
    simulated = [needed for needed in different.values() if needed[2]]
    workers = min(workers, len(simulated))
    plain = {repr((data, seed)): (data, seed, False) for data, seed, _ in different.values()}
    for needed in (plain if workers > 1 else different).values():
        with suppress(UserError):
            prepared(needed)
    if workers > 1:
        with progress() as bar, warnings.catch_warnings():
            # joblib takes the photos' memory for a leak, and a new process for the next.
            warnings.filterwarnings("ignore", "A worker stopped", UserWarning)
            shown = bar.add_task("simulating photos", total=len(simulated))
            ended = Parallel(workers, return_as="generator_unordered")(
                delayed(_prepare_quietly)(*needed, max(1, cores() // workers))
                for needed in simulated
            )
            for _ in ended:
                bar.advance(shown)


def _prepare_quietly(data: DataConfig, seed: int, simulated: bool, processes: int) -> None:
    console.quiet = True
    with suppress(UserError):
        prepare(data, seed, simulated_source=simulated, processes=processes)
