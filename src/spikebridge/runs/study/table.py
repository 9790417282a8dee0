"""The table of a study: means with 95 % intervals, paired differences, cost; nothing is dropped."""

import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.results.compare import Paired, in_words, interval_95, labelled_recordings, paired
from spikebridge.results.retest import read_retest
from spikebridge.results.tables import marks_of
from spikebridge.run_folder import RunFolder
from spikebridge.runs.queue import is_finished
from spikebridge.runs.study.plan import Planned
from spikebridge.runs.study.spec import Study

_RESULT_KEYS = ("protocol", "classes", "seconds", "test_top1")
NOT_RUN = "not run yet"
"""In the place of a failure's reason."""


@dataclass(frozen=True)
class Outcome:
    """One run: its result, or why there is none."""

    planned: Planned
    failure: str | None
    """None where it is finished."""
    result: dict[str, Any] = field(default_factory=dict)
    """What ``result.json`` holds."""
    energy: dict[str, Any] = field(default_factory=dict)
    """What ``energy.json`` holds."""
    labelled: tuple[int, int] | None = None
    """Fewest and most labelled recordings of a class, where a manifest split; else None."""
    tests: str = ""
    """Equal for runs with the same test recordings."""

    @property
    def energy_nj(self) -> float:
        """Energy of one recording in nanojoules; NaN where it was not counted."""
        with suppress(KeyError, TypeError, ValueError):
            return float(self.energy["student"]["nj"])
        return math.nan

    @property
    def proved(self) -> bool:
        """Whether its protocol is, as far as it says."""
        return self.result.get("proved") is not False

    def tested(self, tested_on: str | None) -> dict[str, Any]:
        """The result on its own test recordings, or on changed ones; empty without one."""
        if tested_on is None or not self.result:
            return self.result
        job = self.planned.job
        return read_retest(job.folder, tested_on, dict(job.evaluate_at)[tested_on]) or {}

    def spikes(self, tested_on: str | None) -> float:
        """Spikes per neuron and time step, averaged over layers; NaN for ANNs."""
        rates = self.tested(tested_on).get("rates")
        spiking = self.planned.job.config.student.neuron != "relu"
        return float(np.mean(list(rates.values()))) if rates and spiking else math.nan


@dataclass(frozen=True)
class ArmRow:
    """One arm on one recipe, label budget and set of test recordings."""

    recipe: str
    budget: str
    labelled: str
    """Labelled recordings per class."""
    tested_on: str | None
    """Name of the changed data; None for the run's own test recordings."""
    arm: str
    protocol: str | None
    seeds: tuple[int, ...]
    top1: tuple[float, ...]
    """Test top-1 of each finished seed, in percent."""
    failures: tuple[tuple[int, str], ...]
    """Seeds without a result, and why."""
    paired: tuple[Paired, ...]
    seconds: float
    """Mean duration of training; like the energy NaN where changed data are tested on."""
    spikes: float
    energy_nj: float
    proved: tuple[bool, ...] = ()
    """Whether each finished seed's protocol is, as far as the runs say."""
    marks: tuple[str, ...] = ()
    """What `marks_of` says of the runs."""
    uncounted: str | None = None
    """Why some run's energy could not be counted."""
    unlike: tuple[tuple[str, int], ...] = ()
    """Arm and seed of runs that it is not compared with, for they have other test recordings."""

    @property
    def mean(self) -> float:
        """Mean over finished seeds, in percent; NaN where none is."""
        return float(np.mean(self.top1)) if self.top1 else math.nan

    @property
    def interval(self) -> float:
        """Half-width of the 95 % interval of the mean (Student's t); NaN below two seeds."""
        return interval_95(self.top1)

    @property
    def name(self) -> str:
        """The arm, and what its figures must say."""
        return ", ".join([self.arm, *self.marks])


def read_outcomes(planned: Sequence[Planned], failures: dict[Path, str]) -> list[Outcome]:
    """What is in the runs' folders.

    Args:
        planned: The runs.
        failures: Why runs failed, by folder.
    """
    found, known = [], {}
    for one in planned:
        job = one.job
        failure, result, labelled = failures.get(job.folder), {}, None
        try:
            if is_finished(job):
                result = RunFolder(job.folder).result(_RESULT_KEYS)
                if job.config.data.split.manifest is not None:
                    labelled = labelled_recordings(job.folder, result, True)
            else:
                failure = failure or NOT_RUN
        except UserError as error:
            failure = failure or str(error)
        counted = RunFolder(job.folder).energy() if result else {}
        tests = _tests(job.folder, result, known) if result else ""
        found.append(Outcome(one, failure, result, counted, labelled, tests))
    return found


def _tests(folder: Path, result: dict[str, Any], known: dict[str, str]) -> str:
    """What is equal for runs with the same test recordings; known by the manifest's hash."""
    manifest = str(result.get("manifest_sha256"))
    if manifest not in known:
        known[manifest] = manifest
        with suppress(UserError):
            known[manifest] = str(sorted(RunFolder(folder).manifest().tested))
    return known[manifest]


def make_rows(study: Study, outcomes: Sequence[Outcome]) -> list[ArmRow]:
    """The table's rows, in the order of the study."""
    groups: dict[tuple[str, str, str], list[Outcome]] = {}
    for one in outcomes:
        arm = one.planned.arm
        if arm == "teacher" and len(one.planned.arms) < len(study.arms):
            own = one.planned.job.folder.name.startswith("teacher-seed")
            arm = "teacher" if own else f"teacher of {', '.join(dict.fromkeys(one.planned.arms))}"
        groups.setdefault((one.planned.recipe, one.planned.budget, arm), []).append(one)
    rows = []
    for tested_on in (None, *study.evaluate_at):
        for recipe, budget, arm in groups:
            if tested_on is None or arm in study.arms:
                baselines = {a: groups.get((recipe, budget, a), []) for a in study.against}
                members = groups[recipe, budget, arm]
                rows.append(_row((recipe, budget, tested_on, arm), members, baselines))
    return rows


def _row(
    place: tuple[str, str, str | None, str],
    members: Sequence[Outcome],
    baselines: dict[str, list[Outcome]],
) -> ArmRow:
    recipe, budget, tested_on, arm = place
    top1 = _top1(members, tested_on)
    failures = [(m.planned.seed, m.failure) for m in members if m.failure is not None]
    differences, unlike = [], []
    tests = {m.planned.seed: m.tests for m in members if m.result}
    for against, others in baselines.items():
        theirs = {o.planned.seed: o.tests for o in others if o.result}
        unlike += [(against, s) for s in tests if s in theirs and tests[s] != theirs[s]]
        others = [o for o in others if (against, o.planned.seed) not in unlike]
        unproved = {m.planned.seed for m in (*members, *others) if not m.proved}
        found = paired(against, top1, _top1(others, tested_on), unproved)
        if found and against != arm and members[0].planned.job.kind == "student":
            differences.append(found)
    done = [m for m in members if m.result]
    known = [m.labelled for m in done if m.labelled is not None]
    return ArmRow(
        recipe,
        budget,
        in_words(known) if known else members[0].planned.labelled,
        tested_on,
        arm,
        next((m.result["protocol"] for m in done), None),
        tuple(top1),
        tuple(top1.values()),
        tuple(failures),
        tuple(differences),
        _mean([m.result["seconds"] for m in done if tested_on is None]),
        _mean([m.spikes(tested_on) for m in done]),
        _mean([m.energy_nj for m in done if tested_on is None], of_all=True),
        tuple(m.proved for m in members if m.planned.seed in top1),
        next((marks_of(m.result) for m in done), ()),
        next((str(m.energy["missing"]) for m in done if "missing" in m.energy), None),
        tuple(unlike) if members[0].planned.job.kind == "student" else (),
    )


def _top1(members: Sequence[Outcome], tested_on: str | None) -> dict[int, float]:
    """Test top-1 by seed, in percent, of the runs that are finished."""
    tested = {m.planned.seed: m.tested(tested_on) for m in members}
    return {seed: result["test_top1"] for seed, result in tested.items() if result}


def _mean(values: Sequence[float], *, of_all: bool = False) -> float:
    """Of the values that are known, or NaN; of all of them: NaN where one is not known."""
    known = [value for value in values if not math.isnan(value)]
    if not known or (of_all and len(known) < len(values)):
        return math.nan
    return math.fsum(known) / len(known)
