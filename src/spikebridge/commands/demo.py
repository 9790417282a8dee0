"""The command `demo`."""

from pathlib import Path

from jsonargparse import ArgumentParser, Namespace


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge demo [--out DIR] [--seeds N]"
    parser.add_argument("--out", type=str, default="demo", help="folder of everything it makes")
    parser.add_argument("--seeds", type=int, default=3, help="number of repetitions")


def _demo(given: Namespace) -> None:
    """See CKD and its baselines at work on handwritten digits: 5 minutes, no download.

    Repeat the command to go on where it was interrupted.
    """
    from spikebridge.demo import run_demo

    run_demo(Path(given.out), given.seeds)


COMMANDS = {
    "demo": (_demo_arguments, _demo),
}
