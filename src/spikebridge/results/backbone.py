"""A taught backbone: its weights file, and a student that starts from it."""

import csv
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from spikebridge.base.errors import UserError
from spikebridge.base.files import file_sha256
from spikebridge.data.manifest import Manifest
from spikebridge.data.pool import Pool, held_photos, unchanged
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import Student
from spikebridge.results.audit import pool_leaks
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.weights import weights_file, weights_name
from spikebridge.training.checkpoint import fill, load_model, save_model

_ALIKE = ("name", "width", "neuron", "tau", "threshold")
"""What a backbone and the student that starts from it have in common."""


@dataclass(frozen=True)
class Backbone:
    """A taught backbone."""

    name: str
    """What ``student.weights`` calls it."""
    path: Path
    weights: dict[str, Tensor]
    """Float32, by their names in a student."""
    config: Config
    """What it was taught with."""
    pool: Pool
    unproved: tuple[str, ...]
    """Why nobody can tell all that it has seen."""
    settings_key: str
    """Equal for backbones that only their seed tells apart."""

    @property
    def about(self) -> dict[str, Any]:
        """What a student's result says of it."""
        return {
            "weights": self.name,
            "sha256": file_sha256(self.path),
            "settings_key": self.settings_key,
        }


def save_backbone(path: Path, weights: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write the weights of a backbone, its heads apart, and all that `load_backbone` needs."""
    own = {name: tensor for name, tensor in weights.items() if name.startswith("backbone.")}
    save_model(path, own, {"kind": "backbone", **description})


def load_backbone(setting: str) -> Backbone:
    """Read what ``student.weights`` names.

    Raises:
        UserError: there is none, it is another one than was recorded, or no backbone.
    """
    path, name = weights_file(setting), weights_name(setting)
    weights, description = load_model(path)
    if (kind := description.get("kind")) != "backbone":
        raise UserError(
            f"student.weights {name!r}: {path} holds a {kind}, not a backbone; give the folder of "
            "a run of spikebridge backbone"
        )
    try:
        config = config_from(description["config"], origin=str(path))
        pool = Pool.parse(description["pool"])
        unproved, key = tuple(description["unproved"]), description["settings_key"]
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: damaged; train the backbone again") from error
    weights = {n: t.float() if t.is_floating_point() else t for n, t in weights.items()}
    return Backbone(name, path, weights, config, pool, unproved, key)


def require_fitting(backbone: Backbone, config: StudentConfig, data: Collection[str]) -> None:
    """Refuse a backbone of another kind of student, or one that has seen a whole data set.

    Args:
        backbone: What a student is to start from.
        config: The student's settings.
        data: What the student's data are called.

    Raises:
        UserError: architecture, width or neurons differ, or the data are of such a name.
    """
    for name in _ALIKE:
        theirs, ours = getattr(backbone.config.student, name), getattr(config, name)
        if theirs != ours:
            raise UserError(
                f"student.weights {backbone.name!r}: a backbone of student.{name} {theirs}, not "
                f"{ours}; set student.{name} to {theirs}, or teach a backbone with {ours}"
            )
    for name in sorted(data):
        for one in backbone.config.backbone.sets:
            if _plain(one) in _plain(name):
                raise UserError(
                    f"student.weights {backbone.name!r}: this backbone was taught on photos "
                    f"of {one}, and these data are {name}; teach one on photos that this split "
                    "does not hold out: spikebridge backbone --recipe"
                )


def start_from(student: Student, backbone: Backbone) -> None:
    """Give a student a backbone's weights and batch statistics; its heads stay as they are.

    Raises:
        UserError: the backbone is of another kind of student.
    """
    prefix = "backbone."
    own = {name.removeprefix(prefix): tensor for name, tensor in backbone.weights.items()}
    fill(student.backbone, own, backbone.path)


def refuse_leaking_backbone(backbone: Backbone, split: Manifest, cache: Path) -> None:
    """Refuse a backbone that was taught on photos of validation or test recordings.

    Args:
        backbone: What a student is to start from.
        split: The student's.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: names the first such photo.
    """
    who = f"student.weights {backbone.name!r}"
    there = unchanged(held_photos(split), None, cache)
    for leak in pool_leaks(split, backbone.pool, there, who, cache):
        raise UserError(
            f"{who}: this backbone was taught on {leak.seen}, which shows the held-out "
            f"{leak.held} ({leak.kind}); teach one that leaves this split out: spikebridge "
            "backbone --recipe"
        )


def _plain(name: str) -> str:
    """A data set's name as it is compared: N-Caltech101 is ncaltech101."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def backbone_card(config: Config, result: dict[str, Any], licence: str = "") -> str:
    """The card of a backbone in Markdown.

    Args:
        config: What it was taught with.
        result: What its ``result.json`` holds.
        licence: Of the photos, where it is known.
    """
    student, data, own = config.student, config.data, config.backbone
    photos = result["photos"]
    height, width = data.size
    learnt = {
        "labels": "the labels of the photos' folders",
        "embedding": f"the embedding of the teacher {result['teacher']}",
        "both": f"the labels and the embedding of the teacher {result['teacher']}",
    }[own.learn]
    curve = (
        "Of its features' nearest neighbours among 1,000 training photos' recordings"
        if result["val_top1_is"] == "k nearest neighbours"
        else "Of the teacher's embeddings, by the student's"
    )
    folders = ", ".join(Path(folder).name for folder in (*own.photos, *own.unlabelled))
    lines = [
        f"- Network: {student.name}, width {student.width:g}, {student.neuron} neurons, "
        f"τ = {student.tau:g}, threshold {student.threshold:g}; {result['parameters']:,} "
        "parameters, no heads",
        f"- Taught at {height}×{width} pixels and T = {data.time_steps}; other sizes fit",
        f"- Photos: {folders}; {photos['train']:,} taught, {photos['validation']:,} made the curve"
        + (f", {photos['teacher']:,} more trained its teacher" if photos["teacher"] else ""),
        f"- Learnt: {learnt}, from simulated recordings that the step made of augmented photos",
        f"- Right: {result['val_top1']:.1f} %. {curve}, on photos that were not trained on; the "
        "last epoch is kept, nothing was selected",
        f"- Took: {result['steps']:,} steps, {result['seconds'] / 3600:.1f} hours, seed "
        f"{result['seed']}, {result['precision']}",
    ]
    if own.sets:
        names = ", ".join(own.sets)
        lines.append(f"- It was taught on photos of {names}: runs on data of that name refuse it")
    lines += [f"- Unproved: {doubt}" for doubt in result["unproved"]]
    rights = licence or "yours; the weights were learnt from them"
    return (
        "# A spiking backbone, by `spikebridge backbone`\n\n"
        + "\n".join(lines)
        + f"\n\nLicence of the photos: {rights}.\n"
    )
