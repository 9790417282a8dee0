"""The command `spikebridge`: parsing and calling, nothing else."""

import os
import re
import sys
import threading
from argparse import RawDescriptionHelpFormatter
from collections.abc import Sequence

from jsonargparse import ArgumentError, ArgumentParser

from spikebridge.commands import COMMANDS
from spikebridge.errors import UserError, gpu_is_full

_DESCRIPTION = """Cross Knowledge Distillation: train a spiking network on event recordings
with help from labelled photos of the same classes and from an ANN that knows them.

Start with: spikebridge demo"""

_WITH_RECIPE = ("prepare", "calibrate", "teacher", "train", "bench")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 1 for a leak that the audit found, 2 for bad input, 130 for Ctrl-C.
    """
    import torch

    from spikebridge.training.loop import Interrupted

    threading.excepthook = _quiet_about_full_disks
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        return _complain(str(error), 2)
    except torch.OutOfMemoryError as error:
        return _complain(str(gpu_is_full(error)), 2)
    except Interrupted as stop:
        return _complain(str(stop), 130)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _quiet_about_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's writing thread also hands its error to the thread that logs."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def _complain(message: str, code: int) -> int:
    prefix = "error: " if code == 2 else ""
    if os.environ.get("RANK", "0") == "0":  # Of torchrun's processes, one speaks.
        print(f"spikebridge: {prefix}{message}", file=sys.stderr)
    return code


def _run(arguments: list[str]) -> int:
    parser = _parser()
    if not arguments:
        parser.print_help()
        return 2
    name = arguments[0]
    if name in ("-h", "--help"):
        parser.print_help()
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(version("spikebridge"))
        return 0
    if name not in COMMANDS:
        raise UserError(
            f"unknown command {name!r}{_near(name, list(COMMANDS))}; see spikebridge --help"
        )
    build, run = COMMANDS[name]
    command = ArgumentParser(
        prog=f"spikebridge {name}", description=run.__doc__, exit_on_error=False, allow_abbrev=False
    )
    build(command)
    try:
        # A recipe's settings give way to what is given here, not to defaults.
        given = command.parse_args(arguments[1:], defaults=name not in _WITH_RECIPE)
    except ArgumentError as error:
        raise UserError(f"{_explained(error, command)}; see spikebridge {name} --help") from error
    return run(given) or 0


def _parser() -> ArgumentParser:
    lines = [
        f"  {name:<10}{(run.__doc__ or '').splitlines()[0]}" for name, (_, run) in COMMANDS.items()
    ]
    parser = ArgumentParser(
        prog="spikebridge",
        usage="spikebridge COMMAND …",
        description=_DESCRIPTION + "\n\ncommands:\n" + "\n".join(lines),
        epilog="spikebridge COMMAND --help explains one command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser


def _explained(error: ArgumentError, parser: ArgumentParser) -> str:
    from spikebridge.settings import one_line

    message = one_line(error)
    unknown = "unrecognized arguments: "
    if unknown in message:
        option = message.split(unknown)[1].split()[0].split("=")[0]
        known = [s for action in parser._actions for s in action.option_strings]
        return f"unknown option {option}{_near(option, known)}"
    if choice := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)$", message):
        name, known = choice[1], choice[2].replace("'", "").split(", ")
        return f"{message}{_near(name, known)}"
    return message


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""
