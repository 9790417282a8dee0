"""The demo: a teacher and four ways to train a spiking student, side by side."""

import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from spikebridge.compare import Row, compare
from spikebridge.console import console
from spikebridge.data.prepared import prepare
from spikebridge.errors import UserError
from spikebridge.files import write_json
from spikebridge.recipes import read_recipe
from spikebridge.report import write_report
from spikebridge.runs import train_student, train_teacher, unfinished
from spikebridge.settings import config_from
from spikebridge.training.loop import Interrupted

METHODS = ("scratch", "kt", "naive-kd", "ckd")
_RECIPE = "digits"


def run_demo(out: Path, seeds: int) -> dict[str, Any]:
    """Train, compare and report; a repeated call goes on where the last one stopped.

    Args:
        out: Folder of the runs, ``results.json`` and ``report.html``.
        seeds: Number of repetitions, each with its own split, teacher and students.

    Returns:
        What ``results.json`` holds.

    Raises:
        UserError: seeds is not positive, or the folder holds runs with other settings.
        Interrupted: Ctrl-C.
    """
    if seeds < 1:
        raise UserError(f"--seeds must be at least 1, got {seeds}")
    started = time.monotonic()
    folders = []
    for seed in range(seeds):
        try:
            folders += _train_all(out / "runs", seed)
        except Interrupted as stop:
            raise Interrupted(stop.stopped, option="") from stop
        console.print(f"seed {seed} done after {time.monotonic() - started:.0f} s")
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


def _train_all(runs: Path, seed: int) -> list[Path]:
    """The teacher and every method with one seed, on the same split."""

    def config(method: str):
        return config_from(read_recipe(_RECIPE, method) | {"seed": seed}, _RECIPE)

    ckd = config("ckd")
    data = prepare(ckd.data, seed)
    teacher = runs / f"teacher-seed{seed}"
    train_teacher(ckd, data, teacher, resume=unfinished(teacher))
    folders = [teacher]
    for method in METHODS:
        folder = runs / f"{method}-seed{seed}"
        train_student(
            config(method), data, folder, teacher_folder=teacher, resume=unfinished(folder)
        )
        folders.append(folder)
    return folders


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
