"""Exponential moving average of a model's weights while it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


class WeightAverage:
    """What is evaluated, selected and saved in the place of the weights of the last step.

    After each step, average ← d·average + (1 − d)·weights, for parameters and running statistics
    alike; d rises to ``decay`` as (1 + n)/(10 + n) over the steps n, so that the first steps are
    soon forgotten.

    Args:
        model: The trained model, on its device.
        decay: d in [0, 1); 0 keeps no average, and the weights themselves are evaluated.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._model, self._decay, self._updates = model, decay, 0
        self._average = {k: v.clone() for k, v in self._live().items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step."""
        live = self._live()
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        for name, average in self._average.items():
            if average.is_floating_point():
                average.lerp_(live[name], 1 - decay)
            else:
                average.copy_(live[name])
        self._updates += 1

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Within the block the model has the averaged weights, in the same memory."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint needs."""
        return {"updates": self._updates, "average": self._average}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from a checkpoint."""
        self._updates = state["updates"]
        for name, average in self._average.items():
            average.copy_(state["average"][name])

    @torch.no_grad()
    def _swap(self) -> None:
        live = self._live()
        for name, average in self._average.items():
            kept = live[name].clone()
            live[name].copy_(average)
            average.copy_(kept)

    def _live(self) -> dict[str, Tensor]:
        return {k: v.detach() for k, v in self._model.state_dict().items()}
