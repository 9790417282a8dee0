"""A backbone's run: a pool of photos is gathered, a student is taught on it, its backbone kept."""

import dataclasses
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from spikebridge.base.console import console
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path, file_sha256, write_json, write_text
from spikebridge.base.hooks import is_hook, with_sources
from spikebridge.data.collection import cache_folder
from spikebridge.data.feed.sets import PhotoSet
from spikebridge.data.manifest import Manifest
from spikebridge.data.pool import Pool, gather_pool, with_teachers_photos
from spikebridge.data.prepared import fitted_photos, make_step_source
from spikebridge.data.settings import DataConfig
from spikebridge.models.build import build_student
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.results.audit import teacher_doubts
from spikebridge.results.backbone import backbone_card, save_backbone
from spikebridge.results.comparable import key_of, settings_that_matter
from spikebridge.results.trained import load_teacher
from spikebridge.run_folder import RunFolder
from spikebridge.runs.begin import begun, open_run, precision_of
from spikebridge.runs.train import refuse_leaking_teacher
from spikebridge.settings.config import Config
from spikebridge.settings.recorded import plain_settings
from spikebridge.training.backbone import BackboneTask
from spikebridge.training.loop import Best, fit
from spikebridge.training.precision import Precision, make_autocast

_SHOWN = 20


def train_backbone(
    config: Config, folder: Path, *, held: Manifest | None = None, resume: bool = False
) -> dict[str, Any]:
    """Teach a student's backbone on photos of anything, which become recordings in the step.

    A finished run in ``folder`` with the same settings is left as it is.

    Args:
        config: Settings; what only recordings need is left aside.
        folder: The run's folder.
        held: A split whose held-out photos the pool leaves out.
        resume: Continue an interrupted run.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: the folder holds another run, or another process trains it; folders without
            photos; labels or a teacher that are wanted and not there.
        Interrupted: Ctrl-C.
    """
    config = with_sources(backbone_settings(config))
    if (finished := open_run(folder, config, resume=resume)) is not None:
        return finished
    own, device = config.backbone, pick_device(config.train.device)
    teacher, seen, doubts = None, None, []
    if own.learn != "labels":
        teacher, seen, doubts = _embedding_teacher(config)
    if held is not None and seen is not None:
        refuse_leaking_teacher(expand_path(str(config.teacher.checkpoint)), seen, held)
    cache = cache_folder(config.data)
    gathered = gather_pool(
        own.photos,
        own.unlabelled,
        exclude=own.exclude,
        held=held,
        share=own.validation,
        named=not own.sets,
        seed=config.seed,
        cache=cache,
    )
    pool = gathered.pool
    _require_labels(pool, own.learn)
    photos = _photo_sets(config.data, pool)
    if seen is not None:
        pool = with_teachers_photos(pool, seen, _origin(config.teacher), cache)
        if gone := sum(not p.look for p in pool.select("teacher")):
            doubts.append(
                f"{gone} photos that the teacher was trained on are no longer where its manifest "
                "says, or have changed, and their likeness cannot be found; restore them"
            )
    embedding = 0
    if teacher is not None:
        with torch.no_grad():
            some_13HW = torch.zeros(1, *photos["train"].photos_N3HW.shape[1:], device=device)
            embedding = teacher.to(device).embed(some_13HW).shape[1]
    torch.manual_seed(config.seed)
    task = BackboneTask(
        build_student(config.student, max(1, len(pool.classes)), config.data.size),
        photos,
        config.data,
        config.train,
        labels=own.learn != "embedding",
        embedding=embedding,
        seed=config.seed,
        device=device,
    )
    task.teacher = teacher
    with begun(folder, config, resume=resume) as (finished, _):
        if finished is not None:
            return finished
        precision = _begin(folder, config, task, pool, gathered.left_out, resume)
        best, seconds = fit(task, task.settings, folder, description=folder.name, resume=resume)
        return _finish(folder, config, precision, task, pool, best, seconds, doubts)


def backbone_settings(config: Config) -> Config:
    """A backbone's settings: those of the student, its input, the camera, the views and the pool.

    Raises:
        UserError: they do not fit.
    """
    if config.student.weights is not None:
        raise UserError(
            f"student.weights {config.student.weights!r}: a backbone starts from fresh weights; "
            "unset it"
        )
    given = config.data
    try:
        data = DataConfig(
            extent=given.extent,
            size=given.size,
            photo_size=given.photo_size,
            photo_margin=given.photo_margin,
            time_steps=given.time_steps,
            bins=given.bins,
            scale=given.scale,
            simulator=given.simulator,
            source=dataclasses.replace(given.source, in_step=True, views=1, calibrate=False),
            photo_views=given.photo_views,
            cache=given.cache,
        )
    except ValueError as error:
        raise UserError(f"{error}; mend the setting") from error
    return Config(
        method="backbone",
        seed=config.seed,
        data=data,
        student=config.student,
        teacher=config.teacher,
        train=config.train,
        backbone=config.backbone,
    )


def _embedding_teacher(config: Config) -> tuple[Teacher, Manifest | None, list[str]]:
    """Who embeds the photos, what it was trained on, and what nobody can tell of that."""
    given = config.teacher
    if given.checkpoint is None:
        if not (given.name == "efficientnet-lite0" or given.weights or is_hook(given.name)):
            raise UserError(
                f"backbone.learn {config.backbone.learn} needs a trained teacher, and {given.name} "
                "has no weights of its own; set teacher.checkpoint to a teacher's run, "
                "teacher.weights to a file of timm's, or teacher.name to efficientnet-lite0"
            )
        doubts = [] if given.weights is None else teacher_doubts(Manifest(()), *_started(config))
        return build_teacher(given, 1).eval(), None, doubts
    trained, teacher = load_teacher(expand_path(given.checkpoint))
    doubts = teacher_doubts(trained.manifest, *_started(trained.config))
    return teacher, trained.manifest, doubts


def _origin(teacher: TeacherConfig) -> str | None:
    """The folder where a trained teacher was made, as far as its run's folder tells."""
    try:
        return RunFolder(expand_path(str(teacher.checkpoint))).result().get("origin")
    except UserError:
        return None


def _started(config: Config) -> tuple[str, str | None]:
    return config.teacher.name, config.teacher.weights


def _require_labels(pool: Pool, learn: str) -> None:
    if learn == "embedding":
        return
    classes = {p.class_name for p in pool.select("train")}
    unlabelled = [p.file for p in pool.select("train") if not p.class_name]
    if len(classes - {""}) < 2:
        raise UserError(
            f"backbone.learn {learn} needs photos in folders of two classes at least, and there "
            f"are {len(classes - {''})}; set backbone.learn to embedding"
        )
    if learn == "labels" and unlabelled:
        raise UserError(
            f"backbone.learn labels: {len(unlabelled)} photos have no label ({unlabelled[0]}); set "
            "backbone.learn to both, or leave them out"
        )


def _photo_sets(data: DataConfig, pool: Pool) -> dict[str, PhotoSet]:
    """The pool's photos as they are fed, by split."""
    label_of = {name: label for label, name in enumerate(pool.classes)} | {"": -1}
    entries = {s: [e for e, p in zip(pool.entries, pool.photos, strict=True) if p.split == s]
               for s in ("train", "validation")}  # fmt: skip
    pixels = fitted_photos(data, entries, None)
    source = make_step_source(data, data.source_simulator)
    return {
        split: PhotoSet(
            pixels[split],
            np.array([label_of[e.class_name] for e in some], np.int64),
            tuple(e.file for e in some),
            step_source=source,
        )
        for split, some in entries.items()
    }


def _begin(
    folder: Path,
    config: Config,
    task: BackboneTask,
    pool: Pool,
    left_out: tuple[str, ...],
    resume: bool,
) -> Precision:
    """Say in the run's folder what is trained; nothing that can be refused comes after it."""
    run = RunFolder(folder)
    if resume and (there := run.pool()) is not None and there != pool:
        raise UserError(
            f"{folder}: was begun on other photos ({len(there.photos)} then, {len(pool.photos)} "
            "now, or some have changed); restore them, or start again in another folder"
        )
    for line in left_out[:_SHOWN]:
        console.print(line, soft_wrap=True, markup=False)
    if (more := len(left_out) - _SHOWN) > 0:
        console.print(f"and {more} more: {run.left_out_file}", soft_wrap=True, markup=False)
    precision = precision_of(folder, config, task.device)
    write_text(run.precision_file, precision + "\n")
    write_text(run.config_file, yaml.safe_dump(plain_settings(config), sort_keys=False))
    write_text(run.left_out_file, "".join(f"{line}\n" for line in left_out))
    pool.write(run.pool_file)
    task.autocast = make_autocast(precision, task.device)
    return precision


def _finish(
    folder: Path,
    config: Config,
    precision: Precision,
    task: BackboneTask,
    pool: Pool,
    best: Best,
    seconds: float,
    doubts: list[str],
) -> dict[str, Any]:
    """Write the last weights, the card and the result."""
    run, settings, own = RunFolder(folder), plain_settings(config), config.backbone
    result = {
        "method": "backbone",
        "seed": config.seed,
        "learn": own.learn,
        "photos": {s: len(pool.select(s)) for s in ("train", "validation", "teacher")},
        "classes": list(pool.classes),
        "unproved": doubts,
        "origin": os.getcwd(),
        "teacher": config.teacher.checkpoint or config.teacher.name if task.embedding else None,
        "source_simulator": config.data.source_simulator.settings(),
        "best_epoch": best.epoch,
        "kept": "the last epoch",
        "val_top1": best.top1,
        "val_top1_is": "k nearest neighbours" if task.by_labels else "retrieval",
        "seconds": round(seconds, 1),
        "steps": task.settings.steps,
        "precision": precision,
        "parameters": sum(p.numel() for p in task.student.backbone.parameters()),
    }
    result["settings_key"] = key_of(settings_that_matter(settings, result))
    save_backbone(
        run.weights_file,
        best.weights or {},
        {
            "config": settings,
            "precision": precision,
            "pool": pool.text(),
            "unproved": doubts,
            "settings_key": result["settings_key"],
        },
    )
    result["sha256"] = file_sha256(run.weights_file)
    write_text(run.card_file, backbone_card(config, result))
    write_json(run.result_file, result)
    return result
