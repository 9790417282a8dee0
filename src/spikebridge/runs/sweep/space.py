"""What a sweep searches: settings by their dotted names, each with a range or choices."""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args, get_type_hints

from spikebridge.base.errors import UserError
from spikebridge.base.files import json_text
from spikebridge.runs.study.spec import near
from spikebridge.settings.config import Config
from spikebridge.settings.presets import check_keys, merge

_RANGE = ("low", "high", "log", "step", "int")
_DIGITS = 4


@dataclass(frozen=True)
class Setting:
    """One searched setting: a range of numbers, or choices."""

    name: str
    """Dotted: objective.kd_weight."""
    low: float = 0.0
    high: float = 0.0
    log: bool = False
    """Whether the logarithm is searched evenly."""
    step: float | None = None
    """Grid of the range, from ``low`` on; None for 1 in whole numbers and for none in others."""
    whole: bool = False
    """Whether the range is one of whole numbers."""
    choices: tuple[Any, ...] = ()
    """Values in place of a range."""

    @property
    def labels(self) -> dict[Any, Any]:
        """The choices by what stands for them in the storage, which knows scalars only."""
        return {_label(choice): choice for choice in self.choices}

    def value(self, found: Any) -> Any:
        """The setting's value for what the sampler found, which has four digits."""
        if self.choices:
            return self.labels[found]
        if self.whole:
            return int(found)
        rounded = float(f"{found:.{_DIGITS}g}")
        return min(max(rounded, float(self.low)), float(self.high))

    def __str__(self) -> str:
        if self.choices:
            return ", ".join(json_text(choice, indent=None).strip() for choice in self.choices)
        words = [f"{self.low:g} … {self.high:g}"]
        words += ["logarithmic"] if self.log else []
        words += ["whole"] if self.whole else []
        words += [f"in steps of {self.step:g}"] if self.step else []
        return ", ".join(words)


def read_space(path: Path, given: Any) -> tuple[Setting, ...]:
    """The part ``space`` of a sweep file.

    Args:
        path: The file, for messages.
        given: Dotted setting → {low, high, log}, {low, high, step, int} or {choices}.

    Raises:
        UserError: an unknown setting or key, or a range that is none.
    """
    if not isinstance(given, dict):
        raise UserError(f"{path}: space holds a setting and its range each, not {given!r}")
    return tuple(_setting(path, str(name), ranged) for name, ranged in given.items())


def nested(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings by dotted name as nested settings."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        for key in reversed(name.split(".")):
            value = {key: value}
        found = merge(found, value)
    return found


def _setting(path: Path, name: str, given: Any) -> Setting:
    where = f"{path}: space: {name}"
    if not isinstance(given, dict):
        raise UserError(f"{where} must be {{low, high}} or {{choices}}, not {given!r}")
    for key in given:
        if key not in (*_RANGE, "choices"):
            raise UserError(f"{where}: unknown key {key}{near(str(key), [*_RANGE, 'choices'])}")
    if "choices" in given:
        setting = Setting(name, choices=_choices(where, given))
        example = setting.choices[0]
    else:
        setting = _range(where, name, given)
        example = setting.low
    check_keys(nested({name: example}), Config, f"{path}: space")
    return setting


def _choices(where: str, given: dict[str, Any]) -> tuple[Any, ...]:
    choices = given["choices"]
    if len(given) > 1 or not isinstance(choices, list) or len(choices) < 2:
        raise UserError(f"{where}: choices is a list of two values or more, and stands alone")
    if len({_label(choice) for choice in choices}) < len(choices):
        raise UserError(f"{where}: a choice is named twice in {choices}")
    return tuple(choices)


def _label(choice: Any) -> Any:
    return choice if isinstance(choice, str | int | float | None) else json.dumps(choice)


def _range(where: str, name: str, given: dict[str, Any]) -> Setting:
    low, high, step = (given.get(key) for key in ("low", "high", "step"))
    for key, number in (("low", low), ("high", high), ("step", step)):
        if not (_is_number(number) or (key == "step" and number is None)):
            raise UserError(f"{where}: {key} must be a number, got {number!r}")
    assert low is not None
    assert high is not None
    kinds = _kinds(name)
    if kinds.isdisjoint((int, float, Any)):
        raise UserError(f"{where} is no number: give it choices")
    log, whole = (given.get(key, False) for key in ("log", "int"))
    if not isinstance(log, bool) or not isinstance(whole, bool):
        raise UserError(f"{where}: log and int are true or false")
    whole = whole or kinds.isdisjoint((float, Any))
    if not low < high:
        raise UserError(f"{where}: low must be below high, got {low} and {high}")
    if whole and not all(isinstance(number, int | None) for number in (low, high, step)):
        raise UserError(f"{where} is a whole number: low, high and step must be whole, too")
    if log and (low <= 0 or step is not None):
        raise UserError(f"{where}: log needs low above 0, and no step")
    if step is not None and not 0 < step <= high - low:
        raise UserError(f"{where}: step must be above 0 and fit into the range, got {step}")
    return Setting(name, low, high, log, step, whole)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _kinds(name: str) -> set[Any]:
    """Types that a setting may have; `Any` for one that no dataclass describes."""
    kind: Any = Config
    for key in name.split("."):
        if not dataclasses.is_dataclass(kind):
            return {Any}
        kind = get_type_hints(kind).get(key, Any)
    return {kind, *get_args(kind)}
