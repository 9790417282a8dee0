"""What the pages say that the source says too: commands, settings, docstrings."""

from argparse import ArgumentParser
from collections.abc import Iterator
from dataclasses import is_dataclass
from typing import Any, Literal, get_args, get_origin

from sphinx.application import Sphinx

from spikebridge.commands import COMMANDS
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import settings_of

_COLON = "\ue000"
"""In the place of a colon while Napoleon reads."""
_SETTINGS = {name.split(".")[0] for name in Config.__dataclass_fields__}


def commands_page() -> str:
    """A section per command: usage, description, arguments."""
    return "\n\n".join(_command(name) for name in COMMANDS)


def settings_page() -> str:
    """A table per group of settings."""
    groups: dict[str, list[str]] = {}
    for setting in settings_of(Config()):
        if not is_dataclass(setting.kind):
            group = setting.name.rpartition(".")[0]
            meaning = _cell(setting.meaning) + _choices(setting.kind)
            row = f"| `{setting.name}` | `{_plain(setting.default)}` | {meaning} |"
            groups.setdefault(group, []).append(row)
    return "\n\n".join(
        f"## {f'`{group}`' if group else 'The experiment'}\n\n"
        "| setting | default | meaning |\n| --- | --- | --- |\n" + "\n".join(rows)
        for group, rows in groups.items()
    )


def _command(name: str) -> str:
    build, run = COMMANDS[name]
    parser = ArgumentParser(prog=f"spikebridge {name}")
    build(parser)
    arguments = [a for a in _arguments(parser) if a.dest.split(".")[0] not in _SETTINGS]
    lines = [f"## `{name}`", "", "```text", _usage(parser), "```", "", _paragraphs(run.__doc__)]
    if arguments:
        lines += ["", "| argument | meaning |", "| --- | --- |"]
        lines += [f"| {_name(a)} | {_cell(a.help)} |" for a in arguments]
    if len(arguments) < len(list(_arguments(parser))):
        lines += ["", "Any [setting](settings.md) can be given, too: `--train.epochs 50`."]
    return "\n".join(lines)


def _arguments(parser: ArgumentParser) -> Iterator[Any]:
    """All arguments, but for --help and groups of settings."""
    for action in parser._actions:
        if action.dest != "help" and not is_dataclass(getattr(action, "kind", None)):
            yield action


def _usage(parser: ArgumentParser) -> str:
    lines = parser.format_usage().removeprefix("usage: ").replace(" [-h]", "").strip().splitlines()
    return "\n".join(line.strip() for line in lines)


def _paragraphs(docstring: str | None) -> str:
    lines = [line.strip() for line in (docstring or "").splitlines()]
    return "\n".join(lines).strip()


def _name(action: Any) -> str:
    choices = f" {{{', '.join(map(str, action.choices))}}}" if action.choices else ""
    if not action.option_strings:
        return f"`{action.dest}{choices}`"
    value = "" if action.nargs == 0 or choices else f" {action.dest.upper()}"
    return f"`{action.option_strings[-1]}{choices or value}`"


def _choices(kind: Any) -> str:
    """Which values there are, where the type names them."""
    literals = [part for part in (kind, *get_args(kind)) if get_origin(part) is Literal]
    values = [f"`{value}`" for part in literals for value in get_args(part)]
    return f" One of {', '.join(values)}." if values else ""


def _cell(text: str | None) -> str:
    return " ".join((text or "").split()).replace("|", "\\|")


def _plain(value: Any) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return str(value).lower()
        case tuple() | list():
            return f"[{', '.join(map(_plain, value))}]"
    return str(value)


_PAGES = {"commands": commands_page, "settings": settings_page}


def _fill(app: Sphinx, name: str, source: list[str]) -> None:
    if name == "index":
        listed = source[0].split()
        rest = sorted(p.stem for p in app.srcdir.glob("*.md") if p.stem not in [*listed, name])
        source[0] = source[0].replace("ALL-OTHER-PAGES", "\n".join(rest))
    if name in _PAGES:
        source[0] += "\n" + _PAGES[name]()


def _escape(
    _app: Sphinx, kind: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Docstrings are plain text: |x| is no substitution of reStructuredText.

    Napoleon takes what stands before a colon in an attribute's text for its type; it gets none.
    """
    lines[:] = [line.replace("|", "\\|").replace("*", "\\*") for line in lines]
    if kind in ("attribute", "data", "property"):
        lines[:] = [line.replace(":", _COLON) for line in lines]


def _give_colons_back(
    _app: Sphinx, _kind: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    lines[:] = [line.replace(_COLON, ":") for line in lines]


def setup(app: Sphinx) -> dict[str, bool]:
    """Register with Sphinx."""
    app.connect("source-read", _fill)
    app.connect("autodoc-process-docstring", _escape, priority=100)
    app.connect("autodoc-process-docstring", _give_colons_back, priority=900)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
