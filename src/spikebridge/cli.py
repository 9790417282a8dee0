"""The command `spikebridge`: parsing and calling, nothing else."""

import io
import os
import sys
import threading
from argparse import (
    Action,
    ArgumentError,
    ArgumentParser,
    ArgumentTypeError,
    Namespace,
    RawDescriptionHelpFormatter,
)
from collections.abc import Sequence
from functools import partial
from typing import Any

from spikebridge.base.errors import Interrupted, UserError, gpu_is_full, system_refused
from spikebridge.base.typed import did_you_mean, fitted
from spikebridge.commands import COMMANDS, Commands

_DESCRIPTION = """Cross Knowledge Distillation: train a spiking network on event recordings
with help from labelled photos of the same classes and from an ANN that knows them.

Start with: spikebridge demo"""


def main(
    arguments: Sequence[str] | None = None,
    commands: Commands = COMMANDS,
    program: str = "spikebridge",
    description: str = _DESCRIPTION,
) -> int:
    """Run one command.

    Args:
        arguments: What follows the program's name; None takes this process's.
        commands: What there is to run.
        program: Its name.
        description: What `--help` says of it.

    Returns:
        The exit code: 0, 1 for a leak that the audit found, 2 for bad input, 3 for a run that the
        audit found to be let see what tests, 130 for Ctrl-C.
    """
    threading.excepthook = _quiet_about_full_disks
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # A terminal need not know all letters.
            stream.reconfigure(errors="backslashreplace")
    try:
        given = list(sys.argv[1:] if arguments is None else arguments)
        return _run(given, commands, program, description)
    except UserError as error:
        return _complain(str(error), 2)
    except _out_of_memory() as error:
        return _complain(str(gpu_is_full(error)), 2)
    except Interrupted as stop:
        return _complain(str(stop), 130)
    except KeyboardInterrupt:
        return _complain("interrupted; repeat the command", 130)
    except MemoryError as error:
        reason = f" ({error})" if str(error) else ""
        return _complain(f"not enough memory{reason}; ask for less", 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        return _complain(str(system_refused(error)), 2)


def _out_of_memory() -> Any:
    """PyTorch's error where PyTorch was imported: to import it costs seconds."""
    torch = sys.modules.get("torch")
    return torch.OutOfMemoryError if torch else ()


def _quiet_about_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's writing thread also hands its error to the thread that logs."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def _complain(message: str, code: int) -> int:
    prefix = "error: " if code == 2 else ""
    if os.environ.get("RANK", "0") == "0":  # Of torchrun's processes, one speaks.
        print(f"spikebridge: {prefix}{message}", file=sys.stderr)
    return code


def _run(arguments: list[str], commands: Commands, program: str, description: str) -> int:
    name, rest = arguments[0] if arguments else "", arguments[1:]
    if name in ("-h", "--help") or not name:
        _overview(commands, program, description).print_help()
        return 0 if name else 2
    if name == "--version":
        from importlib.metadata import version

        print(version("spikebridge"))
        return 0
    if name not in commands:
        near = did_you_mean(name, commands)
        raise UserError(f"unknown command {name!r}{near}; see {program} --help")
    build, run = commands[name]
    command = _Parser(prog=f"{program} {name}", description=run.__doc__)
    build(command)
    try:
        given = _parsed(command, rest)
    except ArgumentError as error:
        words = [error.argument_name, error.message] if error.argument_name else [error.message]
        raise UserError(f"{' '.join(words)}; see {program} {name} --help") from error
    return run(given) or 0


class _Parser(ArgumentParser):
    """Refuses values in words of people who write no Python."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options, exit_on_error=False, allow_abbrev=False)
        for kind in (int, float):
            self.register("type", kind, partial(_number, kind=kind))

    def _check_value(self, action: Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            known = list(action.choices)
            raise ArgumentError(
                action,
                f"must be one of {', '.join(known)}, not {value}{did_you_mean(value, known)}",
            )


def _number(text: str, kind: type) -> Any:
    try:
        return fitted("", text, kind)
    except ValueError as error:
        raise ArgumentTypeError(str(error).strip()) from error


def _parsed(parser: ArgumentParser, arguments: list[str]) -> Namespace:
    """What is given; nothing is missing, and nothing left over."""
    needed = [action for action in parser._actions if action.required]
    for action in needed:
        action.required = False  # argparse would not tell them but in a sentence of its own.
    given, others = parser.parse_known_args(arguments)
    missing = [a for a in needed if a.nargs != "*" and getattr(given, a.dest) is None]
    if missing:
        names = ", ".join(a.option_strings[0] if a.option_strings else a.dest for a in missing)
        raise ArgumentError(None, f"missing: {names}")
    if not others:
        return given
    if not others[0].startswith("-"):
        raise ArgumentError(None, f"unexpected argument {others[0]!r}")
    option = others[0].partition("=")[0]
    known = [a.option_strings[0] for a in parser._actions if a.option_strings]
    raise ArgumentError(None, f"unknown option {option}{did_you_mean(option, known)}")


def _overview(commands: Commands, program: str, description: str) -> ArgumentParser:
    """Lists all commands."""
    told = {name: (run.__doc__ or "").splitlines()[0] for name, (_, run) in commands.items()}
    width = max(map(len, told)) + 2
    lines = [f"  {name:<{width}}{line}" for name, line in told.items()]
    parser = ArgumentParser(
        prog=program,
        usage=f"{program} COMMAND …",
        description=description + "\n\ncommands:\n" + "\n".join(lines),
        epilog=f"{program} COMMAND --help explains one command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser
