"""Exponential moving average of a model's weights while it trains."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn


class WeightAverage:
    """What is evaluated, selected and saved in the place of the weights of the last step.

    After each step, average ← d·average + (1 − d)·weights, for parameters and running statistics
    alike; d rises to ``decay`` as (1 + n)/(10 + n) over the steps n, so that the first steps are
    soon forgotten.

    Args:
        model: The trained model, on its device, where its tensors stay.
        decay: d in [0, 1); 0 keeps no average, and the weights themselves are evaluated.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self._decay, self._updates = decay, 0
        self._live = {k: v.detach() for k, v in model.state_dict().items()} if decay else {}
        self._average = {k: v.clone() for k, v in self._live.items()}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step."""
        decay = min(self._decay, (1 + self._updates) / (10 + self._updates))
        real = [name for name, average in self._average.items() if average.is_floating_point()]
        if real:
            averages, live = ([of[name] for name in real] for of in (self._average, self._live))
            torch._foreach_lerp_(averages, live, 1 - decay)  # pyright: ignore[reportPrivateImportUsage]
        for name in self._average.keys() - set(real):
            self._average[name].copy_(self._live[name])
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
        for name, average in self._average.items():
            kept = self._live[name].clone()
            self._live[name].copy_(average)
            average.copy_(kept)
