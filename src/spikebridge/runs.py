"""A run: one folder with settings, manifest, curves, weights and result."""

import csv
import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast

import torch
import yaml
from torch import Tensor

from spikebridge.compare import read_result
from spikebridge.config import Config, SourceConfig, TrainConfig
from spikebridge.console import console
from spikebridge.data.manifest import Manifest
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.errors import UserError
from spikebridge.evaluate import Evaluation
from spikebridge.files import write_json, write_text
from spikebridge.models.build import build_student
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.settings import config_from
from spikebridge.training.checkpoint import fill, load_model, save_model
from spikebridge.training.distributed import on_main, size
from spikebridge.training.loop import Best, Interrupted, fit
from spikebridge.training.tasks import StudentTask, TeacherTask

TEACHER_MANIFEST = "teacher-manifest.csv"
"""In a student's folder: what its teacher was trained on."""


@dataclass(frozen=True)
class Trained:
    """A trained student or teacher, and what its inputs need."""

    kind: str
    model: Student | Teacher
    config: Config
    classes: tuple[str, ...]
    sensor: tuple[int, int] | None
    """Sensor width and height; None where each file tells it."""
    manifest: Manifest | None
    """What it was trained on; None where the model's file does not say."""


def pick_device(name: str) -> torch.device:
    """The device that a configuration names.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    try:
        device = torch.device(name)
        torch.empty(1, device=device)
    except (RuntimeError, AssertionError) as error:
        raise UserError(f"train.device {name!r} is not available here; use auto or cpu") from error
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
        UserError: the folder holds another run, or the teacher does not fit.
        Interrupted: Ctrl-C.
    """
    if (finished := on_main(partial(open_run, folder, config, resume))) is not None:
        return finished
    task, best, seconds, teacher = _fit_student(
        config, data, folder, teacher_folder, teacher_config, resume
    )
    return on_main(partial(_finish, folder, config, data, task, best, seconds, teacher))


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
    return _fit_student(config, data, folder, teacher_folder, teacher_config, False, on_evaluation)[
        1
    ]


def _fit_student(
    config: Config,
    data: PreparedData,
    folder: Path,
    teacher_folder: Path,
    teacher_config: Config | None,
    resume: bool,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> tuple[StudentTask, Best, float, str | None]:
    """Train a student; the task, the selected epoch, seconds, and the teacher in words."""
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    student = build_student(
        config.student,
        len(data.classes),
        config.data.size,
        two_heads=config.objective.two_heads,
    )
    task = StudentTask(config, data, student, device)
    seen_by_teacher = None
    if config.objective.needs_teacher:
        trained = ready_teacher(teacher_config or config, data, teacher_folder)
        task.teacher, seen_by_teacher = cast(Teacher, trained.model).to(device), trained.manifest
    on_main(partial(_begin, folder, config, data, seen_by_teacher))
    best, seconds = fit(
        task,
        task.settings,
        folder,
        description=folder.name,
        resume=resume,
        on_evaluation=on_evaluation,
    )
    return task, best, seconds, _teacher_in_words(task, seen_by_teacher)


def train_teacher(
    config: Config, data: PreparedData, folder: Path, *, resume: bool = False
) -> dict[str, Any]:
    """Train a teacher on the legal photos, as `train_student` trains a student."""
    config = teacher_settings(config)
    if (finished := on_main(partial(open_run, folder, config, resume))) is not None:
        return finished
    device = pick_device(config.train.device)
    torch.manual_seed(config.seed)
    teacher = build_teacher(config.teacher, len(data.classes))
    task = TeacherTask(config, data, teacher, device)
    on_main(partial(_begin, folder, config, data))
    best, seconds = fit(task, task.settings, folder, description=folder.name, resume=resume)
    return on_main(partial(_finish, folder, config, data, task, best, seconds))


def _teacher_in_words(task: StudentTask, seen: Manifest | None) -> str | None:
    if not task.objective.config.needs_teacher:
        return None
    return TEACHER_MANIFEST if seen is not None else "unknown: the teacher carries no manifest"


def unfinished(folder: Path) -> bool:
    """Whether a folder holds an interrupted run."""
    return (folder / "checkpoint.pt").exists() and not (folder / "result.json").exists()


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
            train_teacher(config, data, folder, resume=unfinished(folder))
        except Interrupted as stop:
            raise Interrupted(stop.stopped, option="") from stop
    path = folder if given is None else Path(given)
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

    Args:
        folder: Where the teacher is, for the message.
        seen: The teacher's manifest.
        manifest: The student's.

    Raises:
        UserError: names the first such photo.
    """
    held = {e.sha256 for s in ("test", "held-out") for e in manifest.select("photo", s)}
    pairs = {e.pair for e in manifest.held_recordings} - {""}
    for entry in seen.seen_photos:
        if entry.sha256 in held or entry.pair in pairs:
            raise UserError(
                f"{folder}: this teacher was trained on {entry.file}, whose recording is held out "
                "here; train it on this split (same data.split and seed)"
            )


def load_run(folder: Path) -> Trained:
    """A trained student or teacher from its run's folder.

    Raises:
        UserError: no finished run there, or weights that do not fit their description.
    """
    path = folder / "model.safetensors"
    weights, description = load_model(path)
    try:
        settings, kind = description["config"], description["kind"]
        classes, sensor = tuple(description["classes"]), description["sensor"]
        sensor = None if sensor is None else tuple(sensor)
        text = description.get("manifest")
        manifest = None if text is None else Manifest.parse(text)
    except (KeyError, TypeError, ValueError, csv.Error) as error:
        raise UserError(f"{path}: not a model of spikebridge; train the run again") from error
    config = config_from(settings, origin=str(path))
    if kind == "teacher":
        model = build_teacher(config.teacher, len(classes), pretrained=False)
    else:
        two_heads = config.objective.two_heads
        model = build_student(config.student, len(classes), config.data.size, two_heads=two_heads)
    fill(model, weights, path)
    return Trained(kind, model.eval(), config, classes, sensor, manifest)


def evaluate_run(folder: Path, split: str) -> Evaluation:
    """Evaluate a finished run on a split of its own data.

    Raises:
        UserError: no finished run, or its data have changed since.
    """
    trained = load_run(folder)
    config = trained.config
    manifest = Manifest.read(folder / "manifest.csv")
    if manifest != trained.manifest:
        raise UserError(
            f"{folder}/manifest.csv: not the manifest that this run was trained with; restore it"
        )
    try:
        data = prepare(config.data, config.seed, manifest=manifest)
    except UserError as error:
        raise UserError(
            f"{folder}: the data are no longer those that this run was trained on: {error}"
        ) from error
    device = pick_device(config.train.device)
    model = trained.model.to(device)
    task = TeacherTask if isinstance(model, Teacher) else StudentTask
    return task(config, data, model, device).evaluate(split)  # pyright: ignore[reportArgumentType]


def open_run(folder: Path, config: Config, resume: bool) -> dict[str, Any] | None:
    """Check a run's folder; the result when the run is already finished.

    Raises:
        UserError: it holds a run with other settings or an interrupted one that ``resume`` does not
            go on with, or there is nothing to resume.
    """
    settings = _plain(dataclasses.asdict(config))
    path = folder / "config.yaml"
    if path.exists():
        if (there := _settings_at(path)) != settings:
            raise UserError(
                f"{folder}: holds a run with other settings ({_difference(there, settings)}); "
                "choose another folder or delete this one"
            )
        if (folder / "result.json").exists():
            return read_result(folder)
        if unfinished(folder) and not resume:
            raise UserError(
                f"{folder}: holds an interrupted run; add --resume, or delete it to start again"
            )
    if resume and not (folder / "checkpoint.pt").exists():
        raise UserError(f"{folder}: no checkpoint to resume from; start without --resume")
    return None


def _begin(
    folder: Path, config: Config, data: PreparedData, seen_by_teacher: Manifest | None = None
) -> None:
    """Say in a run's folder what is trained; nothing that can be refused comes after it."""
    write_text(folder / "config.yaml", _settings_text(config))
    data.manifest.write(folder / "manifest.csv")
    if seen_by_teacher is not None:
        seen_by_teacher.write(folder / TEACHER_MANIFEST)


def _settings_at(path: Path) -> dict[str, Any]:
    """A run's settings; one that this version added has its default there."""
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: damaged; choose another folder or delete this one") from error
    if not isinstance(written, dict):
        raise UserError(f"{path}: damaged; choose another folder or delete this one")
    return _plain(dataclasses.asdict(config_from(written, origin=str(path))))


def _settings_text(config: Config) -> str:
    return yaml.safe_dump(_plain(dataclasses.asdict(config)), sort_keys=False)


def _difference(there: Any, here: Any, name: str = "") -> str:
    """The first setting that differs, in words."""
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{name} is {there!r} there and {here!r} here"
    key = next(k for k in {**here, **there} if here.get(k) != there.get(k))
    return _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)


def _plain(value: Any) -> Any:
    """Tuples as lists, for YAML and JSON."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _test_selected(task: StudentTask | TeacherTask, best: Best) -> Evaluation:
    weights: dict[str, Tensor] = best.weights or {}
    task.model.load_state_dict(weights)
    return task.evaluate("test")


def _finish(
    folder: Path,
    config: Config,
    data: PreparedData,
    task: StudentTask | TeacherTask,
    best: Best,
    seconds: float,
    teacher: str | None = None,
) -> dict[str, Any]:
    """Test the selected weights, and write them and the result."""
    kind = "teacher" if isinstance(task, TeacherTask) else "student"
    evaluation = _test_selected(task, best)
    save_model(
        folder / "model.safetensors",
        best.weights or {},
        {
            "kind": kind,
            "config": _plain(dataclasses.asdict(config)),
            "classes": list(data.classes),
            "sensor": None if data.sensor is None else list(data.sensor),
            "manifest": data.manifest.text(),
        },
    )
    evaluation.write(folder / "predictions.csv")
    result = {
        "method": config.method,
        "seed": config.seed,
        "labelled_per_class": config.data.split.labelled_per_class,
        "protocol": data.manifest.protocol,
        "selected_on": data.manifest.selecting,
        "manifest_sha256": data.manifest.sha256,
        "teacher": teacher,
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
        "parameters": sum(p.numel() for p in task.model.parameters()),
    }
    if kind == "teacher":
        del result["rates"], result["time_steps"], result["teacher"], result["source_simulator"]
    write_json(folder / "result.json", result)
    return result
