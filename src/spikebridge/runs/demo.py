"""The demo: a teacher and four ways to train a spiking student, side by side."""

from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.base.files import write_json
from spikebridge.results.compare import Row, compare
from spikebridge.results.report import write_report
from spikebridge.results.report.answer import BASELINE, gain
from spikebridge.run_folder import RunFolder
from spikebridge.runs.execute import require_workers, run_queue
from spikebridge.runs.queue import Job, Queue
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import read_recipe

METHODS = {"scratch": 7.0, "kt": 12.0, "ckd": 12.0, "ckd-plus": 35.0}
"""What is compared, and about how many seconds of a core it takes, simulating photos included."""
_TEACHER_S, _STUDENT_S = 3.0, max(METHODS.values())
_RECIPE = "demo"


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
    require_workers(workers)
    jobs = [job for seed in range(seeds) for job in _jobs(out / "runs", seed)]
    queue = _Announced(jobs, workers)
    if queue.waiting:
        console.print(f"{len(queue.waiting)} runs: {queue.left()}")
    # One thread each, so that sums are rounded alike whatever the number of processes.
    for failure in run_queue(queue, workers, threads=1):
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


def markdown_table(rows: list[Row]) -> str:
    """The demo's table for the README."""
    lines = ["| method | test top-1, % | − scratch | each seed |", "| --- | ---: | ---: | --- |"]
    for row in rows:
        seeds = ", ".join(f"{value:.1f}" for value in row.top1)
        lines.append(f"| `{row.method}` | {row.text} | {_gain(row, rows)} | {seeds} |")
    return "\n".join(lines)


class _Announced(Queue):
    """Tells each run's accuracy as it ends, and about how long the others will take.

    Args:
        jobs: Whose costs are seconds of a core, elsewhere.
        workers: Processes that take them.
    """

    def __init__(self, jobs: list[Job], workers: int) -> None:
        super().__init__(jobs)
        self._workers = workers
        # As if one run of each kind had been seen that took what it is expected to.
        self._seen = {"teacher": (_TEACHER_S, _TEACHER_S), "student": (_STUDENT_S, _STUDENT_S)}

    def announce(self, job: Job) -> None:
        """One row of a table that grows."""
        top1 = RunFolder(job.folder).result()["test_top1"]
        method = job.kind if job.kind == "teacher" else job.config.method
        console.print(
            f"{method:<9} seed {job.config.seed}  {top1:5.1f} %  {self}, {self.left()}",
            soft_wrap=True,
            highlight=False,
        )

    def left(self) -> str:
        """How long what is waiting and running will take."""
        if not self._began and not self.waiting:
            return "finished"
        seconds = self.seconds_left(self._workers) or 0.0
        return f"about {seconds / 60:.0f} min left" if seconds >= 90 else "about a minute left"


def _jobs(runs: Path, seed: int) -> list[Job]:
    """The teacher and every method with one seed, on the same split."""

    def config(method: str) -> Config:
        return config_from(read_recipe(_RECIPE, method) | {"seed": seed}, _RECIPE)

    teacher = Job("teacher", config("ckd"), runs / f"teacher-seed{seed}", cost=_TEACHER_S)
    students = [
        Job("student", config(method), runs / f"{method}-seed{seed}", teacher, cost)
        for method, cost in METHODS.items()
    ]
    return [teacher, *students]


def _gain(row: Row, rows: list[Row]) -> str:
    """Paired difference to the students that are trained on events alone."""
    baseline = next(other for other in rows if other.method == BASELINE)
    difference = None if row.method in ("teacher", BASELINE) else gain(row, baseline)
    return difference.text if difference else "–"


def _print_table(rows: list[Row], out: Path) -> None:
    labelled = rows[0].labelled_per_class
    table = Table(
        title=f"{labelled} labelled recordings per class",
        caption="test top-1, %, and difference to scratch, paired by seed; mean ± 95 % interval",
    )
    table.add_column("method")
    table.add_column("mean ± 95 %", justify="right")
    table.add_column("− scratch", justify="right")
    table.add_column("each seed", justify="right")
    for row in rows:
        seeds = "  ".join(f"{value:.1f}" for value in row.top1)
        table.add_row(row.method, row.text, _gain(row, rows), seeds)
    Console().print(table)
    console.print(f"curves and pictures: {out}/report.html", soft_wrap=True)
    console.print(f"numbers:             {out}/results.json", soft_wrap=True)
    console.print(
        f"classify a file:     spikebridge predict {out}/runs/ckd-plus-seed0 FILE", soft_wrap=True
    )
