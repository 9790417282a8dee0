"""The command `demo`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge demo [--out DIR] [--seeds N] [--jobs N]"
    parser.add_argument("--out", type=str, default="demo", help="folder of everything it makes")
    parser.add_argument("--seeds", type=int, default=5, help="number of repetitions")
    parser.add_argument(
        "--jobs", type=int, help="processes; null takes one for each core, at most 8 (CUDA: one)"
    )


def _demo(given: Namespace) -> None:
    """See CKD and its baselines at work on handwritten digits: 5 minutes, no download.

    Repeat the command to go on where it was interrupted.
    """
    from spikebridge.runs.demo import run_demo
    from spikebridge.runs.execute import default_workers

    workers = default_workers() if given.jobs is None else given.jobs
    run_demo(Path(given.out), given.seeds, workers)


COMMANDS = {
    "demo": (_demo_arguments, _demo),
}
