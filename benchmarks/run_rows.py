"""The two ways of `bench run`, each a whole training run and its test in seconds by part."""

import json
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks.reference import PlainStudent, ReferenceParts, plain_losses
from spikebridge.base import compiled
from spikebridge.base.devices import pick_device
from spikebridge.ckd.losses import TemporalCoefficient
from spikebridge.data.feed.batches import PairedBatches
from spikebridge.data.feed.sets import EventSet
from spikebridge.data.prepared import PreparedData, prepare
from spikebridge.models.build import build_student
from spikebridge.models.teacher import build_teacher
from spikebridge.runs.tasks import student_task
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.training.ahead import Ahead
from spikebridge.training.loop import fit, learning_rate
from spikebridge.training.tasks import StudentTask

PARTS: tuple[str, ...] = ("loading", "teacher", "evaluation", "steps")
"""What a run's time is made of; steps are all that the others leave."""

_EVALUATION_BATCH = 100


def cold_and_warm(row: str, folder: str) -> list[dict[str, float]]:
    """Seconds by part of two runs in this process."""
    scratch = Path(folder)
    config = config_from(json.loads((scratch / "config.json").read_text()), "bench run")
    data = prepare(config.data, config.seed)
    run = {"ours": ours, "reference": reference}[row]
    runs = [run(config, data, scratch) for _ in range(2)]
    runs[0]["build"] = sum(compiled.seconds.values())
    return runs


class Clock:
    """Seconds by part.

    Args:
        device: Where the parts run; what is queued there when a part begins is none of its own.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds: dict[str, float] = dict.fromkeys(PARTS, 0.0)
        self._device = device

    @contextmanager
    def of(self, part: str) -> Iterator[None]:
        """Count what happens inside for a part."""
        self.wait()
        began = time.perf_counter()
        try:
            yield
        finally:
            self.wait()
            self.seconds[part] += time.perf_counter() - began

    def wait(self) -> None:
        """Wait until the device has done what it was given, unless that is being recorded."""
        if self._device.type == "cuda" and not torch.cuda.is_current_stream_capturing():
            torch.cuda.synchronize(self._device)

    def timed(self, part: str, act: Callable[..., Any]) -> Callable[..., Any]:
        """The same function, counted for a part."""

        def run(*arguments: Any) -> Any:
            with self.of(part):
                return act(*arguments)

        return run


class DenseFiles:
    """A set of recordings as network input in a file each, dense float32.

    Args:
        events: The recordings.
        folder: Where the files go; those that are there stay.
    """

    dtype = np.dtype(np.float32)

    def __init__(self, events: EventSet, folder: Path) -> None:
        self.shape = events.frames_NTCHW.shape
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        for row in range(len(self)):
            path = folder / f"{row}.npy"
            if not path.exists():
                np.save(path, events.input(slice(row, row + 1))[0])

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, rows: np.ndarray | slice) -> np.ndarray:
        """Some recordings."""
        chosen = np.arange(len(self))[rows]
        return np.stack([np.load(self._folder / f"{row}.npy") for row in chosen])


@contextmanager
def loading_timed(clock: Clock, task: StudentTask) -> Iterator[None]:
    """Count for loading what the steps wait for their batches.

    On CUDA a thread makes them while the steps run.
    """
    if task.device.type != "cuda":
        task.batch = clock.timed("loading", task.batch)
        yield
        return
    original = Ahead.__call__
    Ahead.__call__ = clock.timed("loading", original)
    try:
        yield
    finally:
        Ahead.__call__ = original


def ours(config: Config, data: PreparedData, scratch: Path) -> dict[str, float]:
    """Seconds of a run by `fit`, logging and checkpoint included, and of its test."""
    device = pick_device(config.train.device)
    clock = Clock(device)
    torch.manual_seed(config.seed)
    student = build_student(config.student, len(data.classes), config.data.size)
    teacher = build_teacher(config.teacher, len(data.classes), pretrained=False)
    torch.empty(1, device=device)  # A GPU's first use takes a while.
    began = time.perf_counter()
    task = student_task(config, data, student, device)
    task.captures = False  # What a graph replays calls nothing whose time could be taken.
    task.teacher = teacher.to(device).eval()
    teacher.forward = clock.timed("teacher", teacher.forward)
    task.evaluate = clock.timed("evaluation", task.evaluate)
    with tempfile.TemporaryDirectory(dir=scratch) as folder, loading_timed(clock, task):
        fit(task, task.settings, Path(folder), description="ours")
    task.evaluate("test")
    return _whole(clock, began)


def reference(config: Config, data: PreparedData, scratch: Path) -> dict[str, float]:
    """Seconds of a run by the plain loop."""
    device = pick_device(config.train.device)
    clock = Clock(device)
    objective, classes = config.objective, len(data.classes)
    dense = {
        split: replace(events, frames_NTCHW=DenseFiles(events, scratch / split), scale="none")
        for split, events in data.events.items()
    }
    torch.manual_seed(config.seed)
    weights = build_student(config.student, classes, config.data.size).state_dict()
    teacher = build_teacher(config.teacher, classes, pretrained=False).to(device).eval()
    began = time.perf_counter()
    student = PlainStudent(ReferenceParts(), config.student, classes, config.data.size)
    student.load_state_dict(weights)
    student.to(device).train()
    coefficient = TemporalCoefficient(config.data.time_steps).to(device)
    settings = student_task(
        config, data, build_student(config.student, classes, config.data.size), device
    ).settings
    batches = PairedBatches(
        dense["train"],
        data.photos["train"],
        batch_size=config.train.batch_size,
        batches_per_epoch=config.train.batches_per_epoch,
        augment=config.data.augment,
        views=config.data.photo_views,
        seed=config.seed,
        device=device,
    )
    trained = [*student.parameters(), *coefficient.parameters()]
    optimiser = torch.optim.AdamW(trained, weight_decay=settings.weight_decay)
    for step in range(settings.steps):
        with clock.of("loading"):
            batch = batches(step)
        with clock.of("teacher"), torch.no_grad():
            teacher_BC = teacher(batch.photo_B3HW)
        value_B1HW = F.interpolate(batch.photo_B3HW.amax(1, True), config.data.size, mode="area")
        losses = plain_losses(
            student, coefficient, objective, replace(batch, photo_B3HW=value_B1HW), teacher_BC,
            step / settings.steps, torch.Generator().manual_seed(step),
        )  # fmt: skip
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(step, settings)
        optimiser.zero_grad(set_to_none=True)
        torch.stack(list(losses.values())).sum().backward()
        optimiser.step()
        epoch, batch_of_epoch = divmod(step + 1, settings.batches_per_epoch)
        due = batch_of_epoch == 0 and epoch % settings.evaluate_every == 0
        if due or step + 1 == settings.steps:
            with clock.of("evaluation"):
                _evaluate(student, dense["validation"], device)
    with clock.of("evaluation"):
        _evaluate(student, dense["test"], device)
    return _whole(clock, began)


@torch.no_grad()
def _evaluate(student: nn.Module, events: EventSet, device: torch.device) -> None:
    student.eval()
    for start in range(0, len(events.label_N), _EVALUATION_BATCH):
        frames_BTCHW = torch.from_numpy(events.input(slice(start, start + _EVALUATION_BATCH)))
        x_TBCHW: Tensor = frames_BTCHW.to(device).transpose(0, 1)
        student(x_TBCHW, "dvs").logits_TBC.float().mean(0).argmax(1).cpu()
    student.train()


def _whole(clock: Clock, began: float) -> dict[str, float]:
    clock.wait()
    whole = time.perf_counter() - began
    others = sum(clock.seconds.values())
    return {**clock.seconds, "steps": whole - others, "whole": whole}
