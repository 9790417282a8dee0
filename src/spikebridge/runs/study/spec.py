"""A study file: what is compared, on what, how often."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields
from functools import cache
from pathlib import Path
from typing import Any, Literal

from spikebridge.base.errors import UserError, reading_failed
from spikebridge.base.files import read_yaml
from spikebridge.base.hooks import look_in
from spikebridge.base.typed import did_you_mean
from spikebridge.data.settings import DataConfig
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import check_keys, find_recipe, merge, read_recipe

Budget = int | Literal["all"] | None
"""Labelled recordings per class; None takes the recipe's own."""

_NAME = re.compile(r"[A-Za-z0-9][\w.+-]*")


@dataclass(frozen=True, eq=False)
class Study:
    """A grid of recipes, label budgets, arms and seeds."""

    name: str
    """The file's name without its suffix."""
    title: str
    """The question, in words."""
    recipes: dict[str, dict[str, Any]]
    """Recipe (file, or name of a shipped one) → settings laid over it."""
    settings: dict[str, Any]
    """Laid over every recipe, below its own."""
    seeds: tuple[int, ...]
    labelled_per_class: tuple[Budget, ...]
    arms: dict[str, dict[str, Any]]
    """What is compared: name → settings laid over the recipe; `method` picks a preset."""
    against: tuple[str, ...]
    """Arms that the others are compared with, seed by seed."""
    evaluate_at: dict[str, dict[str, Any]]
    """Name → changes of `data` under which finished students are evaluated, too."""
    text: str
    """The file as it was written."""

    def config(self, recipe: str, budget: Budget, arm: str | None) -> Config:
        """Settings of a run with seed 0; without an arm, those of the recipe alone.

        Raises:
            UserError: they are not a valid experiment.
        """
        return _config(self, recipe, budget, arm, None)

    def changed_data(
        self, recipe: str, budget: Budget, arm: str
    ) -> tuple[tuple[str, DataConfig], ...]:
        """Data settings of a run's evaluations on changed data, by name."""
        return tuple(
            (name, _config(self, recipe, budget, arm, name).data) for name in self.evaluate_at
        )


@cache  # Parsing settings takes a tenth of a second.
def _config(
    study: Study, recipe: str, budget: Budget, arm: str | None, change: str | None
) -> Config:
    below, above = study.recipes[recipe], {} if arm is None else study.arms[arm]
    settings = read_recipe(recipe, above.get("method", below.get("method")))
    settings = merge(merge(settings, study.settings), below)
    settings = merge(with_budget(settings, budget), above)
    if change is not None:
        settings = merge(settings, study.evaluate_at[change])
    names = {"study": study.name, "recipe": recipe, "arm": arm, "evaluate_at": change}
    where = ", ".join(f"{kind} {name}" for kind, name in names.items() if name)
    return config_from(settings | {"seed": 0}, where)


def with_budget(settings: dict[str, Any], budget: Budget) -> dict[str, Any]:
    """Settings with a label budget laid over them."""
    if budget is None:
        return settings
    split = {"labelled_per_class": None if budget == "all" else budget}
    return merge(settings, {"data": {"split": split}})


def is_budget(value: Any) -> bool:
    """Whether a value of a file is a label budget."""
    return value is None or value == "all" or (type(value) is int and value >= 1)


def read_study(path: Path) -> Study:
    """Read and check a study file, the settings of every run included.

    Raises:
        UserError: no such file, not YAML, an unknown or missing key, or settings that no run can
            have.
    """
    known = [field.name for field in fields(Study) if field.name not in ("name", "text")]
    required = ("recipes", "seeds", "arms")
    given, text = read_keys(path, "study", known, required, "studies/quick.yaml")
    arms = _settings_by_name(path, "arms", given["arms"])
    study = Study(
        name=name_of(path, path.stem, "file name"),
        title=str(given.get("title", path.stem)),
        recipes=_recipes(path, given["recipes"]),
        settings=settings_of(path, "settings", given.get("settings")),
        seeds=seeds_of(path, given["seeds"]),
        labelled_per_class=_budgets(path, given.get("labelled_per_class", [None])),
        arms=arms,
        against=_against(path, given.get("against", []), arms),
        evaluate_at=_settings_by_name(path, "evaluate_at", given.get("evaluate_at", {})),
        text=text,
    )
    _check(path, study)
    return study


def read_keys(
    path: Path, kind: str, known: Sequence[str], required: Sequence[str], example: str
) -> tuple[dict[str, Any], str]:
    """A file of keys and values, and its text.

    Args:
        path: A YAML file.
        kind: What the file is, for messages.
        known: All keys that it may have.
        required: Those that must hold something.
        example: A file to look at, for messages.

    Raises:
        UserError: no such file, one that cannot be read, not YAML, an unknown or missing key.
    """
    try:
        given, text = read_yaml(path)
    except PermissionError as error:
        raise reading_failed(path, error) from error
    except OSError as error:
        raise UserError(
            f"{path}: no such {kind} file; those of this project are in studies/"
        ) from error
    look_in(path.parent)
    if not isinstance(given, dict):
        raise UserError(f"{path}: a {kind} holds keys and values; see {example}")
    for key in given:
        if key not in known:
            raise UserError(f"{path}: unknown key {key}{near(str(key), known)}")
    for key in required:
        if not given.get(key):
            raise UserError(f"{path}: {key} is missing; see {example}")
    return given, text


def _check(path: Path, study: Study) -> None:
    """Build every experiment once, so that a typing error costs no night."""
    if "teacher" in study.arms:
        raise UserError(f"{path}: an arm cannot be named teacher; that is the teacher's own row")
    common = ("settings", study.settings)
    if "method" in study.settings:
        raise UserError(f"{path}: settings: method is set by arms; remove it there")
    for name, settings in (common, *study.arms.items(), *study.recipes.items()):
        check_keys(settings, Config, f"{path}: {name}")
        if "seed" in settings:
            raise UserError(f"{path}: {name}: seed is set by seeds; remove it there")
    for name, settings in study.evaluate_at.items():
        if set(settings) != {"data"}:
            raise UserError(f"{path}: evaluate_at {name} must change data, and nothing else")
    for recipe in study.recipes:
        folders = [budget_folder(study, recipe, b) for b in study.labelled_per_class]
        if len(set(folders)) < len(folders):
            raise UserError(
                f"{path}: labelled_per_class: null is {recipe}'s own number, which is named, too"
            )
        for budget in study.labelled_per_class:
            for arm in study.arms:
                study.config(recipe, budget, arm)
                study.changed_data(recipe, budget, arm)


def _recipes(path: Path, given: Any) -> dict[str, dict[str, Any]]:
    if isinstance(given, list):
        if doubled := [one for one in given if given.count(one) > 1]:
            raise UserError(f"{path}: recipe {doubled[0]} is named twice")
        given = {str(name): {} for name in given}
    if not isinstance(given, dict):
        raise UserError(f"{path}: recipes is a list of recipes, or recipe: settings")
    recipes = {}
    for name, settings in given.items():
        find_recipe(str(name))
        recipes[str(name)] = settings_of(path, f"recipe {name}", settings)
    stems = [recipe_folder(name) for name in recipes]
    if len(set(stems)) < len(stems):
        raise UserError(f"{path}: two recipes have the same file name; rename one")
    return recipes


def recipe_folder(recipe: str) -> str:
    """Name of a recipe in folders and tables."""
    return Path(recipe).stem


def budget_folder(study: Study, recipe: str, budget: Budget) -> str:
    """Name of a label budget in folders: ``k2`` or ``kall``."""
    if budget is None:
        budget = study.config(recipe, None, None).data.split.labelled_per_class
    return f"k{budget or 'all'}"


def seeds_of(path: Path, given: Any) -> tuple[int, ...]:
    """Seeds as they stand in a file.

    Raises:
        UserError: no list of different whole numbers from 0.
    """
    if not isinstance(given, list) or not all(type(seed) is int and seed >= 0 for seed in given):
        raise UserError(f"{path}: seeds is a list of whole numbers from 0, got {given!r}")
    if len(set(given)) < len(given):
        raise UserError(f"{path}: a seed is named twice in {given}")
    return tuple(given)


def _budgets(path: Path, given: Any) -> tuple[Budget, ...]:
    values = given if isinstance(given, list) else [given]
    for value in values:
        if not is_budget(value):
            raise UserError(
                f"{path}: labelled_per_class is a list of numbers from 1, of all, or of null (the "
                f"recipe's own), got {value!r}"
            )
    if not values or len(set(values)) < len(values):
        raise UserError(f"{path}: labelled_per_class is empty or names a number twice: {given}")
    return tuple(values)


def _against(path: Path, given: Any, arms: Any) -> tuple[str, ...]:
    names = [str(name) for name in (given if isinstance(given, list) else [given])]
    for name in names:
        if name not in arms:
            raise UserError(f"{path}: against names no arm: {name}{near(name, arms)}")
    return tuple(dict.fromkeys(names))


def _settings_by_name(path: Path, key: str, given: Any) -> dict[str, dict[str, Any]]:
    if not isinstance(given, dict):
        raise UserError(f"{path}: {key} holds a name and settings each, not {given!r}")
    found = {
        name_of(path, name, key): settings_of(path, f"{key} {name}", settings)
        for name, settings in given.items()
    }
    if len(found) < len(given):
        raise UserError(f"{path}: {key} has a name twice, as a number or truth value and as text")
    return found


def settings_of(path: Path, where: str, given: Any) -> dict[str, Any]:
    """Settings as they stand in a file; null is none.

    Raises:
        UserError: no keys and values.
    """
    if not isinstance(given, dict | None):
        raise UserError(f"{path}: {where} must hold settings, not {given!r}")
    return given or {}


def name_of(path: Path, name: Any, where: str) -> str:
    """A name that can be a folder's."""
    if not _NAME.fullmatch(str(name)):
        raise UserError(f"{path}: {where}: {name!r} is no name; use letters, digits, . _ + and -")
    return str(name)


def near(name: str, known: Iterable[Any]) -> str:
    """The nearest known name, or all of them, as the end of a message."""
    names = [str(one) for one in known]
    return did_you_mean(name, names) or f"; known are {', '.join(names)}"
