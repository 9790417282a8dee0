"""Plain values, of YAML or typed by a person, as the fields of a settings dataclass have them."""

import difflib
import math
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import is_dataclass
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import yaml

_WORDS = {str: "text", float: "a number", int: "a whole number", bool: "true or false",
          list: "a list", dict: "settings", NoneType: "null"}  # fmt: skip
_QUOTES = """: write names as a list and in quotes, '["8", "yes"]'"""
"""YAML takes some for numbers, dates or truth values, and what they looked like is lost then."""
_SHOWN = 200


def checked(settings: dict[Any, Any], kind: type, prefix: str = "") -> dict[str, Any]:
    """Nested settings with values of the types of a dataclass's fields; not all need be there.

    Args:
        settings: Plain values.
        kind: The dataclass.
        prefix: What names it in messages, with a dot at its end.

    Raises:
        ValueError: a key that it has not, or a value of another type.
    """
    kinds = get_type_hints(kind)
    found = {}
    for key, value in settings.items():
        if key not in kinds:
            near = did_you_mean(str(key), kinds, prefix)
            raise ValueError(f"unknown key {prefix}{key}{near}")
        name = f"{prefix}{key}"
        if not is_dataclass(kinds[key]):
            found[key] = fitted(name, value, kinds[key])
        elif isinstance(value, dict):
            found[key] = checked(value, kinds[key], f"{name}.")
        else:
            raise ValueError(f"{name} must hold settings, not {_shown(value)}")
    return found


def fitted(name: str, value: Any, kind: Any) -> Any:
    """A value as a type has it: a tuple for a list, a number for its text.

    Args:
        name: What messages call it.
        value: Plain value.
        kind: str, int, float, bool, a literal, a list of texts, a tuple, a dictionary, or a union.

    Raises:
        ValueError: it has another type.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        for part in parts:
            with suppress(ValueError):
                return fitted(name, value, part)
    elif origin is Literal:
        if value in parts:
            return value
    elif kind in (str, NoneType):
        if isinstance(value, kind):
            return value
    else:
        read = _read(value) if isinstance(value, str) else value
        if origin is list and isinstance(read, list | tuple):
            others = [one for one in read if not isinstance(one, str)]
            if not others:
                return list(read)
            raise ValueError(f"{name} must be text, not {_shown(others[0])}{_QUOTES}")
        if origin is tuple and isinstance(read, list | tuple) and len(read) == len(parts):
            return tuple(fitted(name, one, part) for one, part in zip(read, parts, strict=True))
        if kind is float and isinstance(read, int | float) and not isinstance(read, bool):
            with suppress(OverflowError):
                if math.isfinite(read):
                    return float(read)
            raise ValueError(f"{name} must be a finite number, not {_shown(value)}")
        if type(read) is (origin or kind) and origin in (None, dict):
            return read
    remedy = _QUOTES if origin is list else ""
    raise ValueError(f"{name} must be {in_words(kind)}, not {_shown(value)}{remedy}")


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """The nearest known name as the end of a message, or nothing."""
    near = difflib.get_close_matches(name, list(known), 1, 0.5)
    return f" (did you mean {prefix}{near[0]}?)" if near else ""


def first_difference(there: Any, here: Any, name: str = "") -> tuple[str, Any, Any]:
    """The dotted name of the first value in which two nestings of settings differ, and both values.

    Args:
        there: Settings; what they lack is None.
        here: Others, which differ.
        name: Where they stand.
    """
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return name, there, here
    key = next(k for k in {**here, **there} if here.get(k, ...) != there.get(k, ...))
    return first_difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)


def in_words(kind: Any) -> str:
    """What a value of a type is, for people who write no Python."""
    origin, parts = get_origin(kind), get_args(kind)
    if origin in (Union, UnionType):
        return " or ".join(map(in_words, parts))
    if origin is Literal:
        return "one of " + ", ".join(parts)
    return f"a list of {len(parts)}" if origin is tuple else _WORDS[origin or kind]


def _read(text: str) -> Any:
    """What a text says in YAML, which takes 1e-3 for text, too."""
    with suppress(yaml.YAMLError):
        value = yaml.safe_load(text)
        with suppress(ValueError):
            if isinstance(value, str) and math.isfinite(number := float(value)):
                return number
        return value
    return text


def _shown(value: Any) -> str:
    return "null" if value is None else str(value)[:_SHOWN]
