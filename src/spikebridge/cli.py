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
from spikebridge.commands import COMMANDS, GROUPS

_DESCRIPTION = """Cross Knowledge Distillation: train a spiking network on event recordings
with help from labelled photos of the same classes and from an ANN that knows them.

Start with: spikebridge demo"""

_WITH_RECIPE = ("prepare", "calibrate", "teacher", "train", "bench data", "bench run")


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code: 0, 1 for a leak that the audit found, 2 for bad input, 130 for Ctrl-C.
    """
    threading.excepthook = _quiet_about_full_disks
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
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


def _run(arguments: list[str]) -> int:
    group = arguments[0] if arguments and arguments[0] in GROUPS else ""
    words = 2 if group else 1
    name, rest = " ".join(arguments[:words]), arguments[words:]
    if name == group:
        _overview(group).print_help()
        return 2
    if arguments[words - 1] in ("-h", "--help"):
        _overview(group).print_help()
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(version("spikebridge"))
        return 0
    if name not in COMMANDS:
        known = list(_told(group))
        listed = f" (there are {', '.join(known)})" if group else _near(name, known)
        see = f"spikebridge {group}".rstrip()
        raise UserError(f"unknown command {name!r}{listed}; see {see} --help")
    build, run = COMMANDS[name]
    command = ArgumentParser(
        prog=f"spikebridge {name}", description=run.__doc__, exit_on_error=False, allow_abbrev=False
    )
    build(command)
    try:
        # A recipe's settings give way to what is given here, not to defaults.
        given = command.parse_args(rest, defaults=name not in _WITH_RECIPE)
    except ArgumentError as error:
        raise UserError(f"{_explained(error, command)}; see spikebridge {name} --help") from error
    return run(given) or 0


def _told(group: str) -> dict[str, str]:
    """What each command does, in a line: of all, or of a group."""
    told = {name: (run.__doc__ or "").splitlines()[0] for name, (_, run) in COMMANDS.items()}
    if group:
        return {name: line for name, line in told.items() if name.split()[0] == group}
    return {name: line for name, line in told.items() if " " not in name} | GROUPS


def _overview(group: str) -> ArgumentParser:
    """Lists all commands, or those of a group."""
    told = _told(group)
    width = max(map(len, told)) + 2
    lines = [f"  {name:<{width}}{line}" for name, line in told.items()]
    prog = f"spikebridge {group}".rstrip()
    parser = ArgumentParser(
        prog=prog,
        usage=f"{prog} COMMAND …",
        description=GROUPS.get(group, _DESCRIPTION) + "\n\ncommands:\n" + "\n".join(lines),
        epilog=f"{prog} COMMAND --help explains one command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    if not group:
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
