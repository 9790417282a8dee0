"""The audit's verdict on every run of the page."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from spikebridge.data.collection import cache_folder
from spikebridge.data.settings import DataConfig
from spikebridge.results.audit import Audit, audit
from spikebridge.results.report.read import Run
from spikebridge.run_folder import RunFolder

_WORDS = {
    "clean": "clean: nothing held out was seen in training",
    "unproved": "unproved: no leak found, but none can be excluded",
    "allowed": "not clean: training saw what tests, as the protocol allows and the figures say",
    "leak": "LEAK: training saw something that validates or tests",
}


@dataclass(frozen=True)
class Verdicts:
    """Audits by name and seed."""

    audits: dict[tuple[str, int], Audit]

    @property
    def counts(self) -> list[tuple[str, int, str]]:
        """Verdict, number of runs, and what it means; the worst first."""
        counted = Counter(found.verdict for found in self.audits.values())
        order = ("leak", "unproved", "allowed", "clean")
        return [(name, counted[name], _WORDS[name]) for name in order if counted[name]]

    @property
    def leaks(self) -> list[tuple[str, str, int]]:
        """Each run with a leak, its first leak in words, and the number of the further ones."""
        return [
            (f"{method}, seed {seed}", str(found.leaks[0]), len(found.leaks) - 1)
            for (method, seed), found in self.audits.items()
            if found.leaks
        ]

    @property
    def doubts(self) -> list[str]:
        """Why leaks cannot be excluded, each reason once."""
        return list(dict.fromkeys(d for found in self.audits.values() for d in found.unproved))


def verdicts(runs: Sequence[Run]) -> Verdicts:
    """Audit every run.

    Raises:
        UserError: a run's manifest is damaged.
    """
    return Verdicts(
        {
            (run.name, run.seed): audit(
                run.folder, cache_folder(DataConfig(cache=RunFolder(run.folder).cache()))
            )
            for run in sorted(runs, key=lambda run: (run.name, run.seed))
        }
    )
