"""The trials that are still to be run, shared with other commands on the same storage.

A trial's process is watched by a lock, not by Optuna's heartbeat: docs/architecture.md says why.
"""

import dataclasses
from contextlib import suppress
from pathlib import Path
from typing import IO

import numpy as np
import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from spikebridge.base.errors import UserError
from spikebridge.base.locks import locked, try_lock
from spikebridge.runs.queue import Job, Queue
from spikebridge.runs.sweep.spec import Sweep
from spikebridge.runs.sweep.storage import STORAGE, distribution, refusing_failures, stored_trial
from spikebridge.runs.sweep.trial import TrialJob
from spikebridge.settings.config import Config

FAILURE = "failure"
"""A trial's attribute: in one line why it failed."""


class Trials(Queue):
    """What is run of a sweep: trials as the sampler proposes them, up to a number of them.

    A running trial's process holds a lock on its folder, so that a trial whose process has died is
    told from one that another command runs. It is failed, and another takes its place.

    Args:
        sweep: What is searched.
        folder: The sweep's folder.
        study: Its trials.
        storage: Where they are kept.
        teachers: By seed, of students that need one.
        wanted: Number of trials that end by themselves.
    """

    def __init__(
        self,
        sweep: Sweep,
        folder: Path,
        study: optuna.Study,
        storage: RDBStorage,
        teachers: dict[int, Job],
        wanted: int,
    ) -> None:
        super().__init__([])
        self._sweep, self._folder, self._study, self._storage = sweep, folder, study, storage
        self._teachers, self.total = teachers, wanted
        self._locks: dict[Path, IO[str]] = {}
        with locked(folder):
            there = self._trials_now()
        left = wanted - sum(map(counts, there))
        config = dataclasses.replace(sweep.base, seed=sweep.seeds[0])
        expected = range(len(there), len(there) + left)
        self.waiting = [Job("student", config, self._of(number)) for number in expected]

    def take(self) -> Job | None:
        """A trial that the sampler proposes, or None where enough are done or under way."""
        with refusing_failures(self._folder / STORAGE):
            while (trial := self._propose()) is not None:
                folder = self._of(trial.number)
                values = {one.name: one.value(trial.params[one.name]) for one in self._sweep.space}
                try:
                    job = self._begun(self._job(folder, self._sweep.config(values)))
                    del self.waiting[:1]  # Whichever: they stand for trials still to come.
                    return job
                except UserError as error:  # Each value is valid, but not all of them together.
                    self.end(Job("student", self._sweep.base, folder), str(error))
        return None

    def _propose(self) -> optuna.Trial | None:
        with locked(self._folder):
            trials = self._trials_now()
            if sum(map(counts, trials)) >= self.total:
                return None
            # Seeded by trial: a repeated command must not draw the first proposals again.
            seed = np.random.SeedSequence([self._sweep.sampler_seed, len(trials)])
            self._study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]))
            trial = self._study.ask({one.name: distribution(one) for one in self._sweep.space})
            folder = self._of(trial.number)
            lock = try_lock(folder)
            assert lock is not None
            self._locks[folder] = lock
            return trial

    def _job(self, folder: Path, config: Config) -> TrialJob:
        runs = tuple(
            Job(
                "student",
                dataclasses.replace(config, seed=seed),
                folder / f"trial{int(folder.name)}-seed{seed}",
                self._teachers.get(seed),
            )
            for seed in self._sweep.seeds
        )
        epochs = self._sweep.base.train.epochs
        return TrialJob(
            "student", config, folder, runs=runs, sweep_folder=self._folder, epochs=epochs
        )

    def end(self, job: Job, failure: str | None) -> None:
        """Note that a trial failed, unless it told the storage itself how it ended."""
        super().end(job, failure)
        with self._locks.pop(job.folder):
            if failure is not None:
                self._fail(job.folder, failure)

    def close(self) -> None:
        """Fail the trials that are still under way: they were stopped."""
        while self._locks:
            folder, lock = self._locks.popitem()
            with lock:
                self._fail(folder)

    def __str__(self) -> str:
        trials = self._study.get_trials(deepcopy=False)
        done = [one for one in trials if counts(one) and one.state.is_finished()]
        pruned = sum(one.state == TrialState.PRUNED for one in done)
        values = [one.value for one in done if one.state == TrialState.COMPLETE]
        best = max((value for value in values if value is not None), default=None)
        words = f"{len(done)} of {self.total} trials done"
        words += f", {pruned} pruned" if pruned else ""
        return words + ("" if best is None else f", best {best:.1f} %")

    def _of(self, number: int) -> Path:
        return self._folder / "trials" / f"{number:04d}"

    def _fail(self, folder: Path, failure: str | None = None) -> None:
        with refusing_failures(self._folder / STORAGE):
            trial = stored_trial(self._study, self._storage, int(folder.name))
            if failure is not None:
                with suppress(UpdateFinishedTrialError):
                    trial.set_user_attr(FAILURE, failure)
            self._study.tell(trial, state=TrialState.FAIL, skip_if_finished=True)

    def _trials_now(self) -> list[FrozenTrial]:
        """All trials, of which those whose process has died are failed."""
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            folder = self._of(trial.number)
            if (lock := try_lock(folder)) is not None:
                with lock:
                    self._fail(folder)
        return self._study.get_trials(deepcopy=False)


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were wanted: not one whose process was stopped."""
    return trial.state != TrialState.FAIL or FAILURE in trial.user_attrs
