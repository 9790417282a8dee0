"""Many runs in the order in which they are run: teachers first, then the longest.

A run that fails does not stop the others. What is finished is skipped and what was interrupted goes
on, so that the same call can be repeated until everything is there.
"""

import dataclasses
import os
import time
import traceback
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from rich.progress import BarColumn, TextColumn, TimeElapsedColumn

from spikebridge.base.console import console, progress
from spikebridge.base.errors import Interrupted, UserError, gpu_is_full
from spikebridge.base.files import settings_key, write_json, write_text
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.data.settings import DataConfig
from spikebridge.results.energy import energy_of_run
from spikebridge.results.retest import read_retest, retest
from spikebridge.run_folder import RunFolder
from spikebridge.runs.begin import open_run
from spikebridge.runs.train import teacher_settings, train_student, train_teacher
from spikebridge.settings.config import Config

_COUNTED = 20
_KEPT = 4
_SHOWN_NAMES = 4


@dataclass(frozen=True)
class Job:
    """One run: a teacher or a student."""

    kind: Literal["teacher", "student"]
    config: Config
    folder: Path
    teacher: "Job | None" = None
    """The teacher of a student that needs one of its own."""
    cost: float = 1.0
    """Expected duration, in any unit that all jobs share."""
    evaluate_at: tuple[tuple[str, DataConfig], ...] = ()
    """Changed data on whose test recordings the finished student is evaluated, by name."""
    energy: bool = False
    """Whether the finished student's energy is counted, too."""

    def run(self) -> None:
        """Train and evaluate, as far as it is not done yet; other kinds of work replace this.

        Raises:
            UserError: the data or the folder do not allow it.
            Interrupted: Ctrl-C.
        """
        if not is_finished(self):
            data, resume = data_of(self), RunFolder(self.folder).is_interrupted
            if self.kind == "teacher":
                train_teacher(self.config, data, self.folder, resume=resume)
            else:
                train_student(
                    self.config,
                    data,
                    self.folder,
                    teacher_folder=self.teacher_folder,
                    teacher_config=self.teacher and self.teacher.config,
                    resume=resume,
                )
        for name, data in self.evaluate_at:
            retest(self.folder, name, data)
        if self.energy and "student" not in RunFolder(self.folder).energy():
            _count_energy(self)

    @property
    def teacher_folder(self) -> Path:
        """Where a student's teacher is, or is trained where no job does that."""
        return self.teacher.folder if self.teacher else self.folder / "teacher"


def cores() -> int:
    """Number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def data_of(job: Job) -> PreparedData:
    """A job's prepared data; the last few are kept, for runs that differ in method only.

    Raises:
        UserError: the data cannot be prepared.
    """
    return prepared(needed_by(job)[0])


def _count_energy(job: Job) -> None:
    """Count, or note why that cannot be done; then the next call counts again."""
    teacher = job.teacher.folder if job.teacher else None
    try:
        report = energy_of_run(job.folder, limit=_COUNTED, teacher_folder=teacher).as_json()
    except UserError as error:
        report = {"missing": str(error)}
    write_json(RunFolder(job.folder).energy_file, report)


def attempt(job: Job) -> str | None:
    """Run a job; None, or in one line why it failed.

    Raises:
        Interrupted: Ctrl-C.
    """
    try:
        job.run()
    except Interrupted:
        raise
    except UserError as error:
        return str(error)
    except torch.OutOfMemoryError as error:
        return str(gpu_is_full(error))
    except Exception as error:
        # A study of many hours must not end by one run's mistake, nor hide it.
        with suppress(UserError):
            write_text(RunFolder(job.folder).failure_file, traceback.format_exc())
        words = " ".join(f"{type(error).__name__}: {error}".split())
        return f"{words[:200]} ({RunFolder(job.folder).failure_file})"
    RunFolder(job.folder).failure_file.unlink(missing_ok=True)
    return None


def is_finished(job: Job) -> bool:
    """Whether the run is trained and its result is there.

    Raises:
        UserError: the folder holds a run with other settings, or a damaged one.
    """
    config = teacher_settings(job.config) if job.kind == "teacher" else job.config
    return open_run(job.folder, config, shared=True) is not None


def is_complete(job: Job) -> bool:
    """Whether nothing is left to do: trained, evaluated wherever it is to be, and counted.

    Raises:
        UserError: as `is_finished`.
    """
    retested = (read_retest(job.folder, *change) is not None for change in job.evaluate_at)
    counted = not job.energy or "student" in RunFolder(job.folder).energy()
    return is_finished(job) and counted and all(retested)


class _Taken(NamedTuple):
    """A job under way."""

    job: Job
    at: float
    """When it was taken, by the monotonic clock."""
    whole: bool
    """Whether nothing of it was there: the clock sees all of it, not the last part."""


class Queue:
    """What is waiting, and how what was tried ended.

    Args:
        jobs: All; those that are finished are ended at once.
    """

    def __init__(self, jobs: Sequence[Job]) -> None:
        self.ended: dict[Path, str | None] = {}
        self.waiting: list[Job] = []
        self.jobs, self.total = jobs, len(jobs)
        self._began: dict[Path, _Taken] = {}
        self._seen: dict[str, tuple[float, float]] = {}
        """Cost of the whole runs that ended well, and the seconds that they took, by kind."""
        for job in sorted(jobs, key=lambda job: (job.kind == "student", -job.cost)):
            try:
                done = is_complete(job)
            except UserError as error:
                self.ended[job.folder] = str(error)
                continue
            if done:
                self.ended[job.folder] = None
            else:
                self.waiting.append(job)
        self._skip_without_teacher()

    def take(self) -> Job | None:
        """The next job whose teacher, if it needs one, is trained."""
        for job in self.waiting:
            if job.teacher is None or job.teacher.folder in self.ended:
                self.waiting.remove(job)
                return self._begun(job)
        return None

    def _begun(self, job: Job) -> Job:
        """A job that is taken; the clock starts."""
        run = RunFolder(job.folder)
        whole = not (run.is_interrupted or run.is_finished)
        self._began[job.folder] = _Taken(job, time.monotonic(), whole)
        return job

    def end(self, job: Job, failure: str | None) -> None:
        """Note how a job ended, also one that could not begin."""
        self.ended[job.folder] = failure
        taken = self._began.pop(job.folder, None)
        if failure is None and taken is not None and taken.whole:
            cost, seconds = self._seen.get(job.kind, (0.0, 0.0))
            self._seen[job.kind] = cost + job.cost, seconds + time.monotonic() - taken.at
        if failure is not None:
            console.print(f"{job.folder}: failed: {failure}", soft_wrap=True, markup=False)
        self._skip_without_teacher()

    def announce(self, job: Job) -> None:
        """Say that a job is done."""
        console.print(f"{job.folder}: done, {self}", soft_wrap=True, markup=False)

    def seconds_left(self, workers: int) -> float | None:
        """How long what is waiting and running will take, by what runs of the kind have taken.

        Args:
            workers: Number of runs that go on side by side.

        Returns:
            Seconds; None where no run of a kind that is still to do has ended.
        """
        now = time.monotonic()
        under_way = [(taken.job, taken.at) for taken in self._began.values()]
        jobs = [*((job, now) for job in self.waiting), *under_way]
        pace = {kind: seconds / cost for kind, (cost, seconds) in self._seen.items()}
        if any(job.kind not in pace for job, _ in jobs):
            return None
        left = (max(0.0, job.cost * pace[job.kind] - (now - began)) for job, began in jobs)
        return sum(left) / workers

    def _skip_without_teacher(self) -> None:
        for job in list(self.waiting):
            failure = job.teacher and self.ended.get(job.teacher.folder)
            if failure:
                self.waiting.remove(job)
                self.ended[job.folder] = f"its teacher failed: {failure}"

    def __str__(self) -> str:
        failed = sum(failure is not None for failure in self.ended.values())
        done = f"{len(self.ended) - failed} of {self.total} runs done"
        return done + (f", {failed} failed" if failed else "")


@contextmanager
def show_progress(queue: Queue) -> Iterator[Callable[[list[Job]], None]]:
    """One bar for all; yields what updates it with the jobs that are running."""
    bar = progress(
        TextColumn("{task.fields[note]}"),
        BarColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        TextColumn("{task.fields[running]}", markup=False),
    )
    costs = {job.folder: job.cost for job in queue.waiting}
    with bar:
        shown = bar.add_task("", total=sum(costs.values()), note=str(queue), left="", running="")

        def show(running: list[Job]) -> None:
            names = [job.folder.name for job in running]
            more = f" and {len(names) - _SHOWN_NAMES} more" if len(names) > _SHOWN_NAMES else ""
            done = sum(cost for folder, cost in costs.items() if folder in queue.ended)
            seconds = queue.seconds_left(max(1, len(running)))
            bar.update(
                shown,
                completed=done,
                note=str(queue),
                left="" if seconds is None else f"{timedelta(seconds=round(seconds))} left",
                running=", ".join(names[:_SHOWN_NAMES]) + more,
            )

        yield show


Needed = tuple[DataConfig, int, bool]
_data: OrderedDict[str, PreparedData] = OrderedDict()


def needed_by(job: Job) -> list[Needed]:
    """What is prepared for a job, its own data first: settings, seed, are photos simulated."""
    simulated = job.kind == "student" and job.config.needs_simulated_source
    changed = [(data, job.config.seed, False) for _, data in job.evaluate_at]
    return [(job.config.data, job.config.seed, simulated), *changed]


def prepared(needed: Needed) -> PreparedData:
    """The data of such settings, which are kept for a while.

    Raises:
        UserError: they cannot be prepared.
    """
    data, seed, simulated = needed
    key = settings_key(dataclasses.asdict(data), seed, simulated)
    if key not in _data:
        _data[key] = prepare(data, seed, simulated_source=simulated)
    _data.move_to_end(key)
    while len(_data) > _KEPT:
        _data.popitem(last=False)
    return _data[key]
