"""One step of training: losses, gradients, AdamW; on CUDA captured as a graph and replayed."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from spikebridge.base.devices import all_to_device
from spikebridge.base.distributed import size, sum_gradients_
from spikebridge.base.graphs import Graphs
from spikebridge.ckd.result import StepResult
from spikebridge.training.packing import Packed


@dataclass(frozen=True)
class StepInputs:
    """What one step is given, made on the CPU from its number alone."""

    step: int
    tensors: Any
    """What `Task.losses` takes: tensors in plain containers. Beside them stands only what changes
    a few times a run, and decides what is computed."""
    logged: dict[str, float]
    """Values that are known before the step."""


def make_optimiser(
    trained: list[nn.Parameter], lr: float, weight_decay: float, device: torch.device
) -> torch.optim.AdamW:
    """Make AdamW, which lets matrices and kernels decay, and vectors not.

    Args:
        trained: Parameters on ``device``.
        lr: Learning rate.
        weight_decay: For parameters of more than one dimension.
        device: On CUDA the optimiser is one kernel, and its learning rate a tensor there.
    """
    groups = [
        {"params": [p for p in trained if p.dim() > 1], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() <= 1], "weight_decay": 0.0},
    ]
    groups = [g for g in groups if g["params"]]
    if device.type != "cuda":
        return torch.optim.AdamW(groups, lr=lr)
    rate = torch.tensor(lr, device=device)
    return torch.optim.AdamW(groups, lr=rate, fused=True, capturable=True)


class TrainingStep:
    """Losses, backward pass and optimiser of one step.

    Args:
        losses: Maps a step's tensors, on the device, to what it minimises.
        trained: Parameters that it changes.
        optimiser: From `make_optimiser`.
        device: Where all is.
        capture: Capture the step as a CUDA graph, which ``losses`` must allow: nothing of it reads
            the device. Without effect on a CPU and where processes share the work.
    """

    def __init__(
        self,
        losses: Callable[[Any], StepResult],
        trained: list[nn.Parameter],
        optimiser: torch.optim.Optimizer,
        device: torch.device,
        *,
        capture: bool,
    ) -> None:
        self._optimiser = optimiser
        # Neither is a method of this object, which would live, GPU memory and all, until a
        # collection of garbage that a run need not see.
        compute = partial(_computed, losses, trained, optimiser)
        graphs = capture and device.type == "cuda" and size() == 1
        self._run = Graphs(compute, device) if graphs else partial(_moved, compute, device)

    def __call__(self, tensors: Any, lr: float) -> Packed:
        """Take one step at a learning rate; what it computed is still on the device."""
        for group in self._optimiser.param_groups:
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(lr)
            else:
                group["lr"] = lr
        return self._run(tensors)


def _moved(compute: Callable[[Any], Packed], device: torch.device, tensors: Any) -> Packed:
    return compute(all_to_device(tensors, device))


def _computed(
    losses: Callable[[Any], StepResult],
    trained: list[nn.Parameter],
    optimiser: torch.optim.Optimizer,
    tensors: Any,
) -> Packed:
    result = losses(tensors)
    total = result.total
    optimiser.zero_grad(set_to_none=True)
    (result.weight * total).backward()
    sum_gradients_(trained)
    optimiser.step()
    found = {"total": total.detach(), **{k: v.detach() for k, v in result.losses.items()}}
    return Packed.of({"losses": found, **result.logged})
