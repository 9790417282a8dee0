"""The command `study`."""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path


def _study_arguments(parser: ArgumentParser) -> None:
    parser.usage = (
        "spikebridge study STUDY.yaml [--out DIR] [--jobs N] [--only ARM …] [--page FILE] "
        "[--executor processes|slurm|local] [--slurm KEY=VALUE …]"
    )
    parser.add_argument("study", help="a study file; examples are in studies/")
    parser.add_argument("--out", type=str, help="its folder; null takes runs/studies/NAME")
    parser.add_argument(
        "--jobs", type=int, help="processes; null takes one for each core, at most 8 (CUDA: one)"
    )
    parser.add_argument(
        "--only", nargs="+", action="extend", default=[], help="arms to run now; others wait"
    )
    parser.add_argument(
        "--page", type=str, help="a Markdown file that shows the table between two comments"
    )
    parser.add_argument(
        "--executor",
        choices=["processes", "slurm", "local"],
        default="processes",
        help="processes of this machine, or jobs by submitit: slurm, or local to try it",
    )
    parser.add_argument(
        "--slurm",
        nargs="+",
        action="extend",
        default=[],
        help="KEY=VALUE for submitit: timeout_min=600 slurm_partition=gpu, say",
    )


def _study(given: Namespace) -> int:
    """Run a grid of recipes, label budgets, methods and seeds; one table, nothing dropped.

    Repeat the command to go on where it was interrupted or killed, and to try again what failed.
    Exits 1 when a run failed.
    """
    from spikebridge.runs.execute import default_workers
    from spikebridge.runs.study.plan import plan
    from spikebridge.runs.study.run import run_study
    from spikebridge.runs.study.spec import read_study
    from spikebridge.runs.study.table import NOT_RUN
    from spikebridge.runs.study.write import TABLE

    study = read_study(Path(given.study))
    out = Path(given.out) if given.out else Path("runs/studies") / study.name
    devices = (one.job.config.train.device for one in plan(study, out))
    workers = default_workers(devices) if given.jobs is None else given.jobs
    options = [("--out", given.out), ("--page", given.page)]
    named = [word for option in options if option[1] for word in option]
    command = shlex.join(["spikebridge", "study", given.study, *named])
    rows = run_study(
        study,
        out,
        workers=workers,
        executor=given.executor,
        slurm=given.slurm,
        only=given.only,
        page=Path(given.page) if given.page else None,
        command=command,
    )
    print((out / TABLE).read_text(encoding="utf-8"), end="")
    failed = [reason for row in rows for _, reason in row.failures if reason != NOT_RUN]
    return 1 if failed else 0


COMMANDS = {
    "study": (_study_arguments, _study),
}
