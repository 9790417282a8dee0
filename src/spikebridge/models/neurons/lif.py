"""Leaky integrate-and-fire neurons over a whole sequence, without state between calls."""

from typing import Any, Literal, overload

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from spikebridge.models.neurons.fused import batch_norm_lif, fused_lif
from spikebridge.models.neurons.kernels import Backend, Kernels, kernels_for, require
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.models.neurons.surrogate import Surrogate


class LIF(nn.Module):
    """v ← v + (i − v)/τ; spike s = H(v − θ); hard reset v ← v·(1 − s) (KT).

    Every call starts from rest, v = 0. In the backward pass H's derivative is the surrogate and
    the reset is taken as a constant. Membrane potentials are float32 (float64 for float64 input);
    spikes have the input's type.

    Args:
        tau: Membrane time constant τ ≥ 1, in time steps.
        threshold: θ > 0.
        surrogate: Pseudo-derivative of the spike function.
        backend: "eager" is plain PyTorch; "native" one compiled pass over T on the CPU, and
            "triton" on CUDA; "auto" takes one of these where it can. What the one that is asked
            for does not take (float64, another device) is left to plain PyTorch.

    Raises:
        ValueError: a value is out of range.
        UserError: "native" was asked for, and there is no C compiler; or "triton", and there is no
            Triton or no CUDA.
    """

    def __init__(
        self, tau: float, threshold: float, surrogate: Surrogate, backend: Backend = "auto"
    ) -> None:
        super().__init__()
        if tau < 1 or threshold <= 0:
            raise ValueError(f"LIF needs tau ≥ 1 and threshold > 0, got {tau} and {threshold}")
        require(backend)
        self.tau, self.threshold, self.surrogate = tau, threshold, surrogate
        self.backend: Backend = backend

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
        kernels, constants = self._kernels(current_TN), self._constants()
        if kernels is None:
            spikes_TN, membrane_TN = _LIFSequence.apply(current_TN, *constants)
        else:
            spikes_TN, membrane_TN = fused_lif(kernels, current_TN, *constants, membrane=membrane)
        return (spikes_TN, membrane_TN) if membrane else spikes_TN

    @overload
    def normalised(self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int) -> Tensor: ...
    @overload
    def normalised(
        self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int, *, membrane: Literal[True]
    ) -> tuple[Tensor, Tensor]: ...
    def normalised(
        self, x_NCHW: Tensor, norm: StreamBatchNorm2d, steps: int, *, membrane: bool = False
    ) -> Any:
        """Spikes of every time step for BatchNorm's output, which the kernels never write.

        Args:
            x_NCHW: Input of the BatchNorm, time folded into the batch.
            norm: The BatchNorm, in training or evaluation; its running statistics go on.
            steps: T.
            membrane: Also return the membrane potential before reset, x_TBCHW.
        """
        kernels = self._kernels(x_NCHW)
        if kernels is None or norm.together:
            return self(norm(x_NCHW).unflatten(0, (steps, -1)), membrane=membrane)  # pyright: ignore[reportArgumentType]
        outputs = batch_norm_lif(
            kernels, x_NCHW, norm, steps, *self._constants(), membrane=membrane
        )
        spikes_TBCHW, membrane_TBCHW = (
            None if x is None else x.unflatten(0, (steps, -1)) for x in outputs
        )
        return (spikes_TBCHW, membrane_TBCHW) if membrane else spikes_TBCHW

    def compiled(self, x: Tensor) -> bool:
        """Whether kernels compute the neurons of a tensor of this kind."""
        return self._kernels(x) is not None

    def _kernels(self, x: Tensor) -> Kernels | None:
        return kernels_for(x, self.backend, self.surrogate.name)

    def _constants(self) -> tuple[float, float, Surrogate]:
        return self.tau, self.threshold, self.surrogate

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
