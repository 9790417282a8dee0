"""Leaky integrate-and-fire neurons over a whole sequence, without state between calls."""

from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikebridge.neurons.surrogate import Surrogate


class LIF(nn.Module):
    """v ← v + (i − v)/τ; spike s = H(v − θ); hard reset v ← v·(1 − s) (KT).

    Every call starts from rest, v = 0. In the backward pass H's derivative is the surrogate and
    the reset is taken as a constant. Membrane potentials are float32 (float64 for float64 input);
    spikes have the input's type.

    Args:
        tau: Membrane time constant τ ≥ 1, in time steps.
        threshold: θ > 0.
        surrogate: Pseudo-derivative of the spike function.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(self, tau: float, threshold: float, surrogate: Surrogate) -> None:
        super().__init__()
        if tau < 1 or threshold <= 0:
            raise ValueError(f"LIF needs tau ≥ 1 and threshold > 0, got {tau} and {threshold}")
        self.tau, self.threshold, self.surrogate = tau, threshold, surrogate

    @overload
    def forward(self, current_TN: Tensor) -> Tensor: ...
    @overload
    def forward(self, current_TN: Tensor, *, membrane: Literal[True]) -> tuple[Tensor, Tensor]: ...
    def forward(self, current_TN: Tensor, *, membrane: bool = False) -> Any:
        """Spikes of every time step.

        Args:
            current_TN: Input current; dimensions after T are kept.
            membrane: Also return the membrane potential before reset.
        """
        spikes_TN, membrane_TN = _LIFSequence.apply(
            current_TN, self.tau, self.threshold, self.surrogate
        )
        return (spikes_TN, membrane_TN) if membrane else spikes_TN

    def extra_repr(self) -> str:
        """For print."""
        return f"tau={self.tau}, threshold={self.threshold}"


class _LIFSequence(torch.autograd.Function):
    """Keeps the membrane potentials before reset and differentiates through time by hand."""

    @staticmethod
    def forward(
        ctx: Any, current_TN: Tensor, tau: float, threshold: float, surrogate: Surrogate
    ) -> tuple[Tensor, Tensor]:
        kind = torch.promote_types(current_TN.dtype, torch.float32)
        membrane_TN = torch.empty_like(current_TN, dtype=kind)
        spikes_TN = torch.empty_like(membrane_TN)
        rest_N = torch.zeros_like(membrane_TN[0])
        for current_N, membrane_N, spikes_N in zip(current_TN, membrane_TN, spikes_TN, strict=True):
            torch.lerp(rest_N, current_N.to(kind), 1 / tau, out=membrane_N)
            torch.ge(membrane_N, threshold, out=spikes_N)
            torch.addcmul(membrane_N, membrane_N, spikes_N, value=-1, out=rest_N)
        ctx.save_for_backward(membrane_TN)
        ctx.set_materialize_grads(False)
        ctx.constants = tau, threshold, surrogate
        ctx.current_type = current_TN.dtype
        return spikes_TN.to(current_TN.dtype), membrane_TN

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, spikes_grad_TN: Tensor | None, membrane_grad_TN: Tensor | None
    ) -> tuple[Tensor, None, None, None]:
        (membrane_TN,) = ctx.saved_tensors
        tau, threshold, surrogate = ctx.constants
        current_grad_TN = torch.empty_like(membrane_TN, dtype=ctx.current_type)
        carried_N = torch.zeros_like(membrane_TN[0])
        below_N = torch.empty_like(carried_N)
        for t in reversed(range(len(membrane_TN))):
            # Of the potential before reset: by the next step, by its reader, and by the spike.
            membrane_N = membrane_TN[t]
            torch.lt(membrane_N, threshold, out=below_N)
            carried_N *= below_N
            if membrane_grad_TN is not None:
                carried_N += membrane_grad_TN[t]
            if spikes_grad_TN is not None:
                slope_N = surrogate(membrane_N - threshold)
                carried_N.addcmul_(spikes_grad_TN[t].to(slope_N.dtype), slope_N)
            torch.div(carried_N, tau, out=below_N)
            current_grad_TN[t] = below_N
            carried_N -= below_N
        return current_grad_TN, None, None, None
