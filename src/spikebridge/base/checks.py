"""Checks that the settings' dataclasses share."""

from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints


def require(condition: bool, message: str) -> None:
    """Raise a ValueError of this message unless the condition holds."""
    if not condition:
        raise ValueError(message)


def require_plain_parts(settings: Any, prefix: str = "") -> None:
    """Refuse subclasses of parts: a run's record could not give them back.

    Raises:
        ValueError: names the part and its class.
    """
    kinds = get_type_hints(type(settings))
    for name in (one.name for one in fields(settings)):
        kind, part = kinds[name], getattr(settings, name)
        require(
            not is_dataclass(kind) or type(part) is kind,
            f"{prefix}{name} must be a {getattr(kind, '__name__', '')} itself, not "
            f"{type(part).__module__}.{type(part).__qualname__}, which config.yaml cannot give "
            "back; name a function of your own as module:name (Change one thing, in the docs)",
        )
