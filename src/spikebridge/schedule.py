"""Schedules over training progress u in [0, 1): replacement P(u) and distillation weight W(u)."""

import math
from dataclasses import dataclass
from typing import Literal, get_args, get_type_hints


@dataclass(frozen=True)
class ReplacementSchedule:
    """Probability P(u) that a hybrid sample is replaced by its DVS sample (METHOD.md, streams)."""

    shape: Literal["power", "linear", "cosine", "sigmoid", "step", "never", "always"] = "power"
    """Form of the rise from 0 to 1; `power` with exponent 3 is KT's."""
    power: float = 3.0
    """Exponent of `power`."""
    slope: float = 12.0
    """Steepness of `sigmoid`, which crosses one half at u = 0.5."""
    step_at: float = 0.5
    """Progress at which `step` jumps from 0 to 1."""

    def __post_init__(self) -> None:
        if self.shape not in get_args(get_type_hints(type(self))["shape"]):
            raise ValueError(f"replacement: unknown shape {self.shape!r}")
        if not (0 < self.power < math.inf and 0 < self.slope < math.inf):
            raise ValueError("replacement: power and slope must be positive and finite")
        if not 0 <= self.step_at <= 1:
            raise ValueError("replacement: step_at must lie in [0, 1]")

    def __call__(self, progress: float) -> float:
        """P(u)."""
        u = min(max(progress, 0.0), 1.0)
        match self.shape:
            case "power":
                return u**self.power
            case "linear":
                return u
            case "cosine":
                return 0.5 * (1 - math.cos(math.pi * u))
            case "sigmoid":
                return _sigmoid_rise(u, self.slope)
            case "step":
                return float(u >= self.step_at)
            case "never":
                return 0.0
            case "always":
                return 1.0


@dataclass(frozen=True)
class DistillationSchedule:
    """Weight W(u) of the teacher's guidance (METHOD.md, loss 5: phased distillation)."""

    shape: Literal["phased", "tied", "constant", "cosine", "none"] = "phased"
    """`phased` is CKD's; `tied` is 1 − P(u); `constant` is naive distillation."""
    phase_one_end: float = 0.4
    """u₁: W is exactly 1 before it."""
    phase_two_start: float = 0.8
    """u₂: W is exactly 0 from it on."""
    slope: float = 10.0
    """Steepness of the sigmoid-shaped fall in the switching phase."""

    def __post_init__(self) -> None:
        if self.shape not in get_args(get_type_hints(type(self))["shape"]):
            raise ValueError(f"distillation: unknown shape {self.shape!r}")
        if not 0 <= self.phase_one_end < self.phase_two_start <= 1:
            raise ValueError("distillation: 0 ≤ phase_one_end < phase_two_start ≤ 1 must hold")
        if not 0 < self.slope < math.inf:
            raise ValueError("distillation: slope must be positive and finite")

    def __call__(self, progress: float, replacement: float) -> float:
        """W(u); ``replacement`` is P(u), which `tied` follows."""
        match self.shape:
            case "phased":
                span = self.phase_two_start - self.phase_one_end
                position = (progress - self.phase_one_end) / span
                return 1 - _sigmoid_rise(min(max(position, 0.0), 1.0), self.slope)
            case "tied":
                return 1 - replacement
            case "constant":
                return 1.0
            case "cosine":
                return 0.5 * (1 + math.cos(math.pi * min(max(progress, 0.0), 1.0)))
            case "none":
                return 0.0


def _sigmoid_rise(position: float, slope: float) -> float:
    """Sigmoid around one half, stretched so that 0 gives exactly 0 and 1 exactly 1."""
    if position <= 0.0:
        return 0.0
    if position >= 1.0:
        return 1.0
    edge = math.tanh(slope / 4)
    return 0.5 * (1 + math.tanh(slope * (position - 0.5) / 2) / edge)
