"""Recordings that no run gets right: how much of an error lies in the data, not in a run's luck."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

from spikebridge.base.errors import UserError
from spikebridge.results.tables import csv_text
from spikebridge.run_folder import RunFolder
from spikebridge.runs.study.table import Outcome

_SEEDS = 2


@dataclass(frozen=True)
class Tested:
    """What the seeds of one arm said of one test recording."""

    recipe: str
    labelled: str
    arm: str
    file: str
    label: str
    said: tuple[str, ...]
    """The class that each seed names."""

    @property
    def never_right(self) -> bool:
        """Whether each of two seeds or more is wrong."""
        return len(self.said) >= _SEEDS and self.label not in self.said


def read_tested(outcomes: Sequence[Outcome]) -> list[Tested]:
    """The recordings that students were tested on; runs without readable predictions are left out.

    Args:
        outcomes: The runs.
    """
    said: dict[tuple[str, str, str, str, str], list[str]] = {}
    for one in outcomes:
        planned = one.planned
        if not one.result or planned.job.kind != "student":
            continue
        with suppress(UserError):
            names = one.result["classes"]
            for found in RunFolder(planned.job.folder).predictions(len(names)):
                place = (planned.recipe, planned.labelled, planned.arm, found.file)
                said.setdefault((*place, names[found.label]), []).append(names[found.prediction])
    return [Tested(*place, tuple(names)) for place, names in said.items()]


def never_right(tested: Sequence[Tested]) -> str:
    """A sentence for each recipe and label budget; empty where no recording was tested twice."""
    wrong: dict[str, dict[str, list[bool]]] = {}
    for one in tested:
        if len(one.said) >= _SEEDS:
            place = f"{one.recipe}, k = {one.labelled}"
            wrong.setdefault(place, {}).setdefault(one.arm, []).append(one.never_right)
    if not wrong:
        return ""
    places = (
        f"{place}: "
        + ", ".join(f"{arm} {100 * sum(each) / len(each):.1f}" for arm, each in arms.items())
        for place, arms in wrong.items()
    )
    return (
        "Test recordings that no seed gets right, of those that two or more test, %: "
        f"{'; '.join(places)}."
    )


def as_csv(tested: Sequence[Tested]) -> str:
    """Those recordings as CSV, and what they were taken for; the most often tested first."""
    wrong = sorted((t for t in tested if t.never_right), key=lambda t: -len(t.said))
    lines = [[t.recipe, t.labelled, t.arm, t.file, t.label, "; ".join(t.said)] for t in wrong]
    return csv_text(
        [["data", "labelled_per_class", "arm", "recording", "label", "taken_for"], *lines]
    )
