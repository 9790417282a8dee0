"""A run: one folder with settings, manifest, curves, weights and result."""

import dataclasses
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor

from spikebridge.base.console import console
from spikebridge.base.devices import pick_device
from spikebridge.base.distributed import on_main, size
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.base.files import expand_path, write_json, write_text
from spikebridge.base.hooks import folder_of, hooks_of, resolve, with_sources
from spikebridge.ckd.settings import UnlabelledConfig
from spikebridge.data.collection import cache_folder
from spikebridge.data.manifest import LAST_EPOCH, UNKNOWN, Manifest
from spikebridge.data.prepared import PreparedData
from spikebridge.data.settings import DataConfig, PhotoViewConfig, SourceConfig
from spikebridge.models.build import build_student
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.results.audit import teacher_doubts
from spikebridge.results.backbone import (
    Backbone,
    load_backbone,
    refuse_leaking_backbone,
    require_fitting,
    start_from,
)
from spikebridge.results.comparable import key_of, settings_that_matter
from spikebridge.results.trained import Trained, load_run, load_teacher
from spikebridge.run_folder import RunFolder
from spikebridge.runs.begin import begun, open_run, precision_of
from spikebridge.runs.tasks import student_task, teacher_task
from spikebridge.runs.unlabelled import Answered, answers, left_out
from spikebridge.settings.config import Config
from spikebridge.settings.recorded import plain_settings
from spikebridge.settings.weights import with_weights_hash
from spikebridge.training.checkpoint import save_model
from spikebridge.training.evaluate import Evaluation
from spikebridge.training.loop import Best, fit
from spikebridge.training.precision import Precision, make_autocast
from spikebridge.training.settings import TrainConfig
from spikebridge.training.tasks import StudentTask, TeacherTask


@dataclass(frozen=True)
class _Given:
    """What a student's run is given beside its data."""

    teacher: Trained | None = None
    backbone: Backbone | None = None
    """What it starts from."""
    answered: Answered | None = None
    """Photos without labels, and what somebody answered on them."""


def train_student(
    config: Config,
    data: PreparedData,
    folder: Path,
    *,
    teacher_folder: Path,
    teacher_config: Config | None = None,
    resume: bool = False,
) -> dict[str, Any]:
    """Train a student in ``folder``, select on validation, read the test split once.

    A finished run in ``folder`` with the same settings is left as it is.

    Args:
        config: Settings.
        data: Prepared data.
        folder: The run's folder.
        teacher_folder: Where the teacher is, or is trained when the method needs one.
        teacher_config: Settings of a teacher that several experiments share; None takes this one's.
        resume: Continue an interrupted run.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: the folder holds another run, another process trains it, the teacher does not
            fit, or a loss, schedule or teacher of one's own cannot be imported.
        Interrupted: Ctrl-C.
    """
    config = with_weights_hash(with_sources(config))
    if (finished := on_main(partial(open_run, folder, config, resume=resume))) is not None:
        return finished
    task, given = _student_task(config, data, folder, teacher_folder, teacher_config)
    with begun(folder, config, resume=resume) as (finished, _):
        if finished is not None:
            return finished
        precision = _begin(folder, config, task, given, going_on=resume)
        best, seconds = fit(task, task.settings, folder, description=folder.name, resume=resume)
        return on_main(partial(_finish, folder, config, precision, task, best, seconds, given))


def select_student(
    config: Config,
    data: PreparedData,
    folder: Path,
    *,
    teacher_folder: Path,
    teacher_config: Config | None = None,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> Best:
    """Train a student and select on validation as `train_student` does, and test nothing.

    Args:
        config: Settings.
        data: Prepared data, which need no test split.
        folder: The run's folder, which gets no result.
        teacher_folder: As for `train_student`.
        teacher_config: As for `train_student`.
        on_evaluation: Called with each validated epoch, from 0; what it raises ends the training.

    Returns:
        The selected epoch.

    Raises:
        UserError: the teacher does not fit.
        Interrupted: Ctrl-C.
    """
    config = with_weights_hash(with_sources(config))
    task, given = _student_task(config, data, folder, teacher_folder, teacher_config)
    _begin(folder, config, task, given, going_on=False)
    return fit(task, task.settings, folder, description=folder.name, on_evaluation=on_evaluation)[0]


def _student_task(
    config: Config,
    data: PreparedData,
    folder: Path,
    teacher_folder: Path,
    teacher_config: Config | None,
) -> tuple[StudentTask, _Given]:
    """What is to be trained, and what it is given beside its data."""
    for hook in hooks_of(config.objective).values():
        resolve(hook)
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    student = build_student(
        config.student,
        len(data.classes),
        config.data.size,
        two_heads=config.objective.two_heads,
    )
    backbone = None
    if config.student.weights is not None:
        backbone = load_backbone(config.student.weights)
        require_fitting(backbone, config.student, {config.data.name, data.name})
        start_from(student, backbone)
        cache = cache_folder(config.data)
        on_main(partial(refuse_leaking_backbone, backbone, data.manifest, cache))
    task, trained = student_task(config, data, student, device), None
    if config.objective.needs_teacher:
        trained = ready_teacher(teacher_config or config, data, teacher_folder)
        task.teacher = cast(Teacher, trained.model).to(device)
    answered = None
    if data.unlabelled is not None and config.objective.takes_unlabelled:
        labeller: Teacher | Student | None = task.teacher
        if config.objective.unlabelled.labeller == "student":
            labeller = _ready_labeller(config, data, folder, teacher_folder, teacher_config)
        assert labeller is not None
        precision = on_main(partial(precision_of, folder, config, device))
        task.autocast = make_autocast(precision, device)
        answered = _answered(config, data, labeller.to(device), task)
        task.take_photos(answered.beside(task.photos))
    elif data.unlabelled is not None and config.objective.hybrid_until:
        _say_left_out(config, len(data.unlabelled.files))
    return task, _Given(trained, backbone, answered)


def _ready_labeller(
    config: Config,
    data: PreparedData,
    folder: Path,
    teacher_folder: Path,
    teacher_config: Config | None,
) -> Student:
    """The student that labels photos: of the same settings, trained on the labelled ones alone.

    It reads no test recording.
    """
    events = {split: part for split, part in data.events.items() if split != "test"}
    own = dataclasses.replace(config.objective, unlabelled=UnlabelledConfig(learn="none"))
    train = dataclasses.replace(config.train, read_test=False)
    config = dataclasses.replace(config, objective=own, train=train)
    labeller = RunFolder(RunFolder(folder).labeller_folder)
    try:
        train_student(
            config,
            dataclasses.replace(data, events=events),
            labeller.path,
            teacher_folder=teacher_folder,
            teacher_config=teacher_config,
            resume=on_main(lambda: labeller.is_interrupted),
        )
    except Interrupted as stop:
        raise Interrupted(stop.stopped, option="") from stop
    if on_main(labeller.manifest) != data.manifest:
        raise UserError(
            f"{labeller.path}: this labeller was trained on another split than {folder}, some "
            "files are new, gone or changed; delete it, or restore the data"
        )
    return cast(Student, load_run(labeller.path).model)


def _answered(
    config: Config, data: PreparedData, labeller: Teacher | Student, task: StudentTask
) -> Answered:
    """What the labeller makes of photos without labels; a teacher then tells classes by them."""
    assert data.unlabelled is not None
    own = config.objective.unlabelled
    least = own.least_likeness
    *found, classifier = on_main(
        partial(answers, labeller, data, least, task.device, task.autocast)
    )
    answered = Answered(data.unlabelled, own.labeller, least, *found)
    if isinstance(labeller, Teacher):
        labeller.classify_by(classifier.to(task.device))
    told = answered.told(data.classes)
    others = f"; the others are like no class (below {least:g})"
    console.print(
        f"photos without labels: {told['accepted']:,} of {told['photos']:,} taken, by the "
        f"{own.labeller}'s answers" + (others if told["turned_away"] else ""),
        soft_wrap=True,
    )
    return answered


def _say_left_out(config: Config, photos: int) -> None:
    if config.objective.unlabelled.learn != "none":
        console.print(
            f"{photos:,} photos without labels are left out: method {config.method} has no teacher "
            "that could answer on them; set objective.unlabelled.labeller to student",
            soft_wrap=True,
        )


def train_teacher(
    config: Config,
    data: PreparedData,
    folder: Path,
    *,
    resume: bool = False,
    shared: bool = False,
) -> dict[str, Any]:
    """Train a teacher on the legal photos, as `train_student` trains a student.

    Args:
        config: Settings.
        data: Prepared data.
        folder: The run's folder.
        resume: Continue an interrupted run.
        shared: Several runs may need it at once: wait for a process that trains it, and continue a
            run that was interrupted.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: the folder holds another run, or another process trains it.
        Interrupted: Ctrl-C.
    """
    config, data = with_sources(teacher_settings(config)), data.labelled
    there = partial(open_run, folder, config, resume=resume, shared=shared)
    if (finished := on_main(there)) is not None:
        return finished
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    teacher = build_teacher(config.teacher, len(data.classes))
    task = teacher_task(config, data, teacher, device)
    with begun(folder, config, resume=resume, shared=shared) as (finished, going_on):
        if finished is not None:
            return finished
        precision = _begin(folder, config, task, going_on=going_on)
        best, seconds = fit(task, task.settings, folder, description=folder.name, resume=going_on)
        return on_main(partial(_finish, folder, config, precision, task, best, seconds))


def _doubts_of(manifest: Manifest | None, config: Config) -> list[str]:
    return teacher_doubts(manifest, config.teacher.name, config.teacher.weights)


def teacher_settings(config: Config) -> Config:
    """A teacher's settings: those that every method of a recipe shares."""
    train = TrainConfig(
        precision=config.train.precision,
        cuda_graph=config.train.cuda_graph,
        device=config.train.device,
        checkpoint_minutes=config.train.checkpoint_minutes,
    )
    data = dataclasses.replace(
        config.data, source=SourceConfig(), photo_views=PhotoViewConfig(), unlabelled=None
    )
    return Config(
        method="teacher", seed=config.seed, data=data, teacher=config.teacher, train=train
    )


def ready_teacher(config: Config, data: PreparedData, folder: Path) -> Trained:
    """The configured checkpoint, or the teacher in ``folder``, trained there first if need be.

    A teacher without a manifest is taken with a warning.

    Raises:
        UserError: other classes, or a training photo of the teacher is not legal in this split.
    """
    given = config.teacher.checkpoint
    if given is None:
        try:
            train_teacher(config, data, folder, shared=True)
        except Interrupted as stop:
            raise Interrupted(stop.stopped, option="") from stop
    path = folder if given is None else expand_path(given)
    trained, _ = load_teacher(path)
    if trained.classes != data.classes:
        raise UserError(
            f"{path}: teacher of other classes ({len(trained.classes)}: "
            f"{', '.join(trained.classes[:3])} …); train one on these photos"
        )
    if trained.manifest is None:
        console.print(
            f"warning: {path}: this teacher carries no manifest, so nobody can tell whether it was "
            "trained on photos of validation or test recordings",
            soft_wrap=True,
        )
    else:
        refuse_leaking_teacher(path, trained.manifest, data.manifest)
    return trained


def refuse_leaking_teacher(folder: Path, seen: Manifest, manifest: Manifest) -> None:
    """Refuse a teacher trained or selected on photos of validation or test recordings.

    Photos of a class that trains on events alone may be such. One that knows labels which the split
    hides is refused, too. What protocols `published` and `leaked` let their teacher see is none.

    Args:
        folder: Where the teacher is, for the message.
        seen: The teacher's manifest.
        manifest: The student's.

    Raises:
        UserError: names the first such photo.
    """
    held = {e.sha256 for e in manifest.select("photo", "source", "test", "held-out")}
    taught = {e.sha256 for e in manifest.teaching_photos} & manifest.allowed
    scenes = {manifest.scene(e) for e in manifest.held_recordings} - {""}
    alone = manifest.events_alone
    hidden = {e.sha256 for e in manifest.select("photo", "unlabelled") if e.label != UNKNOWN}
    for entry in seen.teaching_photos:
        if entry.sha256 in hidden:
            raise UserError(
                f"{folder}: this teacher was told the label of {entry.file}, which "
                "data.split.labelled_photos_per_class hides here; train it on this split"
            )
        if entry.class_name in alone:
            raise UserError(
                f"{folder}: this teacher was trained on {entry.file}, but class "
                f"{entry.class_name!r} trains on events alone here; train it with the same "
                "data.events_alone"
            )
        if entry.sha256 in taught:
            continue
        if entry.sha256 in held or manifest.scene(entry) in scenes:
            raise UserError(
                f"{folder}: this teacher was trained on {entry.file}, whose recording is held out "
                "here; train it on this split (same data.split and seed)"
            )


def _begin(
    folder: Path,
    config: Config,
    task: StudentTask | TeacherTask,
    given: _Given = _Given(),
    *,
    going_on: bool,
) -> Precision:
    """Say in a run's folder what is trained; nothing that can be refused comes after it.

    Returns:
        The precision that is trained in.

    Raises:
        UserError: a run that goes on was begun on another split, with another teacher, or with
            other answers on photos without labels.
    """

    def write() -> Precision:
        run, settings = RunFolder(folder), plain_settings(config)
        given_to = {run.manifest_file: task.data.manifest.text()}
        if given.teacher is not None and given.teacher.manifest is not None:
            given_to[run.teacher_manifest_file] = given.teacher.manifest.text()
        if given.answered is not None:
            given_to[run.unlabelled_file] = given.answered.text(task.data.classes)
        if given.backbone is not None:
            given_to[run.pool_file] = given.backbone.pool.text()
        if going_on:
            _require_unchanged(run, given_to)
        precision = precision_of(folder, config, task.device)
        write_text(run.precision_file, precision + "\n")
        write_text(run.config_file, yaml.safe_dump(settings, sort_keys=False))
        for path, text in given_to.items():
            write_text(path, text)
        return precision

    precision = on_main(write)
    task.autocast = make_autocast(precision, task.device)
    return precision


def _require_unchanged(run: RunFolder, given_to: dict[Path, str]) -> None:
    """Refuse to go on with a run on anything but what it was begun on."""
    what = {
        run.manifest_file: "its split was another one: recordings or photos are new, gone or "
        "changed; restore them",
        run.teacher_manifest_file: "its teacher had seen other photos; restore that teacher",
        run.unlabelled_file: "the answers on its photos without labels were others; go on with the "
        "same photos and labeller on the same kind of processor",
        run.pool_file: "its backbone had seen other photos; restore that backbone",
    }
    for path, text in given_to.items():
        if path.exists() and path.read_bytes() != text.encode():
            raise UserError(
                f"{run.path}: cannot go on, for {what[path]}, or start again in another folder "
                f"({path.name} tells what was seen)"
            )


def _finish(
    folder: Path,
    config: Config,
    precision: Precision,
    task: StudentTask | TeacherTask,
    best: Best,
    seconds: float,
    given: _Given = _Given(),
) -> dict[str, Any]:
    """Test the selected weights, and write them and the result."""
    kind = "teacher" if isinstance(task, TeacherTask) else "student"
    run, data, settings = RunFolder(folder), task.data, plain_settings(config)
    doubts = data.manifest.doubts
    if kind == "teacher":
        doubts += _doubts_of(data.manifest, config)
    elif given.teacher is not None:
        doubts += _doubts_of(given.teacher.manifest, given.teacher.config)
    if given.backbone is not None:
        doubts += [f"the backbone: {doubt}" for doubt in given.backbone.unproved]
    weights: dict[str, Tensor] = best.weights or {}
    task.model.load_state_dict(weights)
    tests = kind == "teacher" or "test" in data.events  # A labeller does not.
    evaluation = task.evaluate("test") if tests else None
    save_model(
        run.weights_file,
        weights,
        {
            "kind": kind,
            "config": settings,
            "hooks": folder_of(config.teacher.name),
            "precision": precision,
            "classes": list(data.classes),
            "sensor": None if data.sensor is None else list(data.sensor),
            "manifest": data.manifest.text(),
        },
    )
    if evaluation is not None:
        evaluation.write(run.predictions_file)
    result = {
        "method": config.method,
        "seed": config.seed,
        "labelled_per_class": _labelled_per_class(config.data, data.manifest),
        "labelled_recordings": dict(
            zip(("min", "max"), data.manifest.labelled_recordings, strict=True)
        ),
        "protocol": data.manifest.protocol,
        "selected_on": task.selecting,
        **({"test_read": True} if config.train.read_test else {}),
        "manifest_sha256": data.manifest.sha256,
        "proved": not doubts,
        "unproved": doubts,
        "origin": os.getcwd(),
        "teacher": _teacher_in_words(given.teacher, run),
        **({"backbone": given.backbone.about} if given.backbone else {}),
        "data": data.name,
        "classes": list(data.classes),
        "source_simulator": data.source_camera.settings() if data.source_camera else None,
        "time_steps": config.data.time_steps,
        "best_epoch": best.epoch,
        "val_top1": None if task.selecting == LAST_EPOCH else best.top1,
        "test_top1": evaluation and evaluation.top1,
        "test_loss": evaluation and evaluation.loss,
        "rates": evaluation and evaluation.rates,
        "seconds": round(seconds, 1),
        "world_size": size(),
        "precision": precision,
        "parameters": sum(p.numel() for p in task.model.parameters()),
    }
    if kind == "student" and data.unlabelled is not None and config.objective.hybrid_until:
        answered, photos = given.answered, len(data.unlabelled.files)
        result["unlabelled"] = answered.told(data.classes) if answered else left_out(photos)
    result["settings_key"] = key_of(settings_that_matter(settings, result))
    if kind == "teacher":
        del result["rates"], result["time_steps"], result["teacher"], result["source_simulator"]
    write_json(run.result_file, result)
    return result


def _labelled_per_class(config: DataConfig, manifest: Manifest) -> int | None:
    """Labelled recordings per class, as set or, of a given split, counted.

    None where classes of a given split differ, and where all that are left were taken.
    """
    if config.split.manifest is None:
        return config.split.labelled_per_class
    fewest, most = manifest.labelled_recordings
    return fewest if fewest == most else None


def _teacher_in_words(teacher: Trained | None, run: RunFolder) -> str | None:
    if teacher is None:
        return None
    known = teacher.manifest is not None
    return run.teacher_manifest_file.name if known else "unknown: the teacher carries no manifest"
