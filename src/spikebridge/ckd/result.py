"""What a training step computes."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor


@dataclass
class StepResult:
    """What one training step computes: losses to minimise and values to log."""

    losses: dict[str, Tensor]
    """Weighted terms; their sum is minimised."""
    logged: dict[str, Any]
    """Further values, without gradient; reading tensors is left to the loop, for it waits."""
    weight: float = 1.0
    """Part of the batch that the losses are means over, where several processes share it."""

    @property
    def total(self) -> Tensor:
        """L."""
        return torch.stack([loss.float() for loss in self.losses.values()]).sum()
