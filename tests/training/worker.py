"""One of two processes as torchrun starts them: RECIPE FOLDER PORT…; its findings go to FOLDER."""

import contextlib
import dataclasses
import io
import itertools
import os
import shutil
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import torch

from spikebridge.base.distributed import processes
from spikebridge.ckd.result import StepResult
from spikebridge.cli import main
from spikebridge.data.feed.batches import Batch
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.tasks import student_task
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge, read_recipe
from spikebridge.training.loop import learning_rate
from spikebridge.training.packing import unpacked
from spikebridge.training.step import TrainingStep, make_optimiser
from spikebridge.training.tasks import StudentTask

CPU = torch.device("cpu")
AUGMENT = {"crop": 1, "flip": True, "event_drop": 0.4, "time_jitter": 0.3}
VIEWS = {"crop": 0.5, "flip": True, "rotate": 10, "contrast": 0.3, "gamma": 0.3, "mixup": True}
TOGETHER = {
    "data": {"augment": AUGMENT, "photo_views": VIEWS},
    "train": {"batch_size": 7, "sync_batch_norm": True},
    "objective": {"gather_alignment": True, "replacement": {"shape": "linear"}},
}
"""Settings under which any number of processes computes the same."""
APART = {"data": {"augment": AUGMENT}, "train": {"batch_size": 8}}


def make_task(recipe: str, method: str, changes: dict) -> StudentTask:
    """A task in float64, in which rounding does not flip spikes."""
    config: Config = config_from(merge(read_recipe(recipe, method), changes), recipe)
    data: PreparedData = prepare(config.data, config.seed)
    torch.manual_seed(0)
    student = build_student(config.student, 3, config.data.size, two_heads=True)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):  # So that every layer fires.
            torch.nn.init.uniform_(module.weight, 0.8, 1.5)
            torch.nn.init.uniform_(module.bias, -0.1, 0.4)
    task = student_task(config, data, student.double(), CPU)
    task.extras.double()
    task.teacher = build_teacher(config.teacher, 3).double().eval()
    task.settings = dataclasses.replace(task.settings, epochs=2, batches_per_epoch=5)
    make = task.batches.assembled
    task.batches.assembled = lambda drawn: doubled(make(drawn))
    return task


def doubled(batch: Batch) -> Batch:
    """The same in float64."""
    return dataclasses.replace(
        batch, dvs_TBCHW=batch.dvs_TBCHW.double(), photo_B3HW=batch.photo_B3HW.double()
    )


def train(task: StudentTask, steps: int) -> dict[str, Any]:
    """Losses and gradients of each step, and the weights and statistics after them."""
    modules = torch.nn.ModuleList([task.model, task.extras])
    trained = [p for p in modules.parameters() if p.requires_grad]
    settings = task.settings
    optimiser = make_optimiser(trained, settings.lr, settings.weight_decay, CPU)
    take = TrainingStep(task.losses, trained, optimiser, CPU, capture=False)
    found: dict[str, Any] = {"losses": [], "grads": []}
    for step in range(2, 2 + steps):
        inputs = task.batch(step)
        [computed] = unpacked([take(inputs.tensors, learning_rate(step, settings))])
        part = inputs.tensors[0].part
        weight = part.weight if part else 1.0
        found["losses"].append({k: v * weight for k, v in computed["losses"].items()})
        found["grads"].append(
            {name: None if p.grad is None else p.grad.clone() for name, p in named(modules)}
        )
    found["weights"] = {k: v.clone() for k, v in modules.state_dict().items()}
    return found


def named(modules: torch.nn.ModuleList) -> list[tuple[str, torch.nn.Parameter]]:
    """Trained parameters by name."""
    return [(name, p) for name, p in modules.named_parameters() if p.requires_grad]


@contextlib.contextmanager
def rank_1_stopped_at(step: int) -> Iterator[None]:
    """Ctrl-C, which one process alone gets."""
    original, number = StudentTask.losses, itertools.count()

    def patched(task: StudentTask, tensors: Any) -> StepResult:
        training = torch.is_grad_enabled()  # not when statistics are measured
        if training and next(number) == step and os.environ["RANK"] == "1":
            os.kill(os.getpid(), signal.SIGINT)
        return original(task, tensors)

    with mock.patch.object(StudentTask, "losses", patched):
        yield


def command(*words: str) -> tuple[int, str]:
    """Exit code, and what the command says to stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as errors:
        code = main(words)
    return code, errors.getvalue()


def work(recipe: str, folder: Path, ports: list[str]) -> dict[str, Any]:
    """All that is looked at; every connection has a port of its own."""

    def connect() -> None:
        os.environ["MASTER_PORT"] = ports.pop()

    found: dict[str, Any] = {}
    for name, method, changes, steps in (
        ("together", "ckd", TOGETHER, 3),
        ("apart", "scratch+tet", APART, 1),
    ):
        connect()
        with processes("cpu"):
            found[name] = train(make_task(recipe, method, changes), steps)
    run = ["train", recipe, "--method", "ckd", "--teacher_run", str(folder / "teacher"), "--out"]
    connect()
    found["whole"] = command(*run, str(folder / "whole"))
    connect()
    with rank_1_stopped_at(3):
        found["stopped"] = command(*run, str(folder / "parts"))
    if os.environ["RANK"] == "0":
        shutil.copytree(folder / "parts", folder / "stopped")
    connect()
    found["resumed"] = command(*run, str(folder / "parts"), "--resume")
    connect()
    found["refused"] = command(*run, str(folder / "refused"), "--train.batch_size", "3")
    return found


if __name__ == "__main__":
    torch.set_num_threads(1)
    _, recipe, folder, *ports = sys.argv
    torch.save(work(recipe, Path(folder), ports), Path(folder) / f"rank{os.environ['RANK']}.pt")
