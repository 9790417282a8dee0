"""Surrogate gradients: what stands for the derivative of the spike function in backward passes."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor


def qgate(x: Tensor, alpha: float) -> Tensor:
    """Triangle max(0, α − α²|x|) (KT's "QGate")."""
    return x.abs().mul_(-(alpha**2)).add_(alpha).clamp_(min=0)


def atan(x: Tensor, alpha: float) -> Tensor:
    """α/2 / (1 + (π/2·α·x)²) (SpikingJelly's `ATan`)."""
    return alpha / 2 / (1 + (math.pi / 2 * alpha * x).square())


def sigmoid(x: Tensor, alpha: float) -> Tensor:
    """α·σ(αx)·(1 − σ(αx)) (SpikingJelly's `Sigmoid`)."""
    y = torch.sigmoid(alpha * x)
    return alpha * y * (1 - y)


_SURROGATES = {"qgate": (qgate, 2.0), "atan": (atan, 2.0), "sigmoid": (sigmoid, 4.0)}


@dataclass(frozen=True)
class Surrogate:
    """Maps x = v − θ to the pseudo-derivative dH/dx."""

    name: str
    alpha: float
    """Sharpness."""

    def __call__(self, x: Tensor) -> Tensor:
        """The pseudo-derivative, elementwise."""
        return _SURROGATES[self.name][0](x, self.alpha)


def surrogate(name: str, alpha: float | None = None) -> Surrogate:
    """A surrogate by name.

    Args:
        name: "qgate", "atan" or "sigmoid".
        alpha: Sharpness; None takes the customary 2, 2 or 4.

    Raises:
        ValueError: unknown name, or alpha not positive.
    """
    if name not in _SURROGATES:
        raise ValueError(f"unknown surrogate {name!r}; known are {', '.join(_SURROGATES)}")
    alpha = _SURROGATES[name][1] if alpha is None else alpha
    if alpha <= 0:
        raise ValueError(f"surrogate alpha must be positive, got {alpha}")
    return Surrogate(name, alpha)
