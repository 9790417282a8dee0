"""Which runs may be averaged: those of one method that agree in every setting that matters."""

import dataclasses
import json
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import PurePath
from typing import Any

from spikebridge.base.files import json_text, settings_key
from spikebridge.base.hooks import bare
from spikebridge.settings.config import Config
from spikebridge.settings.presets import merge, methods

WAYS = ("data.cache", "train.checkpoint_minutes", "train.memory", "train.cuda_graph")
"""Other ways to the same result, between which a run may change while it is under way."""
_IGNORED = (
    "method", "data.split.protocol", "data.split.labelled_per_class",  # columns of their own
    "seed", "train.device", "student.neuron_backend", *WAYS,
)  # fmt: skip
_PATHS = (
    "data.events",
    "data.photos",
    "data.unlabelled",
    "data.split.manifest",
    "teacher.checkpoint",
)
"""Where something lies does not matter, only whether it is given."""


def settings_that_matter(settings: Mapping[str, Any], result: Mapping[str, Any]) -> dict[str, Any]:
    """The settings that may change a run's result, by dotted name, where they are not the default.

    Left out are the seed, folders, device, what only saves memory or time, and what the run did
    not use: the teacher's settings and those of a simulated source, of the photos' views or of
    photos without labels.

    Args:
        settings: Nested, as ``config.yaml`` holds them; a missing one has its default.
        result: What ``result.json`` holds.
    """
    unused = []
    if result.get("method") != "teacher" and result.get("teacher") is None:
        unused.append("teacher.")
    if result.get("source_simulator") is None:
        unused.append("data.source.")
    if result.get("unlabelled") is None:
        unused.append("objective.unlabelled.")
    default, found, given = _defaults(""), {}, flat(settings)
    if not given.get("objective.hybrid_until", default["objective.hybrid_until"]):
        unused.append("data.photo_views.")
    if result.get("method") != "backbone":
        unused.append("backbone.")
    for name, value in given.items():
        if name in _IGNORED or name.startswith(tuple(unused)):
            continue
        if value != default.get(name):
            found[name] = _without_folder(name, value)
    if "student.weights" in found and (backbone := result.get("backbone")):
        # Backbones that only their seed tells apart, one for each split say, are alike.
        found["student.weights"] = f"backbone {backbone['settings_key'][:8]}"
    return dict(sorted(found.items()))


def key_of(settings: Mapping[str, Any]) -> str:
    """A short key of what `settings_that_matter` returns: equal where runs may be averaged."""
    numbers = {n: float(v) if type(v) is int else v for n, v in settings.items()}
    return settings_key(numbers)


def name_variants(method: str, variants: Sequence[Mapping[str, Any]]) -> list[str]:
    """What tells runs of one method from its others: ``objective.alignment_weight 0``, say.

    A setting is named where the variants differ in it, or where it is a user's own loss, schedule
    or teacher, unless it is the method's own or the default: so the method as it is meant has the
    empty name.

    Args:
        method: Method preset, or `teacher`.
        variants: What `settings_that_matter` returns; no two are alike.
    """
    names = sorted({name for settings in variants for name in settings})
    found = {n: [s.get(n) for s in variants] for n in names}
    differing = [n for n in names if len(set(map(json_text, found[n]))) > 1]
    hooked = [n for n in names if any(bare(value) != value for value in found[n])]
    one_source = [n for n in hooked if len(set(found[n])) == len(set(map(bare, found[n])))]
    default, own = _defaults(""), _defaults(method)
    named = []
    for settings in variants:
        shown = sorted({*differing, *hooked})
        values = {name: settings.get(name, default.get(name)) for name in shown}
        values |= {name: bare(values[name]) for name in one_source}
        words = [f"{n} {_word(v)}" for n, v in values.items() if v != own.get(n)]
        named.append(", ".join(words))
    return named


def flat(settings: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted name."""
    found: dict[str, Any] = {}
    for name, value in settings.items():
        if isinstance(value, Mapping):
            found |= flat(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


@cache
def _defaults(method: str) -> dict[str, Any]:
    """Every setting's default, with a method's switches laid over it."""
    settings = json.loads(json_text(dataclasses.asdict(Config())))
    preset = methods().get(method)
    return flat(merge(settings, preset.settings) if preset else settings)


def _without_folder(name: str, value: Any) -> Any:
    if name in _PATHS:
        return "given"
    if name in ("backbone.photos", "backbone.unlabelled"):
        return [PurePath(folder).name for folder in value]
    return PurePath(value).name if name == "teacher.weights" else value


def _word(value: Any) -> str:
    if isinstance(value, str):
        return value
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return f"{value:g}" if number else json_text(value, indent=None).strip()
