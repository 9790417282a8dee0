"""From plain dictionaries and command-line overrides to a checked `Config`."""

from functools import cache
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace, set_parsing_settings

from spikebridge.config import Config
from spikebridge.errors import UserError
from spikebridge.recipes import check_keys

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
    """A parser's message without line breaks and its own phrases."""
    words = " ".join(str(error).split())
    return words.replace("Parser key ", "").replace("Expected a ", "expected ")[:300]
