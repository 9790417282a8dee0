"""LIF by compiled kernels, alone and behind a BatchNorm whose output is never written."""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from spikebridge.models.neurons.kernels import Kernels
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.models.neurons.surrogate import Surrogate


def fused_lif(
    kernels: Kernels,
    current_TN: Tensor,
    tau: float,
    threshold: float,
    surrogate: Surrogate,
    *,
    membrane: bool,
) -> tuple[Tensor, Tensor | None]:
    """Spikes, and membrane potentials before reset where asked for.

    Args:
        kernels: What computes them, and takes the current.
        current_TN: Input current; dimensions after T are kept.
        tau: τ.
        threshold: θ.
        surrogate: Pseudo-derivative of the spike function.
        membrane: Also return the potentials.
    """
    return _FusedLIF.apply(  # pyright: ignore[reportReturnType]
        kernels, current_TN, tau, threshold, surrogate.name, surrogate.alpha, membrane
    )


def batch_norm_lif(
    kernels: Kernels,
    x_NCHW: Tensor,
    norm: StreamBatchNorm2d,
    steps: int,
    tau: float,
    threshold: float,
    surrogate: Surrogate,
    *,
    membrane: bool,
) -> tuple[Tensor, Tensor | None]:
    """`fused_lif` of a BatchNorm's output; its running statistics go on as its own forward's do.

    Args:
        kernels: What computes it, and takes x_NCHW.
        x_NCHW: Input of the BatchNorm, time folded into the batch.
        norm: The BatchNorm, in training or evaluation.
        steps: T.
        tau: τ.
        threshold: θ.
        surrogate: Pseudo-derivative of the spike function.
        membrane: Also return the potentials.

    Returns:
        Spikes and potentials as x_NCHW, channels last.
    """
    x_NCHW = x_NCHW.contiguous(memory_format=torch.channels_last)
    mean_C, var_C = _statistics(kernels, x_NCHW, norm)
    return _BatchNormLIF.apply(  # pyright: ignore[reportReturnType]
        kernels, x_NCHW, norm.weight, norm.bias, mean_C, var_C, norm.training, norm.eps, steps,
        tau, threshold, surrogate.name, surrogate.alpha, membrane,
    )  # fmt: skip


def dense_over_time(x_TN: Tensor) -> bool:
    """Whether time steps follow each other in memory, each without gaps, in whatever order."""
    if x_TN.numel() == 0:
        return False
    expected = 1
    sides = [(s, n) for s, n in zip(x_TN.stride()[1:], x_TN.shape[1:], strict=True) if n > 1]
    for stride, size in sorted(sides):
        if stride != expected:
            return False
        expected *= size
    return len(x_TN) == 1 or x_TN.stride(0) == expected


class _FusedLIF(torch.autograd.Function):
    """LIF over current_TN of any dense layout; keeps the current alone."""

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        current_TN: Tensor,
        tau: float,
        threshold: float,
        surrogate: str,
        alpha: float,
        membrane: bool,
    ) -> Any:
        if not dense_over_time(current_TN):
            current_TN = current_TN.contiguous()
        spikes, potentials = kernels.forward(
            _places(current_TN), None, None, tau, threshold, membrane=membrane
        )
        ctx.save_for_backward(current_TN)
        ctx.set_materialize_grads(False)
        ctx.kernels, ctx.constants = kernels, (tau, threshold, surrogate, alpha)
        return _shaped(spikes, current_TN), _shaped(potentials, current_TN)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spikes_grad: Tensor | None, membrane_grad: Tensor | None) -> Any:
        (current_TN,) = ctx.saved_tensors
        grad, _, _ = ctx.kernels.backward(
            _places(current_TN),
            None,
            None,
            None,
            _laid_out(spikes_grad, current_TN, current_TN.dtype),
            _laid_out(membrane_grad, current_TN, torch.float32),
            *ctx.constants,
        )
        return None, _shaped(grad, current_TN), *[None] * 5


class _BatchNormLIF(torch.autograd.Function):
    """LIF of a channel-wise normalised input; keeps the input of the BatchNorm alone.

    mean_C and var_C, float64, are what x is normalised by; ``own`` tells that they are x's own.
    """

    @staticmethod
    def forward(
        ctx: Any,
        kernels: Kernels,
        x_NCHW: Tensor,
        weight_C: Tensor,
        bias_C: Tensor,
        mean_C: Tensor,
        var_C: Tensor,
        own: bool,
        eps: float,
        steps: int,
        tau: float,
        threshold: float,
        surrogate: str,
        alpha: float,
        membrane: bool,
    ) -> Any:
        inverse_C = (var_C + eps).rsqrt()
        scale_C = weight_C.double() * inverse_C
        shift_C = (bias_C.double() - mean_C * scale_C).float()
        scale_C = scale_C.float()
        spikes, potentials = kernels.forward(
            _channels(x_NCHW, steps), scale_C, shift_C, tau, threshold, membrane=membrane
        )
        ctx.save_for_backward(x_NCHW, scale_C, shift_C, mean_C, inverse_C)
        ctx.set_materialize_grads(False)
        ctx.kernels, ctx.own, ctx.steps = kernels, own, steps
        ctx.constants = tau, threshold, surrogate, alpha
        return _shaped(spikes, x_NCHW), _shaped(potentials, x_NCHW)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, spikes_grad: Tensor | None, membrane_grad: Tensor | None) -> Any:
        x_NCHW, scale_C, shift_C, mean_C, inverse_C = ctx.saved_tensors
        x_TPC = _channels(x_NCHW, ctx.steps)
        grad, sum_C, product_C = ctx.kernels.backward(
            x_TPC,
            scale_C,
            shift_C,
            mean_C.float(),
            _laid_out(spikes_grad, x_NCHW, x_NCHW.dtype),
            _laid_out(membrane_grad, x_NCHW, torch.float32),
            *ctx.constants,
        )
        weight_grad_C = product_C * inverse_C
        a_C, b_C, d_C = scale_C, torch.zeros_like(scale_C), torch.zeros_like(scale_C)
        if ctx.own:
            rows = x_NCHW.numel() // len(sum_C)
            b_C = -scale_C * inverse_C * weight_grad_C / rows
            d_C = -scale_C * sum_C / rows - b_C * mean_C
        channels = len(sum_C)
        ctx.kernels.affine_(grad.view(-1, channels), x_TPC.view(-1, channels), a_C, b_C, d_C)
        kind = scale_C.dtype
        return None, _shaped(grad, x_NCHW), weight_grad_C.to(kind), sum_C.to(kind), *[None] * 10


def mean_and_variance(kernels: Kernels, x_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and biased variance of each column of contiguous rows, float64."""
    sum_C, square_C = kernels.moments(x_RC)
    offset_C = sum_C / len(x_RC)
    variance_C = (square_C / len(x_RC) - offset_C.square()).clamp_(min=0)
    return x_RC[0].double() + offset_C, variance_C


@torch.no_grad()
def _statistics(kernels: Kernels, x_NCHW: Tensor, norm: StreamBatchNorm2d) -> tuple[Tensor, Tensor]:
    """Mean and variance that a BatchNorm normalises by, float64; running ones are updated."""
    running_mean, running_var = cast(Tensor, norm.running_mean), cast(Tensor, norm.running_var)
    if not norm.training:
        return running_mean.double(), running_var.double()
    x_RC = x_NCHW.permute(0, 2, 3, 1).reshape(-1, x_NCHW.shape[1])
    mean_C, var_C = mean_and_variance(kernels, x_RC)
    if norm.remembers:
        rows = x_NCHW.numel() // len(mean_C)
        norm.remember(mean_C, var_C * (rows / max(1, rows - 1)))
    return mean_C, var_C


def _places(x_TN: Tensor) -> Tensor:
    """T × P × 1 of a dense tensor, in the order of memory."""
    size = x_TN.numel() // len(x_TN)
    return x_TN.as_strided((len(x_TN), size, 1), (size, 1, 1))


def _channels(x_NCHW: Tensor, steps: int) -> Tensor:
    """T × P × C of a channels-last tensor."""
    return x_NCHW.permute(0, 2, 3, 1).reshape(steps, -1, x_NCHW.shape[1])


def _shaped(flat: Tensor | None, like: Tensor) -> Tensor | None:
    """Values in the order of memory in the shape and layout of a tensor."""
    return None if flat is None else flat.as_strided(like.shape, like.stride())


def _laid_out(grad: Tensor | None, like: Tensor, kind: torch.dtype) -> Tensor | None:
    """A gradient in the memory layout of a tensor."""
    if grad is None or (grad.stride() == like.stride() and grad.dtype == kind):
        return grad
    return grad.new_empty_strided(like.shape, like.stride(), dtype=kind).copy_(grad)
