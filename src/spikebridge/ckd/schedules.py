"""Schedules over training progress u in [0, 1): replacement P(u) and distillation weight W(u)."""

import math
from dataclasses import dataclass
from typing import Any, Literal

from spikebridge.base.errors import UserError
from spikebridge.base.hooks import Hook, bare, check_hooks, hook, resolve


@dataclass(frozen=True)
class ReplacementSchedule:
    """Probability P(u) that a hybrid sample is replaced by its DVS sample (equation 4)."""

    shape: Literal["power", "linear", "step", "never", "always"] | Hook = hook("power")
    """Form of the rise from 0 to 1; `power` with exponent 3 is KT's; module:name is your own."""
    power: float = 3.0
    """Exponent of `power`."""
    step_at: float = 0.5
    """Progress at which `step` jumps from 0 to 1."""

    def __post_init__(self) -> None:
        check_hooks(self, "replacement.")
        if not 0 < self.power < math.inf:
            raise ValueError("replacement: power must be positive and finite")
        if not 0 <= self.step_at <= 1:
            raise ValueError("replacement: step_at must lie in [0, 1]")

    def __call__(self, progress: float) -> float:
        """P(u).

        Raises:
            UserError: a shape of one's own is missing, or gives no number in [0, 1].
        """
        u = min(max(progress, 0.0), 1.0)
        match self.shape:
            case "power":
                return u**self.power
            case "linear":
                return u
            case "step":
                return float(u >= self.step_at)
            case "never":
                return 0.0
            case "always":
                return 1.0
        return _own(self.shape, 1.0, u)


@dataclass(frozen=True)
class DistillationSchedule:
    """Weight W(u) of the teacher's guidance (phased distillation, equation 10)."""

    shape: Literal["phased", "tied", "constant", "cosine", "none"] | Hook = hook("phased")
    """`phased` is CKD's; `tied` is 1 − P(u); `constant` is naive distillation; module:name is your
    own."""
    phase_one_end: float = 0.4
    """u₁: W is exactly 1 before it."""
    phase_two_start: float = 0.8
    """u₂: W is exactly 0 from it on."""
    slope: float = 10.0
    """Steepness of the sigmoid-shaped fall in the switching phase."""

    def __post_init__(self) -> None:
        check_hooks(self, "distillation.")
        if not 0 <= self.phase_one_end < self.phase_two_start <= 1:
            raise ValueError("distillation: 0 ≤ phase_one_end < phase_two_start ≤ 1 must hold")
        if not 0 < self.slope < math.inf:
            raise ValueError("distillation: slope must be positive and finite")

    def __call__(self, progress: float, replacement: float) -> float:
        """W(u); ``replacement`` is P(u), which `tied` follows.

        Raises:
            UserError: a shape of one's own is missing, or gives no number from 0.
        """
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
        return _own(self.shape, math.inf, progress, replacement)


def _own(shape: Any, highest: float, *at: float) -> float:
    """What a user's own schedule gives."""
    value = resolve(shape)(*at)
    if not (isinstance(value, int | float) and 0 <= value <= highest and math.isfinite(value)):
        allowed = "in [0, 1]" if highest == 1 else "from 0"
        raise UserError(f"{bare(shape)} gave {value!r} at u = {at[0]:g}; it must be {allowed}")
    return float(value)


def _sigmoid_rise(position: float, slope: float) -> float:
    """Sigmoid around one half, stretched so that 0 gives exactly 0 and 1 exactly 1."""
    if position <= 0.0:
        return 0.0
    if position >= 1.0:
        return 1.0
    edge = math.tanh(slope / 4)
    return 0.5 * (1 + math.tanh(slope * (position - 0.5) / 2) / edge)
