"""Recipes: YAML files with a configuration, shipped ones found by name."""

import dataclasses
from functools import cache
from pathlib import Path
from typing import Any

from spikebridge.base.errors import UserError
from spikebridge.base.files import read_yaml
from spikebridge.base.hooks import look_in
from spikebridge.base.typed import checked, did_you_mean
from spikebridge.settings.config import Config

_RECIPES, _METHODS = (Path(__file__).parent / name for name in ("recipes", "methods"))
_BACKBONE = Path(__file__).with_name("backbone.yaml")
_LAST = 1000
"""Place in tables of a method that names none."""


def recipe_names() -> list[str]:
    """Names of the shipped recipes."""
    return sorted(path.stem for path in _RECIPES.glob("*.yaml"))


@dataclasses.dataclass(frozen=True)
class Style:
    """How a method is drawn."""

    light: str
    """Colour on a light page."""
    dark: str
    """Colour on a dark page."""
    marker: str
    """Matplotlib's name."""
    glyph: str
    """The same sign as a character."""


@dataclasses.dataclass(frozen=True)
class Method:
    """A method preset: one YAML file of ``methods/``."""

    name: str
    title: str
    """What sentences call it."""
    order: int
    """Its place in tables."""
    style: Style | None
    """None where it has none of its own."""
    settings: dict[str, Any]
    """The switches that are laid over a recipe."""


@cache
def methods() -> dict[str, Method]:
    """The method presets by name, in the order of tables.

    Raises:
        UserError: a file is not YAML, or has an unknown key.
    """
    found = [_method(path) for path in _METHODS.glob("*.yaml")]
    return {one.name: one for one in sorted(found, key=lambda one: (one.order, one.name))}


def _method(path: Path) -> Method:
    settings = _read(path)
    title, order = settings.pop("title", path.stem), settings.pop("order", _LAST)
    style = settings.pop("style", None)
    check_keys(settings, Config, str(path))
    return Method(path.stem, title, order, style and Style(**style), settings)


def find_recipe(name: str) -> Path:
    """Path of a recipe: a file, or the name of a shipped one.

    Raises:
        UserError: neither a file nor a shipped recipe.
    """
    shipped = _RECIPES / f"{name}.yaml"
    if Path(name).is_file():
        return Path(name)
    if shipped.is_file():
        return shipped
    raise UserError(
        f"{name}: no such recipe file, and the shipped recipes are {', '.join(recipe_names())}"
        + did_you_mean(name, recipe_names())
    )


def read_recipe(name: str, method: str | None = None) -> dict[str, Any]:
    """A recipe's settings with its method's switches laid over them.

    Args:
        name: File, or name of a shipped recipe.
        method: Method preset that takes the place of the recipe's own.

    Raises:
        UserError: no such recipe or method, not YAML, or an unknown key.
    """
    path = find_recipe(name)
    look_in(path.parent)
    settings = _read(path)
    settings["method"] = method or settings.get("method", "ckd")
    if str(settings["method"]) not in methods():
        raise UserError(
            f"method {settings['method']!r} is unknown; known are {', '.join(methods())}"
            + did_you_mean(str(settings["method"]), methods())
        )
    merged = merge(settings, methods()[settings["method"]].settings)
    check_keys(merged, Config, str(path))
    return merged


def read_backbone_defaults() -> dict[str, Any]:
    """What `spikebridge backbone` takes where nothing else is said."""
    return _read(_BACKBONE)


def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """Nested dictionaries, values of ``above`` winning."""
    merged = dict(below)
    for key, value in above.items():
        both = isinstance(value, dict) and isinstance(merged.get(key), dict)
        merged[key] = merge(merged[key], value) if both else value
    return merged


def check_keys(settings: dict[str, Any], kind: type, origin: str) -> None:
    """Refuse keys that a configuration does not have, and values of other types.

    Raises:
        UserError: names the file, the key and the nearest right name.
    """
    try:
        checked(settings, kind)
    except ValueError as error:
        raise UserError(f"{origin}: {error}") from error


def _read(path: Path) -> dict[str, Any]:
    settings, _ = read_yaml(path)
    if not isinstance(settings, dict):
        raise UserError(f"{path}: a recipe holds keys and values; see the shipped recipes")
    return settings
