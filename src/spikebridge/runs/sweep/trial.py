"""One trial: the runs of all seeds with the same settings, none of which sees a test recording."""

import dataclasses
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import mean

from optuna import TrialPruned
from optuna.trial import TrialState

from spikebridge.base.errors import UserError
from spikebridge.data.manifest import MARKS
from spikebridge.data.prepared import PreparedData
from spikebridge.run_folder import RunFolder
from spikebridge.runs.queue import Job, data_of
from spikebridge.runs.sweep.storage import opened, require_same_data, stored_trial
from spikebridge.runs.train import select_student
from spikebridge.training.evaluate import Evaluation
from spikebridge.training.loop import Best


@dataclass(frozen=True)
class TrialJob(Job):
    """A trial as it is run.

    Its ``folder`` is OUT/trials/NUMBER and ``config`` that of its first run.
    """

    runs: tuple[Job, ...] = ()
    """A student per seed; the first one's validation decides about pruning."""
    sweep_folder: Path = Path()
    epochs: int = 1
    """Epochs of the experiment before any setting is changed: what the pruner counts in."""

    def run(self) -> None:
        """Train all seeds and tell the storage their mean, or that the trial was pruned.

        Raises:
            UserError: the settings or the data do not allow it.
            Interrupted: Ctrl-C; the trial stays unfinished and is not gone on with.
        """
        began = time.monotonic()
        with opened(self.sweep_folder, self.epochs) as (study, storage):
            trial = stored_trial(study, storage, int(self.folder.name))
            seen: list[float] = []

            def judge(epoch: int, evaluation: Evaluation) -> None:
                seen.append(evaluation.top1)
                trial.report(mean(seen), epoch)
                if trial.should_prune():
                    raise TrialPruned

            found: list[Best] = []
            with suppress(TrialPruned):
                for place, run in enumerate(self.runs):
                    require_same_data(study, run.config.seed, data_of(run).manifest, self.folder)
                    found.append(_select(run, judge if place == 0 else None))
            value = mean(best.top1 for best in found) if found else None
            notes = {
                "val_top1": [best.top1 for best in found],
                "val_loss": mean(best.loss for best in found) if found else None,
                "seconds": round(time.monotonic() - began, 1),
            }
            for name, note in notes.items():
                trial.set_user_attr(name, note)
            study.tell(trial, value, TrialState.COMPLETE if found else TrialState.PRUNED)


def _select(run: Job, judge: Callable[[int, Evaluation], None] | None) -> Best:
    checkpoint = RunFolder(run.folder).checkpoint_file
    try:
        return select_student(
            run.config,
            without_test(data_of(run)),
            run.folder,
            teacher_folder=run.teacher_folder,
            teacher_config=run.teacher and run.teacher.config,
            on_evaluation=judge,
        )
    finally:
        checkpoint.unlink(missing_ok=True)  # Trials are many, and none is gone on with.


def without_test(data: PreparedData) -> PreparedData:
    """The data without the test recordings.

    Raises:
        UserError: the protocol lets training see what tests.
    """
    if data.manifest.protocol in MARKS:
        raise UserError(
            f"this split's protocol {data.manifest.protocol} lets training see what tests, which a "
            "sweep must not; choose protocol clean or few-shot"
        )
    events = {split: part for split, part in data.events.items() if split != "test"}
    return dataclasses.replace(data, events=events)
