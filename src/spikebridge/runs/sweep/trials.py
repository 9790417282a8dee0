"""The trials that are still to be run, shared with other commands on the same storage."""

import dataclasses
from pathlib import Path
from typing import IO, Any

import numpy as np
import optuna
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial, TrialState

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.base.locks import locked, try_lock
from spikebridge.runs.queue import Job, Queue
from spikebridge.runs.sweep.spec import Sweep
from spikebridge.runs.sweep.storage import STORAGE, distribution, refusing_failures, trial_id
from spikebridge.runs.sweep.trial import TrialJob

FAILURE = "failure"
"""A trial's attribute: in one line why it failed."""


class Trials(Queue):
    """What `pool` takes jobs from: trials as the sampler proposes them, up to a number of them.

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
        self._epochs = sweep.base.train.epochs
        self._claims: dict[Path, IO[str]] = {}
        with locked(folder):
            self._fail_dead()
            there = study.get_trials(deepcopy=False)
        left = wanted - sum(map(counts, there))
        expected = range(len(there), len(there) + left)
        self.waiting = [Job("student", sweep.base, self._of(number)) for number in expected]

    def take(self) -> Job | None:
        """A trial that the sampler proposes, or None where enough are done or under way."""
        with refusing_failures(self._folder / STORAGE):
            while (proposed := self._propose()) is not None:
                number, values = proposed
                try:
                    return self._job(number, values)
                except UserError as error:  # Each value is valid, but not all of them together.
                    folder = self._of(number)
                    console.print(f"{folder}: failed: {error}", soft_wrap=True, markup=False)
                    self._fail(number, str(error))
                    self._release(folder)
        return None

    def _propose(self) -> tuple[int, dict[str, Any]] | None:
        with locked(self._folder):
            self._fail_dead()
            trials = self._study.get_trials(deepcopy=False)
            if sum(map(counts, trials)) >= self.total:
                return None
            # Seeded by trial: a repeated command must not draw the first proposals again.
            seed = np.random.SeedSequence([self._sweep.sampler_seed, len(trials)])
            self._study.sampler = optuna.samplers.TPESampler(seed=int(seed.generate_state(1)[0]))
            trial = self._study.ask({one.name: distribution(one) for one in self._sweep.space})
            folder = self._of(trial.number)
            claim = try_lock(folder)
            assert claim is not None
            self._claims[folder] = claim
        values = {one.name: one.value(trial.params[one.name]) for one in self._sweep.space}
        return trial.number, values

    def end(self, job: Job, failure: str | None) -> None:
        """Note that a trial failed, unless it told the storage itself how it ended."""
        super().end(job, failure)
        assert isinstance(job, TrialJob)
        with refusing_failures(self._folder / STORAGE):
            if failure is not None:
                self._fail(job.number, failure)
        self._release(job.folder)

    def close(self) -> None:
        """Fail the trials that are still under way: they were stopped."""
        for folder in list(self._claims):
            self._fail(int(folder.name))
            self._release(folder)

    def __str__(self) -> str:
        trials = self._study.get_trials(deepcopy=False)
        done = [one for one in trials if counts(one) and one.state.is_finished()]
        pruned = sum(one.state == TrialState.PRUNED for one in done)
        values = [one.value for one in done if one.state == TrialState.COMPLETE]
        best = max((value for value in values if value is not None), default=None)
        words = f"{len(done)} of {self.total} trials done"
        words += f", {pruned} pruned" if pruned else ""
        return words + ("" if best is None else f", best {best:.1f} %")

    def _job(self, number: int, values: dict[str, Any]) -> TrialJob:
        folder, config = self._of(number), self._sweep.config(values)
        runs = tuple(
            Job(
                "student",
                dataclasses.replace(config, seed=seed),
                folder / f"trial{number}-seed{seed}",
                self._teachers.get(seed),
            )
            for seed in self._sweep.seeds
        )
        return TrialJob(
            "student",
            config,
            folder,
            number=number,
            runs=runs,
            sweep_folder=self._folder,
            epochs=self._epochs,
        )

    def _of(self, number: int) -> Path:
        return self._folder / "trials" / f"{number:04d}"

    def _fail(self, number: int, failure: str | None = None) -> None:
        if failure is not None:
            trial = trial_id(self._storage, number)
            if self._storage.get_trial(trial).state.is_finished():
                return
            self._storage.set_trial_user_attr(trial, FAILURE, failure)
        self._study.tell(number, state=TrialState.FAIL, skip_if_finished=True)

    def _fail_dead(self) -> None:
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            if (claim := try_lock(self._of(trial.number))) is not None:
                self._fail(trial.number)
                claim.close()

    def _release(self, folder: Path) -> None:
        self._claims.pop(folder).close()


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those that were wanted: not one whose process was stopped."""
    return trial.state != TrialState.FAIL or FAILURE in trial.user_attrs
