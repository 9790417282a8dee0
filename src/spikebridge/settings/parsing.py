"""From plain dictionaries and command-line overrides to a checked `Config`."""

import ast
import inspect
import os
from argparse import SUPPRESS, Action, ArgumentError, ArgumentParser, Namespace
from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, get_type_hints

import yaml

from spikebridge.base.errors import UserError
from spikebridge.base.files import KeyTwice, json_text, load_yaml
from spikebridge.base.typed import checked, fitted, in_words
from spikebridge.settings.config import Config
from spikebridge.settings.presets import merge


def config_from(settings: dict[str, Any], origin: str) -> Config:
    """A checked configuration.

    Args:
        settings: Nested settings; what is left out takes its default.
        origin: File or command that they come from, for messages.

    Raises:
        UserError: an unknown key, a wrong type, or a value out of range.
    """
    try:
        return _built(Config, checked(settings, Config))
    except ValueError as error:
        raise UserError(f"{origin}: {error}; mend the setting") from error


def _built(kind: type, settings: dict[str, Any]) -> Any:
    kinds = get_type_hints(kind)
    return kind(
        **{
            name: _built(kinds[name], value) if is_dataclass(kinds[name]) else value
            for name, value in settings.items()
        }
    )


@dataclass(frozen=True)
class Setting:
    """A setting, or a group of them."""

    name: str
    """With its groups, `data.time_steps` say."""
    kind: Any
    """Its type; a dataclass for a group."""
    default: Any
    meaning: str


def settings_of(defaults: Any, prefix: str = "") -> Iterator[Setting]:
    """All settings of a dataclass, each group before what is in it.

    Args:
        defaults: The dataclass with its defaults.
        prefix: What stands before their names, with a dot at its end.
    """
    kinds, meanings = get_type_hints(type(defaults)), _meanings(type(defaults))
    for name, default in vars(defaults).items():
        yield Setting(prefix + name, kinds[name], default, meanings[name])
        if is_dataclass(default):
            yield from settings_of(default, f"{prefix}{name}.")


def _meanings(kind: type) -> dict[str, str]:
    """The docstrings of a dataclass's fields."""
    [definition] = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    return {
        ast.unparse(field.target): inspect.cleandoc(ast.literal_eval(text.value))
        for field, text in pairwise(definition.body)
        if isinstance(field, ast.AnnAssign) and isinstance(text, ast.Expr)
    }


def add_settings(parser: ArgumentParser, kind: type = Config, prefix: str = "") -> None:
    """Add every setting of a dataclass as a dotted option, `--data.time_steps` say.

    What is given comes together, nested, in the namespace's `settings`; later options win.
    """
    parser.set_defaults(settings={})
    groups: dict[str, Any] = {"": parser.add_argument_group("settings")}
    found = [*settings_of(kind(), f"{prefix}." if prefix else "")]
    for one in [Setting(prefix, kind, None, "")] * bool(prefix) + found:
        if group := is_dataclass(one.kind):
            groups[one.name] = parser.add_argument_group(one.name)
            told = "several of them, {NAME: VALUE} or a YAML file"
        else:
            default = json_text(one.default, indent=None).strip()
            told = f"{one.meaning} ({in_words(one.kind)}; default: {default})"
        groups[one.name if group else one.name.rpartition(".")[0]].add_argument(
            f"--{one.name}",
            action=_Lay,
            kind=one.kind,
            dest=one.name,
            default=SUPPRESS,
            metavar="VALUE",
            help=told.replace("%", "%%"),
        )


class _Lay(Action):
    """Lays a setting over those given before."""

    def __init__(self, kind: Any, **options: Any) -> None:
        super().__init__(**options)
        self.kind = kind

    def __call__(
        self, parser: ArgumentParser, namespace: Namespace, values: Any, option: Any = None
    ) -> None:
        name = f"--{self.dest}"
        try:
            if is_dataclass(self.kind):
                assert isinstance(self.kind, type)
                value = checked(_several(name, values), self.kind, f"{name}.")
            else:
                value = fitted(name, None if values == "null" else values, self.kind)
        except ValueError as error:
            raise ArgumentError(None, str(error)) from error
        for key in reversed(self.dest.split(".")):
            value = {key: value}
        namespace.settings = merge(namespace.settings, value)


def _several(name: str, text: str) -> dict[str, Any]:
    """Settings given as a whole, or as a YAML file."""
    try:
        if os.path.isfile(text):
            text = Path(text).read_text(encoding="utf-8")
        if isinstance(settings := load_yaml(text), dict):
            return settings
    except KeyTwice as error:
        raise ValueError(f"{name}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError):
        pass
    raise ValueError(
        f"{name} must be settings such as {{NAME: VALUE}} or a YAML file of them, not {text}"
    )
