"""Runs as jobs of a cluster, by submitit."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import yaml

from spikebridge.base.console import console
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.base.hooks import folders, look_in
from spikebridge.runs.queue import Job, Queue, attempt, show_progress
from spikebridge.training.loop import StopOnInterrupt

_LOOK_EVERY_S = 1.0
_DAY_MIN = 24 * 60


def run_on_cluster(
    jobs: Sequence[Job],
    folder: Path,
    cluster: Literal["slurm", "local"],
    parameters: Sequence[str],
    at_once: int,
) -> list[str | None]:
    """Submit each run as a job of its own, students once their teacher is trained; wait for all.

    Args:
        jobs: As `run_jobs` takes them.
        folder: Where submitit keeps jobs and logs; all machines must see it, and the runs.
        cluster: `local` runs the same jobs on this machine.
        parameters: KEY=VALUE for submitit's ``update_parameters``.
        at_once: Number of jobs under way at a time where the cluster is `local`.

    Returns:
        For each job None, or in one line why it failed.

    Raises:
        UserError: submitit is not installed, there is no Slurm here, or it refuses a parameter.
        Interrupted: Ctrl-C; what was submitted is cancelled, and goes on from its last checkpoint.
    """
    queue = Queue(jobs)
    executor = _executor(folder, cluster, parameters)
    most = at_once if cluster == "local" else len(jobs)
    running: list[tuple[Job, Any]] = []
    with show_progress(queue) as show, StopOnInterrupt() as stop:
        try:
            while not stop.requested:
                while len(running) < most and (job := queue.take()) is not None:
                    running.append((job, executor.submit(_attempt, job, folders())))
                    console.print(f"{job.folder}: submitted as {running[-1][1].job_id}")
                if not running:
                    return [queue.ended[job.folder] for job in jobs]
                show([job for job, _ in running])
                time.sleep(_LOOK_EVERY_S)
                for job, submitted in [one for one in running if one[1].done()]:
                    running.remove((job, submitted))
                    queue.end(job, _answer(submitted))
                    console.print(f"{job.folder}: ended, {queue}", soft_wrap=True, markup=False)
        finally:
            for _, submitted in running:
                submitted.cancel()
    raise Interrupted(f"stopped, {queue}", option="")


def _attempt(job: Job, hooks_in: Sequence[str]) -> str | None:
    """`attempt` in a process that has read no recipe."""
    for folder in hooks_in:
        look_in(folder)
    return attempt(job)


def _answer(submitted: Any) -> str | None:
    from submitit.core.utils import FailedJobError, UncompletedJobError

    try:
        return submitted.result()
    except (FailedJobError, UncompletedJobError) as error:
        last = " ".join(str(error).split())[-200:]
        return f"job {submitted.job_id} did not end well: {last} ({submitted.paths.stderr})"


def _executor(folder: Path, cluster: str, parameters: Sequence[str]) -> Any:
    try:
        import submitit
    except ImportError as error:
        raise UserError(
            f"--executor {cluster} needs submitit; install it: pip install 'submitit>=1.5'"
        ) from error
    given = dict(_parameter(text) for text in parameters)
    try:
        executor = submitit.AutoExecutor(folder=folder, cluster=cluster)
        executor.update_parameters(**{"timeout_min": _DAY_MIN, "name": "spikebridge", **given})
    except (RuntimeError, NameError, ValueError, TypeError, AssertionError) as error:
        words = " ".join(str(error).split())[:200]
        raise UserError(f"--executor {cluster}: {words}; see submitit's parameters") from error
    return executor


def _parameter(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not (equals and key):
        raise UserError(f"--slurm takes KEY=VALUE such as slurm_partition=gpu, got {text!r}")
    try:
        return key, yaml.safe_load(value)
    except yaml.YAMLError:
        return key, value
