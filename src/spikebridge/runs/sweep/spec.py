"""A sweep file: which settings are searched, around which experiment, how long."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NoReturn

from spikebridge.base.errors import UserError
from spikebridge.base.hooks import recorded
from spikebridge.data.manifest import MARKS
from spikebridge.runs.study.plan import shared_teacher
from spikebridge.runs.study.spec import (
    Budget,
    is_budget,
    name_of,
    read_keys,
    seeds_of,
    settings_of,
    with_budget,
)
from spikebridge.runs.sweep.space import Setting, nested, read_space
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import check_keys, merge, read_recipe
from spikebridge.settings.recorded import plain_settings

_EXAMPLE = "studies/sweep-digits.yaml"
_TRIALS = 20
_CHANGES_VALIDATION = ("name", "events", "photos", "exclude", "events_alone", "split")


@dataclass(frozen=True, eq=False)
class Sweep:
    """One experiment, and the settings of it that are searched."""

    name: str
    """The file's name without its suffix."""
    title: str
    """The question, in words."""
    recipe: str
    """A file, or the name of a shipped recipe."""
    settings: dict[str, Any]
    """Laid over the recipe."""
    method: str | None
    """Method preset; None takes the recipe's."""
    seeds: tuple[int, ...]
    """Every trial trains them all; the mean over them is maximised."""
    labelled_per_class: Budget
    trials: int
    """How many end by themselves: complete, pruned or failed."""
    sampler_seed: int
    space: tuple[Setting, ...]
    text: str
    """The file as it was written."""

    @cached_property
    def base(self) -> Config:
        """Settings with seed 0 before any is searched."""
        return self.config({})

    @cached_property
    def ends(self) -> list[tuple[Setting, Config]]:
        """Settings with one searched one at an end of its range, or each of its choices.

        Raises:
            UserError: one of them is not a valid experiment.
        """
        found = []
        for setting in self.space:
            for value in setting.choices or (setting.low, setting.high):
                try:
                    found.append((setting, self.config({setting.name: value})))
                except UserError as error:
                    raise UserError(f"space: {setting.name}: {value!r}: {error}") from error
        return found

    def config(self, values: Mapping[str, Any]) -> Config:
        """Settings with seed 0, and with some searched ones laid over them by dotted name.

        Raises:
            UserError: they are not a valid experiment.
        """
        settings = merge(read_recipe(self.recipe, self.method), self.settings)
        settings = merge(with_budget(settings, self.labelled_per_class), nested(values))
        return config_from(settings | {"seed": 0}, f"sweep {self.name}")

    @property
    def identity(self) -> dict[str, Any]:
        """What must be alike for trials to be compared; the number of trials may grow."""
        return {
            "settings": plain_settings(self.base),
            "seeds": self.seeds,
            "sampler_seed": self.sampler_seed,
            "space": {one.name: str(_with_sources(one)) for one in self.space},
        }


def _with_sources(setting: Setting) -> Setting:
    choices = (recorded(one) if isinstance(one, str) else one for one in setting.choices)
    return dataclasses.replace(setting, choices=tuple(choices))


def read_sweep(path: Path) -> Sweep:
    """Read and check a sweep file: both ends of every range, and every choice.

    Raises:
        UserError: no such file, not YAML, an unknown or missing key, settings that no run can have,
            or a setting that a sweep cannot search.
    """
    known = [field.name for field in dataclasses.fields(Sweep)]
    known = [key for key in known if key not in ("name", "text")]
    given, text = read_keys(path, "sweep", known, ("recipe", "seeds", "space"), _EXAMPLE)
    sweep = Sweep(
        name=name_of(path, path.stem, "file name"),
        title=str(given.get("title", path.stem)),
        recipe=str(given["recipe"]),
        settings=settings_of(path, "settings", given.get("settings")),
        method=given.get("method"),
        seeds=seeds_of(path, given["seeds"]),
        labelled_per_class=_budget(path, given.get("labelled_per_class")),
        trials=_whole(path, "trials", given.get("trials", _TRIALS), 1),
        sampler_seed=_whole(path, "sampler_seed", given.get("sampler_seed", 0), 0),
        space=read_space(path, given["space"]),
        text=text,
    )
    _check(path, sweep)
    return sweep


def _check(path: Path, sweep: Sweep) -> None:
    check_keys(sweep.settings, Config, f"{path}: settings")
    for key, remedy in (("seed", "seeds"), ("method", "method")):
        if key in sweep.settings:
            raise UserError(f"{path}: settings: {key} is set by {remedy}; remove it there")
    own = sweep.base
    if own.data.split.name in MARKS:
        raise UserError(
            f"{path}: protocol {own.data.split.name} lets training see what tests, which a sweep "
            "must not; choose clean or few-shot"
        )
    if any(one.train.read_test for one in (own, *(config for _, config in sweep.ends))):
        raise UserError(f"{path}: a sweep must not see test recordings; remove train.read_test")
    for setting in sweep.space:
        top = setting.name.split(".")[0]
        if top in ("seed", "method"):
            _refuse(path, setting, "make a sweep of its own for each")
        if top == "teacher":
            _refuse(path, setting, "the teacher is trained once for all trials")
    for setting, config in sweep.ends:
        if any(getattr(config.data, k) != getattr(own.data, k) for k in _CHANGES_VALIDATION):
            _refuse(path, setting, "trials are compared on the same recordings")
        needed = config.objective.needs_teacher and own.teacher.checkpoint is None
        if needed and shared_teacher(config, own) != shared_teacher(own, own):
            _refuse(path, setting, "it changes the teacher, which is trained once for all trials")


def _refuse(path: Path, setting: Setting, reason: str) -> NoReturn:
    raise UserError(f"{path}: space: {setting.name} cannot be searched: {reason}")


def _budget(path: Path, value: Any) -> Budget:
    if is_budget(value):
        return value
    raise UserError(
        f"{path}: labelled_per_class is a number from 1, all, or null (the recipe's own), got "
        f"{value!r}"
    )


def _whole(path: Path, key: str, value: Any, least: int) -> int:
    if type(value) is not int or value < least:
        raise UserError(f"{path}: {key} is a whole number from {least}, got {value!r}")
    return value
