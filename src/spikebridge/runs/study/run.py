"""A study from its file to its table; a repeated call goes on where the last one stopped."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal

from spikebridge.base.errors import UserError
from spikebridge.runs.execute import require_workers, run_jobs
from spikebridge.runs.study.cluster import run_on_cluster
from spikebridge.runs.study.curves import write_curves
from spikebridge.runs.study.figures import write_figures
from spikebridge.runs.study.hard import read_tested
from spikebridge.runs.study.leak import read_leaks
from spikebridge.runs.study.page import update_page
from spikebridge.runs.study.plan import plan
from spikebridge.runs.study.spec import Study
from spikebridge.runs.study.table import ArmRow, make_rows, read_outcomes
from spikebridge.runs.study.write import write_tables

Executor = Literal["processes", "slurm", "local"]


def run_study(
    study: Study,
    out: Path,
    *,
    workers: int,
    executor: Executor = "processes",
    slurm: Sequence[str] = (),
    only: Sequence[str] = (),
    page: Path | None = None,
    command: str = "spikebridge study",
) -> list[ArmRow]:
    """Run what is not finished, then write table, figures and page.

    Args:
        study: What is compared.
        out: Folder of the runs, the tables that `write_tables` writes, and SVG figures.
        workers: Processes of this machine that train side by side.
        executor: `processes` here; `slurm`, or `local` to try that without a cluster, by submitit.
        slurm: KEY=VALUE for submitit's ``update_parameters``.
        only: Arms to run now; the table holds all.
        page: A Markdown file that shows table and figures between two comments.
        command: How to repeat it, for the page.

    Returns:
        The table.

    Raises:
        UserError: workers is not positive, an unknown arm, no submitit, a page without a place for
            the study.
        Interrupted: Ctrl-C.
    """
    require_workers(workers)
    for arm in only:
        if arm not in study.arms:
            raise UserError(f"--only {arm}: no such arm; the study has {', '.join(study.arms)}")
    jobs = [one.job for one in plan(study, out, only)]
    if executor == "processes":
        ended = run_jobs(jobs, workers)
    else:
        ended = run_on_cluster(jobs, out / "submitit", executor, slurm, workers)
    failures = {job.folder: end for job, end in zip(jobs, ended, strict=True) if end is not None}
    outcomes = read_outcomes(plan(study, out), failures)
    rows = make_rows(study, outcomes)
    tested, leaks = read_tested(outcomes), read_leaks(outcomes)
    table = write_tables(study, rows, outcomes, tested, leaks, out, command)
    figures = [*write_figures(study, rows, out), *write_curves(rows, outcomes, out)]
    if page is not None:
        update_page(page, study.name, table, figures, command)
    return rows
