"""A run: one folder with settings, manifest, curves, weights and result."""

import csv
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

from spikebridge.base.console import console, working
from spikebridge.base.devices import steady
from spikebridge.base.distributed import on_main, size
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.base.files import expand_path, write_json, write_text
from spikebridge.base.hooks import bare, folder_of, is_hook, look_in, resolve
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.data.splits.manifest import Manifest
from spikebridge.models.build import build_student
from spikebridge.models.neurons.kernels import require
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.results.comparable import key_of, settings_that_matter
from spikebridge.run_folder import (
    PRECISION,
    begun,
    data_of,
    open_run,
    plain_settings,
    precision_of,
    with_sources,
)
from spikebridge.settings.config import Config, DataConfig, SourceConfig, StudentConfig, TrainConfig
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge
from spikebridge.training.checkpoint import fill, load_model, save_model
from spikebridge.training.evaluate import Evaluation
from spikebridge.training.loop import Best, fit
from spikebridge.training.precision import Precision
from spikebridge.training.tasks import StudentTask, TeacherTask, make_autocast

TEACHER_MANIFEST = "teacher-manifest.csv"
"""In a student's folder: what its teacher was trained on."""


@dataclass(frozen=True)
class Trained:
    """A trained student or teacher, and what its inputs need."""

    kind: str
    model: Student | Teacher
    config: Config
    """Its settings; in the place of precision `auto`, what it was trained in."""
    classes: tuple[str, ...]
    sensor: tuple[int, int] | None
    """Sensor width and height; None where each file tells it."""
    manifest: Manifest | None
    """What it was trained on; None where the model's file does not say."""


def pick_device(name: str) -> torch.device:
    """The device that a configuration names; a GPU is set to compute as `steady` says.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"train.device {name!r} is not available here; use auto or cpu"
            ) from error
    steady(device)
    return device


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
    config = with_sources(config)
    if (finished := on_main(partial(open_run, folder, config, resume))) is not None:
        return finished
    task, teacher = _student_task(config, data, teacher_folder, teacher_config)
    with begun(folder, config, resume) as (finished, _):
        if finished is not None:
            return finished
        precision = _begin(folder, config, task, teacher)
        best, seconds = fit(task, task.settings, folder, description=folder.name, resume=resume)
        return on_main(partial(_finish, folder, config, precision, task, best, seconds, teacher))


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
    config = with_sources(config)
    task, teacher = _student_task(config, data, teacher_folder, teacher_config)
    _begin(folder, config, task, teacher)
    return fit(task, task.settings, folder, description=folder.name, on_evaluation=on_evaluation)[0]


def _student_task(
    config: Config, data: PreparedData, teacher_folder: Path, teacher_config: Config | None
) -> tuple[StudentTask, Trained | None]:
    """What is to be trained, and its teacher, if it needs one."""
    for hook in config.objective.hooks:
        resolve(hook)
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    student = build_student(
        config.student,
        len(data.classes),
        config.data.size,
        two_heads=config.objective.two_heads,
    )
    task = StudentTask(config, data, student, device)
    if not config.objective.needs_teacher:
        return task, None
    trained = ready_teacher(teacher_config or config, data, teacher_folder)
    task.teacher = cast(Teacher, trained.model).to(device)
    return task, trained


def train_teacher(
    config: Config,
    data: PreparedData,
    folder: Path,
    *,
    resume: bool | None = False,
    waiting: str | None = None,
) -> dict[str, Any]:
    """Train a teacher on the legal photos, as `train_student` trains a student.

    Args:
        config: Settings.
        data: Prepared data.
        folder: The run's folder.
        resume: As for `open_run`.
        waiting: What to say before waiting for another process that trains it; None refuses.

    Returns:
        What ``result.json`` holds.

    Raises:
        UserError: the folder holds another run, or another process trains it.
        Interrupted: Ctrl-C.
    """
    config = with_sources(teacher_settings(config))
    if (finished := on_main(partial(open_run, folder, config, resume))) is not None:
        return finished
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    teacher = build_teacher(config.teacher, len(data.classes))
    task = TeacherTask(config, data, teacher, device)
    with begun(folder, config, resume, waiting=waiting) as (finished, going_on):
        if finished is not None:
            return finished
        precision = _begin(folder, config, task)
        best, seconds = fit(task, task.settings, folder, description=folder.name, resume=going_on)
        return on_main(partial(_finish, folder, config, precision, task, best, seconds))


def teacher_doubts(manifest: Manifest | None, name: str, weights: str | None) -> list[str]:
    """Why nobody can tell all that a teacher was trained on.

    Args:
        manifest: What it carries.
        name: What it is (``teacher.name``).
        weights: File of weights that it started from (``teacher.weights``).
    """
    doubts = []
    if is_hook(name):
        doubts.append(
            f"the teacher is built by {bare(name)}, and nothing tells which weights it started "
            "from; make sure that they were not trained on photos of this data set"
        )
    if weights is not None:
        doubts.append(
            f"the teacher started from {weights}, which carries no manifest; make sure that it was "
            "not trained on photos of this data set"
        )
    if manifest is None:
        doubts.append("the teacher carries no manifest; train it with spikebridge teacher")
    return doubts


def _doubts_of(manifest: Manifest | None, config: Config) -> list[str]:
    return teacher_doubts(manifest, config.teacher.name, config.teacher.weights)


def teacher_settings(config: Config) -> Config:
    """A teacher's settings: those that every method of a recipe shares."""
    train = TrainConfig(
        precision=config.train.precision,
        device=config.train.device,
        checkpoint_minutes=config.train.checkpoint_minutes,
    )
    data = dataclasses.replace(config.data, source=SourceConfig())
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
            words = f"{folder}: waiting for this teacher, which another process trains"
            train_teacher(config, data, folder, resume=None, waiting=words)
        except Interrupted as stop:
            raise Interrupted(stop.stopped, option="") from stop
    path = folder if given is None else expand_path(given)
    trained = load_run(path)
    if not isinstance(trained.model, Teacher):
        raise UserError(f"{path}: holds a student, not a teacher; set teacher.checkpoint")
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

    Photos of a class that trains on events alone may be such.

    Args:
        folder: Where the teacher is, for the message.
        seen: The teacher's manifest.
        manifest: The student's.

    Raises:
        UserError: names the first such photo.
    """
    held = {e.sha256 for s in ("test", "held-out") for e in manifest.select("photo", s)}
    scenes = {manifest.scene(e) for e in manifest.held_recordings} - {""}
    alone = manifest.events_alone
    for entry in seen.seen_photos:
        if entry.class_name in alone:
            raise UserError(
                f"{folder}: this teacher was trained on {entry.file}, but class "
                f"{entry.class_name!r} trains on events alone here; train it with the same "
                "data.events_alone"
            )
        if entry.sha256 in held or manifest.scene(entry) in scenes:
            raise UserError(
                f"{folder}: this teacher was trained on {entry.file}, whose recording is held out "
                "here; train it on this split (same data.split and seed)"
            )


def load_run(folder: Path) -> Trained:
    """A trained student or teacher from its run's folder; without a GPU, on the CPU.

    Raises:
        UserError: no finished run there, or weights that do not fit their description.
    """
    path = folder / "model.safetensors"
    weights, description = load_model(path)
    try:
        settings, kind = description["config"], description["kind"]
        classes, sensor = tuple(description["classes"]), description["sensor"]
        sensor = None if sensor is None else tuple(sensor)
        text, precision = description.get("manifest"), description.get("precision")
        manifest = None if text is None else Manifest.parse(text)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a model of spikebridge; train the run again") from error
    if precision is not None:
        settings = merge(settings, {"train": {"precision": precision}})
    config = config_from(settings, origin=str(path))
    if config.train.device.startswith("cuda") and not torch.cuda.is_available():
        config = dataclasses.replace(config, train=dataclasses.replace(config.train, device="auto"))
    if kind == "teacher":
        look_in(description.get("hooks"))
        model = build_teacher(config.teacher, len(classes), pretrained=False)
    else:
        two_heads = config.objective.two_heads
        student = _with_neurons_of_here(config.student)
        model = build_student(student, len(classes), config.data.size, two_heads=two_heads)
    fill(model, weights, path)
    return Trained(kind, model.eval(), config, classes, sensor, manifest)


def _with_neurons_of_here(student: StudentConfig) -> StudentConfig:
    """The same student, its neurons computed by what this machine has."""
    try:
        require(student.neuron_backend)
    except UserError:
        return dataclasses.replace(student, neuron_backend="auto")
    return student


def data_of_run(folder: Path, trained: Trained) -> PreparedData:
    """The data that a finished run was made with, from wherever it is looked at.

    Raises:
        UserError: its data or its manifest have changed since.
    """
    manifest = Manifest.read(folder / "manifest.csv")
    if manifest != trained.manifest:
        raise UserError(
            f"{folder}/manifest.csv: not the manifest that this run was trained with; restore it"
        )
    data = data_of(folder, trained.config.data)
    try:
        return prepare(data, trained.config.seed, manifest=manifest)
    except UserError as error:
        raise UserError(
            f"{folder}: the data are no longer those that this run was trained on: {error}"
        ) from error


def evaluate_run(folder: Path, split: str) -> Evaluation:
    """Evaluate a finished run on a split of its own data.

    Raises:
        UserError: no finished run, or its data have changed since.
    """
    trained = load_run(folder)
    config, data = trained.config, data_of_run(folder, trained)
    device = pick_device(config.train.device)
    model = trained.model.to(device)
    task = TeacherTask if isinstance(model, Teacher) else StudentTask
    of_run = task(config, data, model, device)  # pyright: ignore[reportArgumentType]
    with working(f"evaluating on {split}"):
        return of_run.evaluate(split)


def _begin(
    folder: Path,
    config: Config,
    task: StudentTask | TeacherTask,
    teacher: Trained | None = None,
) -> Precision:
    """Say in a run's folder what is trained; nothing that can be refused comes after it.

    Returns:
        The precision that is trained in.
    """

    def write() -> Precision:
        precision = precision_of(folder, config, task.device)
        write_text(folder / PRECISION, precision + "\n")
        write_text(folder / "config.yaml", yaml.safe_dump(plain_settings(config), sort_keys=False))
        task.data.manifest.write(folder / "manifest.csv")
        if teacher is not None and teacher.manifest is not None:
            teacher.manifest.write(folder / TEACHER_MANIFEST)
        return precision

    precision = on_main(write)
    train = dataclasses.replace(config.train, precision=precision)
    task.autocast = make_autocast(dataclasses.replace(config, train=train), task.device)
    return precision


def _test_selected(task: StudentTask | TeacherTask, best: Best) -> Evaluation:
    weights: dict[str, Tensor] = best.weights or {}
    task.model.load_state_dict(weights)
    return task.evaluate("test")


def _finish(
    folder: Path,
    config: Config,
    precision: Precision,
    task: StudentTask | TeacherTask,
    best: Best,
    seconds: float,
    teacher: Trained | None = None,
) -> dict[str, Any]:
    """Test the selected weights, and write them and the result."""
    kind = "teacher" if isinstance(task, TeacherTask) else "student"
    data = task.data
    doubts = data.manifest.doubts
    if kind == "teacher":
        doubts += _doubts_of(data.manifest, config)
    elif teacher is not None:
        doubts += _doubts_of(teacher.manifest, teacher.config)
    evaluation = _test_selected(task, best)
    save_model(
        folder / "model.safetensors",
        best.weights or {},
        {
            "kind": kind,
            "config": plain_settings(config),
            "hooks": folder_of(config.teacher.name),
            "precision": precision,
            "classes": list(data.classes),
            "sensor": None if data.sensor is None else list(data.sensor),
            "manifest": data.manifest.text(),
        },
    )
    evaluation.write(folder / "predictions.csv")
    result = {
        "method": config.method,
        "seed": config.seed,
        "labelled_per_class": _labelled_per_class(config.data, data.manifest),
        "labelled_recordings": dict(
            zip(("min", "max"), data.manifest.labelled_recordings, strict=True)
        ),
        "protocol": data.manifest.protocol,
        "selected_on": data.manifest.selecting,
        "manifest_sha256": data.manifest.sha256,
        "proved": not doubts,
        "unproved": doubts,
        "origin": os.getcwd(),
        "teacher": _teacher_in_words(teacher),
        "data": data.name,
        "classes": list(data.classes),
        "source_simulator": data.source.settings() if data.source else None,
        "time_steps": config.data.time_steps,
        "best_epoch": best.epoch,
        "val_top1": best.top1,
        "test_top1": evaluation.top1,
        "test_loss": evaluation.loss,
        "rates": evaluation.rates,
        "seconds": round(seconds, 1),
        "world_size": size(),
        "precision": precision,
        "parameters": sum(p.numel() for p in task.model.parameters()),
    }
    settings = plain_settings(config)
    result["settings_key"] = key_of(settings_that_matter(settings, result))
    if kind == "teacher":
        del result["rates"], result["time_steps"], result["teacher"], result["source_simulator"]
    write_json(folder / "result.json", result)
    return result


def _labelled_per_class(config: DataConfig, manifest: Manifest) -> int | None:
    """Labelled recordings per class, as set or, of a given split, counted.

    None where classes of a given split differ, and where all that are left were taken.
    """
    if config.split.manifest is None:
        return config.split.labelled_per_class
    fewest, most = manifest.labelled_recordings
    return fewest if fewest == most else None


def _teacher_in_words(teacher: Trained | None) -> str | None:
    if teacher is None:
        return None
    known = teacher.manifest is not None
    return TEACHER_MANIFEST if known else "unknown: the teacher carries no manifest"
