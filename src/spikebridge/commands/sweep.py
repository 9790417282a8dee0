"""The command `sweep`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path

from spikebridge.base.errors import UserError


def _sweep_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge sweep SWEEP.yaml [--out DIR] [--trials N] [--jobs N]"
    parser.add_argument("sweep", help="a sweep file; an example is studies/sweep-digits.yaml")
    parser.add_argument("--out", type=str, help="its folder; null takes runs/sweeps/NAME")
    parser.add_argument("--trials", type=int, help="number of trials; null takes the file's")
    parser.add_argument(
        "--jobs", type=int, help="processes; null takes one for each core, at most 8 (CUDA: one)"
    )


def _sweep(given: Namespace) -> int:
    """Search settings on validation recordings, by Optuna; no test recording is read.

    Repeat the command to go on where it was interrupted or killed; several may share a folder.
    Exits 1 when no trial is complete.
    """
    try:
        import optuna  # noqa: F401
    except ImportError as error:
        raise UserError(
            "spikebridge sweep needs optuna; install it: pip install 'optuna>=4'"
        ) from error
    from spikebridge.runs.execute import default_workers
    from spikebridge.runs.sweep.run import run_sweep
    from spikebridge.runs.sweep.spec import read_sweep

    sweep = read_sweep(Path(given.sweep))
    out = Path(given.out) if given.out else Path("runs/sweeps") / sweep.name
    report = run_sweep(
        sweep,
        out,
        workers=default_workers([sweep.base.train.device]) if given.jobs is None else given.jobs,
        trials=given.trials,
        command=f"spikebridge sweep {given.sweep}",
    )
    print(report.text, end="")
    return 0 if report.best else 1


COMMANDS = {
    "sweep": (_sweep_arguments, _sweep),
}
