"""What computes the neurons of a tensor: compiled kernels for its device, or none."""

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Literal, NamedTuple, Protocol, cast

import torch
from torch import Tensor

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.models.neurons import native

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
        UserError: no C compiler, or no CUDA or no Triton that works.
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
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if why := _triton(device).failure:
        raise UserError(f"student.neuron_backend triton cannot be used here: {why}; or choose auto")


def kernels_for(x: Tensor, backend: Backend, surrogate: str) -> Kernels | None:
    """The kernels that compute a tensor's neurons; None leaves it to plain PyTorch."""
    if backend == "eager":
        return None
    if backend == "triton" or (backend == "auto" and x.is_cuda):
        kernels, failure = _triton(x.device)
        if failure and backend == "auto":
            _note(failure)
    else:
        kernels = native
    if kernels is None or not kernels.takes(x, surrogate):
        return None
    return cast(Kernels, kernels)


class _Triton(NamedTuple):
    """`triton_lif`, or why it cannot be used."""

    kernels: ModuleType | None
    failure: str = ""


@cache
def _triton(device: torch.device) -> _Triton:
    """`triton_lif`, loaded with the first tensor that wants it: Triton takes a while.

    Its first launch builds a driver with the machine's C compiler, which an image for running
    programs need not have: it is tried out here.
    """
    try:
        kernels = importlib.import_module("spikebridge.models.neurons.triton_lif")
    except ImportError:
        return _Triton(None, "install the Python package triton, 3.3 or newer")
    try:
        x_TPC = torch.zeros(1, 1, 1, device=device)
        if kernels.takes(x_TPC, "qgate"):
            kernels.forward(x_TPC, None, None, 2.0, 0.5, membrane=False)
    except Exception as error:  # Whatever Triton, a compiler or the GPU's driver raises.
        words = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        return _Triton(None, f"Triton failed ({words}); it needs a C compiler and Python's headers")
    return _Triton(kernels)


@cache
def _note(failure: str) -> None:
    console.print(
        f"note: neurons on CUDA are left to plain PyTorch, which is slow: {failure}",
        soft_wrap=True,
        markup=False,
    )
