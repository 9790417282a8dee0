"""The command `spikebridge`: parsing and calling, nothing else."""

import os
import re
import sys
import threading
from argparse import SUPPRESS, RawDescriptionHelpFormatter
from collections.abc import Sequence
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser

from spikebridge.base.errors import Interrupted, UserError, gpu_is_full
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
        The exit code: 0, 1 for a leak that the audit found, 2 for bad input, 130 for Ctrl-C.
    """
    threading.excepthook = _quiet_about_full_disks
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
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


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
        near = _near(name, list(commands))
        raise UserError(f"unknown command {name!r}{near}; see {program} --help")
    build, run = commands[name]
    command = ArgumentParser(
        prog=f"{program} {name}", description=run.__doc__, exit_on_error=False, allow_abbrev=False
    )
    build(command)
    takes_recipe = any(action.dest == "recipe" for action in command._actions)
    try:
        # A recipe's settings give way to what is given here, not to defaults.
        given = command.parse_args(rest, defaults=not takes_recipe)
    except ArgumentError as error:
        raise UserError(f"{_explained(error, command)}; see {program} {name} --help") from error
    return run(given) or 0


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


def _explained(error: ArgumentError, parser: ArgumentParser) -> str:
    """The parser's message, with options as they are typed, and the nearest one that there is."""
    from spikebridge.settings.parsing import one_line

    shown = [a for a in parser._actions if a.option_strings and a.help != SUPPRESS]
    options = {a.dest: a.option_strings[0] for a in shown}
    message = one_line(error)
    if unknown := re.search("unrecognized arguments: ([^ =]+)", message):
        if not unknown[1].startswith("-"):
            return f"unexpected argument {unknown[1]!r}"
        return f"unknown option {unknown[1]}{_near(unknown[1], list(options.values()))}"
    if unknown := re.fullmatch("Group '(.+)' does not accept option '(.+)'", message):
        setting = ".".join(unknown.groups())
        beside = [name for name in options if name.startswith(f"{unknown[1]}.")]
        return f"unknown setting {setting}{_near(setting, beside)}"
    if missing := re.search("arguments are required: (.+)$", message):
        optional = {a.dest for a in parser._actions if a.nargs == "*"}
        names = [name for name in missing[1].split(", ") if name not in optional]
        return f"missing: {', '.join(options.get(name, name) for name in names)}"
    if choice := re.search(r"invalid choice: '(.+?)' \(choose from (.+)\)$", message):
        name, known = choice[1], choice[2].replace("'", "").split(", ")
        return f"{message}{_near(name, known)}"
    if (key := message.split(" must be ")[0]) in options:
        return options[key] + message.removeprefix(key)
    return message


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""
