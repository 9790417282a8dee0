"""A sweep from its file to its report; a repeated call goes on where the last one stopped."""

import dataclasses
from contextlib import closing
from pathlib import Path

from spikebridge.base.errors import Interrupted, UserError
from spikebridge.base.files import write_text
from spikebridge.base.locks import locked
from spikebridge.runs.execute import require_workers, run_jobs, run_queue
from spikebridge.runs.queue import Job, data_of
from spikebridge.runs.study.plan import shared_teacher
from spikebridge.runs.sweep.spec import Sweep
from spikebridge.runs.sweep.storage import opened, require_same
from spikebridge.runs.sweep.trial import without_test
from spikebridge.runs.sweep.trials import Trials
from spikebridge.runs.sweep.write import SweepReport, write_report


def run_sweep(
    sweep: Sweep, out: Path, *, workers: int, trials: int | None = None, command: str = ""
) -> SweepReport:
    """Run trials until there are enough, and write the report.

    Several calls, in processes of their own, may work on the same folder.

    Args:
        sweep: What is searched.
        out: Folder of ``sweep.sqlite``, the trials, and the report.
        workers: Processes of this machine that train side by side; 1 trains in this one.
        trials: Number of trials in place of the file's.
        command: How to repeat it, for the report.

    Returns:
        What was written.

    Raises:
        UserError: workers is not positive, the folder holds another sweep, or the data or the
            teacher do not allow it.
        Interrupted: Ctrl-C.
    """
    require_workers(workers)
    wanted = sweep.trials if trials is None else trials
    if wanted < 1:
        raise UserError(f"--trials must be at least 1, got {wanted}")
    own = sweep.base
    with opened(out, own.train.epochs) as (study, storage):
        require_same(study, sweep, out)
        write_text(out / "sweep.yaml", sweep.text)
        teachers = _train_teachers(sweep, out, workers)
        for seed in sweep.seeds:
            config = dataclasses.replace(own, seed=seed)
            without_test(data_of(Job("student", config, out)))
        try:
            with closing(Trials(sweep, out, study, storage, teachers, wanted)) as queue:
                run_queue(queue, workers)
        except Interrupted:
            write_report(sweep, study, out, command)
            raise
        return write_report(sweep, study, out, command)


def _train_teachers(sweep: Sweep, out: Path, workers: int) -> dict[int, Job]:
    """The teacher of each seed, trained once for all trials; none where none can be needed."""
    own = sweep.base
    changed = [config for _, config in sweep.ends]
    if own.teacher.checkpoint or not any(one.objective.needs_teacher for one in (own, *changed)):
        return {}
    teachers = {}
    for seed in sweep.seeds:
        config = dataclasses.replace(own, seed=seed)
        shared = shared_teacher(config, config)
        teachers[seed] = Job("teacher", shared, out / f"teacher-seed{seed}")
    with locked(out / "trials"):  # Another command may train them just now.
        for failure in run_jobs(list(teachers.values()), workers):
            if failure is not None:
                raise UserError(f"the teacher of this sweep failed: {failure}")
    return teachers
