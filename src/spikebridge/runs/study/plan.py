"""From a study to its runs: folders, settings, teachers that several arms share."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from spikebridge.base.files import settings_key
from spikebridge.data.settings import AugmentConfig, PhotoViewConfig
from spikebridge.runs.queue import Job
from spikebridge.runs.study.spec import Study, budget_folder, recipe_folder
from spikebridge.runs.train import teacher_settings
from spikebridge.settings.config import Config

_SEEN_BY_TEACHERS = ("name", "events", "photos", "sensor", "exclude", "events_alone", "size",
                     "photo_size", "photo_margin", "split")  # fmt: skip
"""Data settings that change a teacher's photos, or which of them it may see."""
_MOVES_PHOTOS = ("crop", "flip", "rotate")


@dataclass(frozen=True)
class Planned:
    """One run of a study, and where it belongs."""

    recipe: str
    budget: str
    """Folder of the label budget: k2, kall."""
    arm: str
    """`teacher` for a teacher."""
    arms: tuple[str, ...]
    """Whose run it is: the arm, or those that share the teacher."""
    job: Job

    @property
    def labelled(self) -> str:
        """Labelled recordings per class: 2, all, or that a manifest says."""
        split = self.job.config.data.split  # An arm may set them, whatever the folder is called.
        return "by manifest" if split.manifest else str(split.labelled_per_class or "all")

    @property
    def seed(self) -> int:
        """The run's seed."""
        return self.job.config.seed


def plan(study: Study, out: Path, only: Sequence[str] = ()) -> list[Planned]:
    """All runs of a study, or those of some arms, in the order of its table.

    Args:
        study: What is compared.
        out: Folder of the study; a run is in RECIPE/kN/ARM-seedN.
        only: Arms; empty takes all.
    """
    found = []
    for recipe in study.recipes:
        for budget in study.labelled_per_class:
            folder = out / recipe_folder(recipe) / budget_folder(study, recipe, budget)
            teachers: dict[Path, tuple[Job, list[str]]] = {}
            students = []
            for arm in study.arms:
                if only and arm not in only:
                    continue
                for seed in study.seeds:
                    config = dataclasses.replace(study.config(recipe, budget, arm), seed=seed)
                    own = dataclasses.replace(study.config(recipe, budget, None), seed=seed)
                    teacher = None
                    if config.objective.needs_teacher and config.teacher.checkpoint is None:
                        shared = shared_teacher(config, own)
                        where = folder / _teacher_folder(shared, shared_teacher(own, own))
                        job = Job("teacher", shared, where, cost=_teacher_cost(shared))
                        teacher, arms = teachers.setdefault(where, (job, []))
                        arms.append(arm)
                    student = Job(
                        "student",
                        config,
                        folder / f"{arm}-seed{seed}",
                        teacher,
                        _cost(config),
                        study.changed_data(recipe, budget, arm),
                        energy=True,
                    )
                    students.append(
                        Planned(recipe_folder(recipe), folder.name, arm, (arm,), student)
                    )
            found += [
                Planned(recipe_folder(recipe), folder.name, "teacher", tuple(arms), job)
                for job, arms in teachers.values()
            ]
            found += students
    return found


def shared_teacher(config: Config, own: Config) -> Config:
    """A teacher's settings, alike for all arms that can share one.

    What cannot matter to a teacher is taken from the recipe.
    """
    augment = {name: getattr(config.data.augment, name) for name in _MOVES_PHOTOS}
    data = {name: getattr(config.data, name) for name in _SEEN_BY_TEACHERS}
    common: AugmentConfig = dataclasses.replace(own.data.augment, **augment)
    # The recipe's views need not go with the arm's objective.
    views = PhotoViewConfig()
    shared = dataclasses.replace(own.data, augment=common, photo_views=views, **data)
    return teacher_settings(dataclasses.replace(config, data=shared))


def _teacher_folder(shared: Config, own: Config) -> str:
    key = "" if shared == own else "-" + settings_key(dataclasses.asdict(shared) | {"seed": 0})[:8]
    return f"teacher{key}-seed{shared.seed}"


def _cost(config: Config) -> float:
    """Expected duration of a student in some unit: samples times steps times area times width²."""
    train, objective = config.train, config.objective
    streams = (1 - objective.dvs_from) + objective.hybrid_until
    batches = train.batches_per_epoch or config.data.split.labelled_per_class or 20
    area = config.data.size[0] * config.data.size[1] * config.data.time_steps
    samples = train.epochs * batches * train.batch_size * streams
    return samples * area * config.student.width**2


def _teacher_cost(config: Config) -> float:
    """In the same unit; teachers come first in any case."""
    side = config.data.photo_size or config.data.size[0]
    return 1000.0 * config.teacher.epochs * side * side * config.teacher.width**2
