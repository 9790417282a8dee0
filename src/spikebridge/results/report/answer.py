"""What the runs say, in words and numbers."""

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from spikebridge.data.manifest import UNKNOWN
from spikebridge.results.comparable import flat
from spikebridge.results.compare import Paired, Row, paired
from spikebridge.results.report.read import Run
from spikebridge.results.tables import MARK_MEANS, marks_of, signed, unlabelled_in_words
from spikebridge.run_folder import is_simulated
from spikebridge.settings.presets import methods, read_recipe

BASELINE = "scratch"
SUBJECTS = ("ckd", "ckd-plus")
"""What the page is about: the first of these that is there."""


def subject_of(rows: Sequence[Row]) -> Row | None:
    """The row that the page is about; None where its method is not there."""
    return next((row for method in SUBJECTS for row in rows if row.method == method), None)


def baseline_of(rows: Sequence[Row]) -> Row | None:
    """The row that the others' gains are over; None where its method is not there."""
    return next((row for row in rows if row.method == BASELINE), None)


def _title(row: Row) -> str:
    preset = methods().get(row.method)
    return (preset.title if preset else row.method) + row.name.removeprefix(row.method)


def gain(row: Row, baseline: Row) -> Paired | None:
    """Differences of the seeds that both have; None without a common seed."""
    own, other = (dict(zip(one.seeds, one.top1, strict=True)) for one in (row, baseline))
    unproved = () if row.proved and baseline.proved else row.seeds
    return paired(baseline.name, own, other, unproved)


def overlap(one: Row, other: Row) -> bool | None:
    """Whether the 95 % intervals of the two means overlap; None where one has a single seed."""
    reach = one.interval + other.interval
    return None if math.isnan(reach) else abs(one.mean - other.mean) <= reach


def answer(rows: Sequence[Row], runs: Sequence[Run]) -> str:
    """The comparison in one sentence."""
    budget = next((r.labelled for r in rows if r.method != "teacher"), "all")
    if budget == "all":
        opening = "With all training recordings labelled"
    else:
        opening = f"With {budget} labelled recording{'s' * (budget != '1')} per class"
    subject, baseline = subject_of(rows), baseline_of(rows)
    teacher = next((row for row in rows if row.method == "teacher"), None)
    of_teacher = f"the teacher on photos {teacher.text} %" if teacher else ""
    if subject is None or baseline is None:
        students = ", ".join(
            f"{_title(row)} reaches {row.text} %" for row in rows if row.method != "teacher"
        )
        if not students:
            return f"No student is among these runs; {of_teacher}."
        rest = f"; {of_teacher}" if of_teacher else ""
        return f"{opening}, {students} on the test recordings{rest}."
    same = _network(runs, subject) == _network(runs, baseline)
    return (
        f"{opening}, {_title(subject)} reaches {subject.text} % on the test recordings; "
        f"trained on events alone, {'the same' if same else 'another'} network reaches "
        f"{baseline.text} %" + (f", {of_teacher}" if of_teacher else "") + "."
    )


def verdict(rows: Sequence[Row]) -> str:
    """What the intervals allow to say about CKD against training from scratch; the best method."""
    subject, baseline = subject_of(rows), baseline_of(rows)
    if subject is None or baseline is None:
        there = {"ckd": subject, BASELINE: baseline}
        lacking = " and ".join(method for method, row in there.items() if row is None)
        return f"There is no run of {lacking} here, so CKD's gain is not measured."
    return f"{_against(subject, baseline)}{_best(rows, subject)}"


def _best(rows: Sequence[Row], subject: Row) -> str:
    """Which of three or more students has the highest mean."""
    students = [row for row in rows if row.method != "teacher"]
    if len(students) < 3:
        return ""
    best = max(students, key=lambda row: (row.mean, row is subject))
    if best is subject:
        return f" Of the {len(students)} students here {_title(best)} has the highest mean."
    return (
        f" The highest mean of the {len(students)} students here is that of "
        f"{_title(best)}: {best.text} %."
    )


def _against(subject: Row, baseline: Row) -> str:
    name = _title(subject)
    overlapping = overlap(subject, baseline)
    if overlapping is None:
        by = signed(subject.mean - baseline.mean)
        return (
            f"A single seed has no interval: the difference of {by} points may be chance. "
            "Train more seeds to know."
        )
    sentence = f"The two 95 % intervals {'overlap' if overlapping else 'do not overlap'}"
    gained = gain(subject, baseline)
    if gained is None or len(gained.seeds) < 2:
        return sentence + "; too few seeds are common to both for a paired comparison."
    if gained.alike:
        return (
            f"{sentence}. {name}'s gain is {gained.text} points on each of the {len(gained.seeds)} "
            "seeds: without scatter it has no interval. Train more seeds to know."
        )
    if gained.mean > gained.interval:
        meaning = f"the whole interval is above zero, so {name} is better here"
    elif gained.mean < -gained.interval:
        meaning = f"the whole interval is below zero, so {name} is worse here"
    else:
        meaning = "the interval includes zero, so these seeds do not tell the two apart"
    return f"{sentence}. {name}'s gain, paired by seed, is {gained.text} points: {meaning}."


def caveats(runs: Sequence[Run]) -> list[str]:
    """What a reader must know to weigh the numbers."""
    found = []
    if any(is_simulated(run.config.data, run.result) for run in runs):
        found.append("The event recordings are simulated from the photos, not made by a camera.")
    if alone := sorted(set[str]().union(*(run.manifest.events_alone for run in runs))):
        found.append(
            f"Without photos, trained on events alone and not known to a teacher: "
            f"{', '.join(alone)}."
        )
    for name in dict.fromkeys(run.name for run in runs):
        words = unlabelled_in_words([run.result for run in runs if run.name == name])
        if words is not None:
            found.append(f"{name}: {words}.")
    for mark in dict.fromkeys(mark for run in runs for mark in marks_of(run.result)):
        marked = dict.fromkeys(run.name for run in runs if mark in marks_of(run.result))
        found.append(f"{', '.join(marked)}: {mark}, so that these numbers may be too high.")
    if unproved := dict.fromkeys(r.name for r in runs if r.result.get("proved") is False):
        found.append(f"{', '.join(unproved)}: {MARK_MEANS.replace('`', '')}")
    for seed in sorted({run.seed for run in runs}):
        splits = {_split(run) for run in runs if run.seed == seed}
        if len(splits) > 1:
            found.append(f"The runs of seed {seed} were not split alike: their gain is not paired.")
    return found + _different_settings(runs)


def _network(runs: Sequence[Run], row: Row) -> Any:
    return next(run.config.student for run in runs if run.folder == row.folders[0])


def _split(run: Run) -> frozenset[tuple[str, str, str]]:
    """Who trains and tests; photos that nobody has sorted do neither, and no teacher lists them."""
    return frozenset(
        (e.kind, e.split, e.sha256) for e in run.manifest.entries if e.label != UNKNOWN
    )


def _different_settings(runs: Sequence[Run]) -> list[str]:
    """Students whose settings differ from the others' by more than the method's switches."""
    students = [run for run in runs if run.method != "teacher"]
    found = {}
    for run in students:
        reference, own = _compared(students[0]), _compared(run)
        switches = _switches(students[0].method) | _switches(run.method)
        # A setting that is a mapping in one run may be null in the other, under another name.
        pairs = {name: (own.get(name), reference.get(name)) for name in {**reference, **own}}
        differing = [
            f"{name} {value} instead of {other}"
            for name, (value, other) in pairs.items()
            if value != other and name not in switches
        ]
        if differing:
            found[run.name] = ", ".join(differing)
    return [
        f"{name} was trained with other settings than {students[0].name}: {names}."
        for name, names in found.items()
    ]


def _switches(method: str) -> set[str]:
    """Settings that a method's preset sets."""
    if method not in methods():
        return set()
    own, plain = (flat(read_recipe("digits", m)) for m in (method, BASELINE))
    return {name for name in own if own[name] != plain.get(name)}


def _compared(run: Run) -> dict[str, Any]:
    config = run.config
    parts = {"data": config.data, "student": config.student, "train": config.train}
    found = flat({name: dataclasses.asdict(part) for name, part in parts.items()})
    ignored = ("data.cache", "train.device", "train.checkpoint_minutes")
    return {name: value for name, value in found.items() if name not in ignored}
