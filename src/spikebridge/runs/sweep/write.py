"""What a sweep leaves: trials.csv, best.yaml, figures, sweep.md."""

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
import yaml
from optuna.trial import TrialState

from spikebridge.base.files import json_text, write_text
from spikebridge.results.tables import Table, csv_text
from spikebridge.runs.sweep.figures import draw_history, draw_importance
from spikebridge.runs.sweep.read import TrialRow, read_trial
from spikebridge.runs.sweep.space import nested
from spikebridge.runs.sweep.spec import Sweep
from spikebridge.runs.sweep.trials import FAILURE

_FEWEST = 5
_SHOWN = 5


@dataclass(frozen=True)
class SweepReport:
    """What a sweep found."""

    trials: tuple[TrialRow, ...]
    text: str
    """Markdown."""
    best: TrialRow | None
    """Highest mean; of several, that of the lowest validation loss."""


def write_report(sweep: Sweep, study: optuna.Study, out: Path, command: str = "") -> SweepReport:
    """Write all that is known of a sweep so far.

    Args:
        sweep: What is searched.
        study: Its trials.
        out: Folder of the files.
        command: How to repeat it.
    """
    trials = tuple(read_trial(sweep, one) for one in study.get_trials(deepcopy=False))
    complete = [one for one in trials if one.value is not None]
    best = max(complete, key=_merit, default=None)
    write_text(out / "trials.csv", _csv(sweep, trials))
    pictures = []
    if best is not None:
        write_text(out / "best.yaml", best_yaml(sweep, best))
        title = "Validation top-1 of each trial, and the best so far"
        draw_history(trials, out / "history.svg", title)
        pictures.append(f"![{title}](history.svg)")
        if shares := importance(study):
            title = "Share of the variance of the results that each setting explains (fANOVA)"
            draw_importance(shares, out / "importance.svg", title)
            pictures.append(f"![{title}](importance.svg)")
        else:
            pictures.append(
                f"Importance is told from {_FEWEST} complete trials on, unless all results are "
                f"alike; {len(complete)} are complete."
            )
    text = _markdown(sweep, trials, best, pictures, command)
    write_text(out / "sweep.md", text)
    return SweepReport(trials, text, best)


def importance(study: optuna.Study) -> dict[str, float]:
    """Shares of the settings by fANOVA; empty where complete trials are too few, or all alike."""
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    if len(complete) < _FEWEST or len({one.value for one in complete}) < 2:
        return {}
    evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = optuna.importance.get_param_importances(study, evaluator=evaluator)
    return {name: share for name, share in found.items() if share == share}


def best_yaml(sweep: Sweep, best: TrialRow) -> str:
    """The best trial's settings, to be laid over the recipe."""
    where = [f"method {sweep.base.method}", f"recipe {sweep.recipe}"]
    lines = [
        f"# Sweep {sweep.name}, trial {best.number}: validation top-1 {best.value:.2f} % "
        f"(mean, {_seeds(sweep)}).",
        f"# To be laid over {', '.join(where)}; chosen without the test recordings.",
    ]
    return "\n".join(lines) + "\n" + yaml.safe_dump(nested(best.values), sort_keys=False)


def _merit(trial: TrialRow) -> tuple[float, float]:
    assert trial.value is not None
    return trial.value, -trial.notes["val_loss"]


def _csv(sweep: Sweep, trials: Sequence[TrialRow]) -> str:
    names = [setting.name for setting in sweep.space]
    by_seed = [f"val_top1_seed{seed}" for seed in sweep.seeds]
    head = ["trial", "state", "val_top1", *by_seed, "val_loss", "epochs", "running_mean", "seconds"]
    lines: list[list[Any]] = [[*head, *names, FAILURE]]
    for one in trials:
        last = one.reported[-1] if one.reported else None
        tops = one.notes.get("val_top1", [])
        lines.append(
            [one.number, one.state, _exact(one.value),
             *(_exact(top) for top in tops), *[""] * (len(by_seed) - len(tops)),
             _exact(one.notes.get("val_loss")),
             "" if last is None else last[0] + 1, _exact(last and last[1]),
             one.notes.get("seconds", ""),
             *(_word(one.values[name]) if name in one.values else "" for name in names),
             one.notes.get(FAILURE, "")]
        )  # fmt: skip
    return csv_text(lines)


def _markdown(
    sweep: Sweep,
    trials: Sequence[TrialRow],
    best: TrialRow | None,
    pictures: Sequence[str],
    command: str,
) -> str:
    counted = [(state, sum(t.state == state for t in trials)) for state in
               ("complete", "pruned", "failed", "running", "stopped")]  # fmt: skip
    own = sweep.base
    parts = [
        f"# {sweep.title}",
        f"Recipe `{sweep.recipe}`, method `{own.method}`, "
        f"{own.data.split.labelled_per_class or 'all'} labelled recordings per class, "
        f"{_seeds(sweep)}. Trials: "
        + ", ".join(f"{number} {state}" for state, number in counted if number)
        + ". Searched on validation top-1, mean over seeds, in %; no test recording was read. The "
        "best of many trials looks better on validation than it is: measure it by a study.",
    ]
    if best is None:
        parts.append("No trial is complete yet.")
    else:
        shown = sorted((t for t in trials if t.value is not None), key=_merit, reverse=True)
        shown = shown[:_SHOWN]
        head = ["setting", "searched", *(f"trial {one.number}" for one in shown)]
        lines = [["**validation top-1**", "", *(f"{one.value:.2f}" for one in shown)]]
        for setting in sweep.space:
            found = [f"`{_word(one.values[setting.name])}`" for one in shown]
            lines.append([f"`{setting.name}`", str(setting), *found])
        parts.append(Table(head, [False] * len(head), lines).markdown().rstrip())
        parts += pictures
        parts.append(f"`best.yaml`:\n\n```yaml\n{best_yaml(sweep, best)}```")
    parts += [f"Made by `{command}`."] if command else []
    return "\n\n".join(parts) + "\n"


def _seeds(sweep: Sweep) -> str:
    return f"seed{'s' * (len(sweep.seeds) > 1)} {', '.join(map(str, sweep.seeds))}"


def _exact(value: float | None) -> str:
    return "" if value is None else f"{value:.6g}"


def _word(value: Any) -> str:
    return value if isinstance(value, str) else json_text(value, indent=None).strip()
