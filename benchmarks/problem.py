"""What all rows of a benchmark have in common: settings, weights, batch, the optimiser's step."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from benchmarks.reference import PlainStudent, ReferenceParts
from spikebridge.base.devices import pick_device
from spikebridge.base.errors import UserError
from spikebridge.data.feed.batches import Batch
from spikebridge.data.settings import DataConfig
from spikebridge.models.settings import StudentConfig
from spikebridge.settings.config import Config
from spikebridge.training.settings import TrainConfig

PROGRESS = 0.67
"""u: P(u) = u³ = 0.3, and W(u) is above 0."""

LEARNING_RATE = 1e-4
_EVENTS_PER_CELL = 0.1


@dataclass(frozen=True)
class BenchSettings:
    """What is computed, and where."""

    student: Literal["vgg-snn", "resnet18-snn"] = "vgg-snn"
    """Architecture."""
    width: float = 1.0
    """Channel multiplier."""
    size: int = 48
    """Height and width of the frames in pixels."""
    time_steps: int = 10
    """T."""
    batch: int = 16
    """B: samples per stream."""
    classes: int = 101
    """C."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of all rows but `reference`, as `train.precision`."""
    neuron_backend: Literal["auto", "eager", "native", "triton"] = "auto"
    """Of `ours`, as `student.neuron_backend`."""
    memory: Literal["normal", "low"] = "normal"
    """Of `ours`, as `train.memory`."""
    cuda_graph: bool = True
    """Of `ours`, as `train.cuda_graph`."""
    device: str = "auto"
    """As `train.device`."""
    threads: int | None = None
    """CPU threads; None leaves it to PyTorch."""

    def __post_init__(self) -> None:
        if min(self.time_steps, self.batch, self.threads or 1) < 1 or self.width <= 0:
            raise UserError("bench: --width, --time-steps, --batch and --threads must be positive")
        if self.size < 8 or self.classes < 2:
            raise UserError("bench: --size must be at least 8 and --classes at least 2")

    @property
    def config(self) -> Config:
        """The same as an experiment's settings."""
        return Config(
            data=DataConfig(size=(self.size, self.size), time_steps=self.time_steps),
            student=StudentConfig(
                name=self.student, width=self.width, neuron_backend=self.neuron_backend
            ),
            train=TrainConfig(
                precision=self.precision,
                device=self.device,
                memory=self.memory,
                cuda_graph=self.cuda_graph,
            ),
        )


def initial_weights(settings: BenchSettings) -> dict[str, Tensor]:
    """Weights of a new student."""
    torch.manual_seed(0)
    config = settings.config
    return PlainStudent(
        ReferenceParts(), config.student, settings.classes, config.data.size
    ).state_dict()


def random_batch(settings: BenchSettings) -> Batch:
    """One batch of both streams: sparse events and dense photos."""
    random = torch.Generator().manual_seed(0)
    batch, side, device = settings.batch, settings.size, pick_device(settings.device)
    dvs_TBCHW = torch.rand(settings.time_steps, batch, 2, side, side, generator=random)
    dvs_TBCHW = torch.where(dvs_TBCHW < _EVENTS_PER_CELL, dvs_TBCHW / _EVENTS_PER_CELL, 0.0)
    return Batch(
        dvs_TBCHW=dvs_TBCHW.to(device),
        label_B=torch.randint(settings.classes, (batch,), generator=random).to(device),
        photo_B3HW=torch.rand(batch, 3, side, side, generator=random).to(device),
        simulated_TBCHW=None,
        recording_B=torch.arange(batch),
        source_B=torch.arange(batch),
    )


def teacher_logits(settings: BenchSettings) -> Tensor:
    """What the stand-in teacher says of the batch's photos."""
    random = torch.Generator().manual_seed(1)
    logits_BC = 3 * torch.randn(settings.batch, settings.classes, generator=random)
    return logits_BC.to(pick_device(settings.device))


class PlainStep:
    """Loss, backward and AdamW; every call draws other replaced samples.

    Args:
        modules: What is trained.
        loss: The loss, by the generator of the replacement draws.
    """

    def __init__(self, modules: list[nn.Module], loss: Callable[[torch.Generator], Tensor]) -> None:
        self.modules, self.loss = modules, loss
        trained = [p for module in modules for p in module.parameters()]
        self.optimiser = torch.optim.AdamW(trained, lr=LEARNING_RATE)

    def __call__(self, index: int) -> None:
        """One step."""
        loss = self.loss(torch.Generator().manual_seed(index))
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
