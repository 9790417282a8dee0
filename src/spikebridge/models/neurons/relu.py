"""ReLU in the place of a spiking neuron: the ANN of the same backbone, to see what spikes cost."""

from typing import Any, Literal, overload

import torch
from torch import Tensor, nn

from spikebridge.models.neurons.norm import StreamBatchNorm2d


class ReLU(nn.Module):
    """max(0, i) at each time step by itself, with the interface of `LIF`.

    In the place of the membrane potential stands the input i, in float32 (float64 for float64
    input).
    """

    @overload
    def forward(self, current_TN: Tensor) -> Tensor: ...
    @overload
    def forward(self, current_TN: Tensor, *, membrane: Literal[True]) -> tuple[Tensor, Tensor]: ...
    def forward(self, current_TN: Tensor, *, membrane: bool = False) -> Any:
        """Activations of every time step.

        Args:
            current_TN: Input; dimensions after T are kept.
            membrane: Also return the input as potential.
        """
        active_TN = current_TN.relu()
        if not membrane:
            return active_TN
        return active_TN, current_TN.to(torch.promote_types(current_TN.dtype, torch.float32))

    @overload
    def normalised(self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int) -> Tensor: ...
    @overload
    def normalised(
        self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int, *, membrane: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def normalised(
        self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int, *, membrane: bool = False
    ) -> Any:
        """Activations of every time step for BatchNorm's output.

        Args:
            x_NCHW: Input of the BatchNorm, time folded into the batch.
            norm: The BatchNorm, in training or evaluation; its running statistics go on.
            steps: T.
            membrane: Also return the BatchNorm's output as potential, x_TBCHW.
        """
        return self(norm(x_NCHW).unflatten(0, (steps, -1)), membrane=membrane)
