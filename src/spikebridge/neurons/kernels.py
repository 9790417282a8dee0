"""What computes the neurons of a tensor: compiled kernels for its device, or none."""

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Literal, Protocol, cast

import torch
from torch import Tensor

from spikebridge.errors import UserError
from spikebridge.neurons import native

Backend = Literal["auto", "eager", "native", "triton"]


class Kernels(Protocol):
    """One set of kernels: `native` or `triton_lif`. Arrays are contiguous, with C last."""

    def takes(self, x: Tensor, surrogate: str) -> bool:
        """Whether the kernels can be used on a tensor of this kind, on this machine."""
        ...

    def moments(self, x_RC: Tensor) -> tuple[Tensor, Tensor]:
        """Sums by column of x − x[0] and of its square, float64."""
        ...

    def forward(
        self,
        x_TPC: Tensor,
        scale_C: Tensor | None,
        shift_C: Tensor | None,
        tau: float,
        threshold: float,
        *,
        membrane: bool,
    ) -> tuple[Tensor, Tensor | None]:
        """Spikes, and potentials before reset where asked for.

        Args:
            x_TPC: Input, P positions of C channels.
            scale_C: Float32; the neurons' input is x·scale + shift. None takes x as it is.
            shift_C: Float32.
            tau: τ.
            threshold: θ.
            membrane: Also return the potentials, float32.
        """
        ...

    def backward(
        self,
        x_TPC: Tensor,
        scale_C: Tensor | None,
        shift_C: Tensor | None,
        mean_C: Tensor | None,
        spikes_grad_TPC: Tensor | None,
        membrane_grad_TPC: Tensor | None,
        tau: float,
        threshold: float,
        surrogate: str,
        alpha: float,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradient with respect to the neurons' input; with a scale, also its sums by channel.

        Args:
            x_TPC: Input of the forward pass.
            scale_C: Its scale.
            shift_C: Its shift.
            mean_C: Float32; what the second sum takes off x. None without a scale.
            spikes_grad_TPC: Of x's type, or None.
            membrane_grad_TPC: Float32, or None.
            tau: τ.
            threshold: θ.
            surrogate: Name of the pseudo-derivative.
            alpha: Its sharpness.

        Returns:
            grad_TPC, its sum_C, and the sum_C of its product with x − mean, float64. The sums do
            not depend on the run.
        """
        ...

    def affine_(
        self, grad_RC: Tensor, x_RC: Tensor, a_C: Tensor, b_C: Tensor, d_C: Tensor
    ) -> Tensor:
        """a·grad + b·x + d by channel, in place."""
        ...


def require(backend: Backend) -> None:
    """Refuse a backend that was asked for by name and that this machine does not have.

    Raises:
        UserError: no C compiler, or no Triton or no CUDA.
    """
    if backend == "native" and native.library() is None:
        raise UserError(
            "student.neuron_backend native needs a C compiler (cc or gcc); install one or "
            "choose auto"
        )
    if backend != "triton":
        return
    if not (torch.cuda.is_available() or os.environ.get("TRITON_INTERPRET") == "1"):
        raise UserError(
            "student.neuron_backend triton needs a CUDA device (or TRITON_INTERPRET=1, for tests "
            "on the CPU); choose auto"
        )
    if _triton() is None:
        raise UserError(
            "student.neuron_backend triton needs the Python package triton, 3.3 or newer; install "
            "it or choose auto"
        )


def kernels_for(x: Tensor, backend: Backend, surrogate: str) -> Kernels | None:
    """The kernels that compute a tensor's neurons; None leaves it to plain PyTorch."""
    if backend == "eager":
        return None
    if backend == "auto":
        backend = "triton" if x.is_cuda else "native"
    kernels = _triton() if backend == "triton" else native
    if kernels is None or not kernels.takes(x, surrogate):
        return None
    return cast(Kernels, kernels)


@cache
def _triton() -> ModuleType | None:
    """`triton_lif`, loaded with the first tensor that wants it: Triton takes a while."""
    try:
        return importlib.import_module("spikebridge.neurons.triton_lif")
    except ImportError:
        return None
