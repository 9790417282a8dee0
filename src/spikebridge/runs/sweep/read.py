"""A trial as the tables and figures of a sweep need it."""

from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from spikebridge.runs.sweep.spec import Sweep
from spikebridge.runs.sweep.trials import FAILURE

_STATES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "pruned",
    TrialState.RUNNING: "running",
}


@dataclass(frozen=True)
class TrialRow:
    """A line of the table of trials."""

    number: int
    state: str
    """complete, pruned, failed, stopped (its process ended) or running."""
    value: float | None
    """Validation top-1 in percent, mean over seeds."""
    reported: tuple[tuple[int, float], ...]
    """Epochs of the first seed, and the running mean of its validation top-1."""
    values: dict[str, Any]
    """Searched settings by dotted name."""
    notes: dict[str, Any]
    """val_top1 by seed, val_loss, seconds, failure."""


def read_trial(sweep: Sweep, trial: FrozenTrial) -> TrialRow:
    """A trial of the study's storage."""
    failed = "failed" if FAILURE in trial.user_attrs else "stopped"
    complete = trial.state == TrialState.COMPLETE
    return TrialRow(
        trial.number,
        _STATES.get(trial.state, failed),
        trial.value if complete else None,
        tuple(sorted(trial.intermediate_values.items())),
        {s.name: s.value(trial.params[s.name]) for s in sweep.space if s.name in trial.params},
        trial.user_attrs,
    )
