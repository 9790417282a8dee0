"""What evaluation normalises by: BatchNorm's statistics of the weights that are evaluated."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm


@contextmanager
def measured_statistics(model: nn.Module, act: Callable[[], Any]) -> Iterator[None]:
    """Within the block running statistics are means over some batches, for the present weights.

    The moving average that training keeps lags behind the weights, and in a short run still holds
    what it began with ("precise BatchNorm": Wu & Johnson 2021). It comes back after the block.

    Args:
        model: In training mode. BatchNorms in evaluation mode, a frozen network's say, stay as they
            are.
        act: Runs the model on the batches.
    """
    norms = [m for m in model.modules() if isinstance(m, _BatchNorm) and m.training]
    before = [(m.momentum, {k: v.clone() for k, v in m.named_buffers()}) for m in norms]
    try:
        for norm in norms:
            norm.reset_running_stats()
            norm.momentum = None  # All batches count alike.
        with torch.no_grad():
            act()
        yield
    finally:
        for norm, (momentum, buffers) in zip(norms, before, strict=True):
            norm.momentum = momentum
            for name, buffer in norm.named_buffers():
                buffer.copy_(buffers[name])
