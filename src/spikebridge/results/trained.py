"""A finished run's network, and the data that it was made with."""

import csv
import dataclasses
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from spikebridge.base.console import working
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.base.hooks import look_in
from spikebridge.data.manifest import Manifest
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.models.build import build_student
from spikebridge.models.neurons.kernels import require
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import Student
from spikebridge.models.teacher import Teacher, build_teacher
from spikebridge.run_folder import RunFolder
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge
from spikebridge.training.checkpoint import fill, load_model
from spikebridge.training.evaluate import Evaluation, evaluate_student, evaluate_teacher
from spikebridge.training.precision import make_autocast


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


def load_run(folder: Path) -> Trained:
    """A trained student or teacher from its run's folder; without its GPU, on what is here.

    Raises:
        UserError: no finished run there, or weights that do not fit their description.
    """
    path = RunFolder(folder).weights_file
    weights, description = load_model(path)
    if description.get("kind") == "backbone":
        RunFolder(folder).require_network()
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
    if not _is_here(config.train.device):
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


def load_teacher(folder: Path) -> tuple[Trained, Teacher]:
    """A trained teacher from its run's folder, and its network.

    Raises:
        UserError: as `load_run`, or it holds a student.
    """
    trained = load_run(folder)
    if not isinstance(trained.model, Teacher):
        raise UserError(f"{folder}: holds a student, not a teacher; set teacher.checkpoint")
    return trained, trained.model


def _is_here(device: str) -> bool:
    """Whether this machine has the device that a run was told to take."""
    if not device.startswith("cuda"):
        return True
    index = torch.device(device).index or 0
    return torch.cuda.is_available() and index < torch.cuda.device_count()


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
    run = RunFolder(folder)
    manifest = run.manifest()
    if manifest != trained.manifest:
        raise UserError(
            f"{run.manifest_file}: not the manifest that this run was trained with; restore it"
        )
    # Photos that nobody has sorted are of no use after training, and their folder may be gone.
    settings = dataclasses.replace(trained.config.data, unlabelled=None)
    data = run.data_from_here(settings)
    try:
        return prepare(data, trained.config.seed, manifest=manifest.without_strangers)
    except UserError as error:
        raise UserError(
            f"{folder}: the data are no longer those that this run was trained on: {error}"
        ) from error


def evenly(count: int, most: int) -> np.ndarray:
    """Indices of at most so many things of a row, evenly spaced, its ends among them."""
    return np.linspace(0, count - 1, min(most, count)).round().astype(int)


def evaluate_run(folder: Path, split: str) -> Evaluation:
    """Evaluate a finished run on a split of its own data.

    Raises:
        UserError: no finished run, or its data have changed since.
    """
    trained = load_run(folder)
    data = data_of_run(folder, trained)
    with working(f"evaluating on {split}"):
        return evaluate(trained, data, split)


def evaluate(trained: Trained, data: PreparedData, split: str) -> Evaluation:
    """Evaluate a network on a split of any data, in its own precision and on its own device."""
    device = pick_device(trained.config.train.device)
    autocast = make_autocast(trained.config.train.precision, device)
    if isinstance(model := trained.model.to(device), Teacher):
        return evaluate_teacher(model, data.photos[split], device=device, autocast=autocast)
    return evaluate_student(model, data.events[split], device=device, autocast=autocast)
