"""From plain dictionaries and command-line overrides to a checked `Config`."""

import re
from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from spikebridge.base.errors import UserError
from spikebridge.settings.config import Config
from spikebridge.settings.presets import check_keys

set_parsing_settings(docstring_parse_attribute_docstrings=True)


@cache
def _parser() -> ArgumentParser:
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    return parser


def add_settings(parser: ArgumentParser, kind: type = Config, prefix: str | None = None) -> None:
    """Add every setting of a dataclass as a dotted option, `--data.time_steps` say."""
    parser.add_class_arguments(kind, prefix, fail_untyped=True)


def config_from(settings: dict[str, Any], origin: str) -> Config:
    """A checked configuration.

    Args:
        settings: Nested settings; what is left out takes its default.
        origin: File or command that they come from, for messages.

    Raises:
        UserError: an unknown key, a wrong type, or a value out of range.
    """
    check_keys(settings, Config, origin)
    try:
        parsed: Namespace = _parser().parse_object(settings)
        return Config(**vars(_parser().instantiate(parsed)))
    except (ArgumentError, ValueError, TypeError) as error:
        raise UserError(f"{origin}: {one_line(error)}; mend the setting") from error


def one_line(error: BaseException) -> str:
    """A parser's message without line breaks, in words of people who write no Python."""
    words = " ".join(str(error).split()).replace("Parser key ", "")
    if no_settings := _NO_SETTINGS.search(words):
        key, value = no_settings["key"], no_settings["value"]
        return f"{key} must be settings such as {{NAME: VALUE}} or a YAML file of them, not {value}"
    if (found := _WRONG_TYPE.fullmatch(words)) is None:
        return words[:300]
    key, expected, value = found["key"], found["subtypes"] or found["type"], found["value"]
    value = "null" if value == "None" else value
    kinds = [_kind(kind) for kind in _TYPE.finditer(expected)]
    if not kinds:
        return words[:300]
    remedy = _QUOTES if key in ("data.exclude", "data.events_alone") else ""
    return f"{key} must be {' or '.join(kinds)}, not {value}"[:300] + remedy


_QUOTES = """: write class names as a list and in quotes, '["8", "yes"]'"""
"""YAML takes some for numbers, dates or truth values, and what they looked like is lost then."""
_WRONG_TYPE = re.compile(
    r""".*"(?P<key>[\w.]+)"(?:\ element\ \d+)?:\ .*?
    (?:Subtypes:\ \[(?P<subtypes>.*)\]\ Errors:.*Given\ value:
    |Expected\ an?\ (?P<type>.*?)\.\ Got\ value:)\ (?P<value>.*)""",
    re.VERBOSE,
)
"""How jsonargparse refuses a value; within settings given as a whole, the last key is the one."""
_NO_SETTINGS = re.compile(r'"(?P<key>[\w.]+)": Unable to load config "(?P<value>.*)"$')
_TYPE = re.compile(
    r"<class '(?P<name>\w+)'>|Literal\[(?P<choices>.*?)\]|tuple\[(?P<items>.*?)\]"
    r"|tuple with (?P<count>\d+)|(?P<mapping>dict)\["
)
_KINDS = {"float": "a number", "int": "a whole number", "bool": "true or false", "str": "text",
          "NoneType": "null", "list": "a list", "tuple": "a list", "dict": "settings"}  # fmt: skip


def _kind(type_: re.Match[str]) -> str:
    if type_["choices"]:
        return "one of " + type_["choices"].replace("'", "")
    if type_["items"] or type_["count"]:
        return f"a list of {type_['count'] or len(type_['items'].split(','))}"
    name = type_["name"] or type_["mapping"]
    return _KINDS.get(name, name)
