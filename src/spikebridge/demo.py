"""The demo: a teacher and four ways to train a spiking student, side by side."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spikebridge.compare import Row, compare
from spikebridge.config import Config
from spikebridge.console import console
from spikebridge.errors import UserError
from spikebridge.files import write_json
from spikebridge.jobs import Job, run_jobs
from spikebridge.recipes import read_recipe
from spikebridge.report import write_report
from spikebridge.settings import config_from

METHODS = {"scratch": 0.5, "kt": 1.0, "naive-kd": 1.0, "ckd": 1.0}
"""What is compared, and how long it takes relative to CKD."""
_RECIPE = "digits"


def run_demo(out: Path, seeds: int, workers: int = 1) -> dict[str, Any]:
    """Train, compare and report; a repeated call goes on where the last one stopped.

    Args:
        out: Folder of the runs, ``results.json`` and ``report.html``.
        seeds: Number of repetitions, each with its own split, teacher and students.
        workers: Processes that train side by side; the numbers do not depend on it.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: seeds or workers is not positive, or a run failed: the folder holds one with
            other settings, say.
        Interrupted: Ctrl-C.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    jobs = [job for seed in range(seeds) for job in _jobs(out / "runs", seed)]
    # One thread each, so that sums are rounded alike whatever the number of processes.
    for failure in run_jobs(jobs, workers, threads=1):
        if failure is not None:
            raise UserError(failure)
    folders = [job.folder for job in jobs]
    rows = compare(folders)
    results = {
        "labelled_per_class": rows[0].labelled_per_class,
        "seeds": list(range(seeds)),
        "methods": {row.method: {"test_top1": list(row.top1)} for row in rows},
    }
    write_json(out / "results.json", results)
    write_report(
        folders,
        out / "report.html",
        title="Cross knowledge distillation on handwritten digits",
        note=f"spikebridge demo --seeds {seeds}",
    )
    _print_table(rows, out)
    return results


def _jobs(runs: Path, seed: int) -> list[Job]:
    """The teacher and every method with one seed, on the same split."""

    def config(method: str) -> Config:
        return config_from(read_recipe(_RECIPE, method) | {"seed": seed}, _RECIPE)

    teacher = Job("teacher", config("ckd"), runs / f"teacher-seed{seed}")
    students = [
        Job("student", config(method), runs / f"{method}-seed{seed}", teacher, cost)
        for method, cost in METHODS.items()
    ]
    return [teacher, *students]


def _print_table(rows: list[Row], out: Path) -> None:
    labelled = rows[0].labelled_per_class
    table = Table(title=f"{labelled} labelled recordings per class", caption="test top-1, %")
    table.add_column("method")
    table.add_column("mean ± 95 %", justify="right")
    table.add_column("each seed", justify="right")
    for row in rows:
        table.add_row(row.method, row.text, "  ".join(f"{value:.1f}" for value in row.top1))
    Console().print(table)
    console.print(f"curves and pictures: {out}/report.html", soft_wrap=True)
    console.print(f"numbers:             {out}/results.json", soft_wrap=True)
    console.print(
        f"classify a file:     spikebridge predict {out}/runs/ckd-seed0 FILE", soft_wrap=True
    )
