"""The compiled kernels of ``lif.c``: built once by the machine's C compiler, called by ctypes.

`kernels.Kernels` says what they take and return.
"""

import ctypes
from ctypes import c_float, c_int, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spikebridge.base.compiled import compiled

_SOURCE = Path(__file__).with_name("lif.c")
_NAMES = {torch.float32: "f32", torch.bfloat16: "bf16"}
SURROGATES = {"qgate": 0, "atan": 1}
"""Surrogates that the kernels know, and their number there."""


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where there is no compiler or it fails."""
    kernels = compiled(_SOURCE, "-ffp-contract=off")
    return None if kernels is None else _declared(kernels)


def _declared(kernels: ctypes.CDLL) -> ctypes.CDLL:
    long, real, pointer = c_int64, c_float, c_void_p
    for name in _NAMES.values():
        getattr(kernels, f"moments_{name}").argtypes = [pointer, long, long, pointer, pointer]
        getattr(kernels, f"forward_{name}").argtypes = [*[pointer] * 5, *[long] * 3, real, real]
        getattr(kernels, f"backward_{name}").argtypes = [
            *[pointer] * 7, *[long] * 3, real, real, c_int, real, pointer, pointer,
        ]  # fmt: skip
        getattr(kernels, f"affine_{name}").argtypes = [*[pointer] * 5, long, long]
    return kernels


def takes(x: Tensor, surrogate: str) -> bool:
    """Whether the kernels can be used on a tensor of this kind, on this machine."""
    return (
        x.device.type == "cpu"
        and x.dtype in _NAMES
        and surrogate in SURROGATES
        and library() is not None
    )


def _kernel(name: str, x: Tensor):
    return getattr(library(), f"{name}_{_NAMES[x.dtype]}")


def _at(x: Tensor | None) -> int | None:
    return None if x is None else x.data_ptr()


def moments(x_RC: Tensor) -> tuple[Tensor, Tensor]:
    """Sums by column of x − x[0] and of its square; see `Kernels`."""
    rows, channels = x_RC.shape
    sum_C, square_C = x_RC.new_empty((2, channels), dtype=torch.float64)
    _kernel("moments", x_RC)(x_RC.data_ptr(), rows, channels, sum_C.data_ptr(), square_C.data_ptr())
    return sum_C, square_C


def forward(
    x_TPC: Tensor,
    scale_C: Tensor | None,
    shift_C: Tensor | None,
    tau: float,
    threshold: float,
    *,
    membrane: bool,
) -> tuple[Tensor, Tensor | None]:
    """Spikes, and potentials before reset where asked for; see `Kernels`."""
    steps, places, channels = x_TPC.shape
    spikes_TPC = torch.empty_like(x_TPC)
    membrane_TPC = torch.empty_like(x_TPC, dtype=torch.float32) if membrane else None
    _kernel("forward", x_TPC)(
        x_TPC.data_ptr(), _at(scale_C), _at(shift_C), spikes_TPC.data_ptr(), _at(membrane_TPC),
        steps, places, channels, 1 / tau, threshold,
    )  # fmt: skip
    return spikes_TPC, membrane_TPC


def backward(
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
    """Gradient with respect to the neurons' input and its sums; see `Kernels`."""
    steps, places, channels = x_TPC.shape
    grad_TPC = torch.empty_like(x_TPC)
    sum_C, product_C = x_TPC.new_zeros((2, channels), dtype=torch.float64)
    _kernel("backward", x_TPC)(
        x_TPC.data_ptr(), _at(scale_C), _at(shift_C), _at(mean_C), _at(spikes_grad_TPC),
        _at(membrane_grad_TPC), grad_TPC.data_ptr(), steps, places, channels, 1 / tau, threshold,
        SURROGATES[surrogate], alpha, sum_C.data_ptr(), product_C.data_ptr(),
    )  # fmt: skip
    return grad_TPC, sum_C, product_C


def affine_(grad_RC: Tensor, x_RC: Tensor, a_C: Tensor, b_C: Tensor, d_C: Tensor) -> Tensor:
    """a·grad + b·x + d by channel, in place."""
    a_C, b_C, d_C = a_C.float(), b_C.float(), d_C.float()
    _kernel("affine", grad_RC)(
        grad_RC.data_ptr(), x_RC.data_ptr(), a_C.data_ptr(), b_C.data_ptr(), d_C.data_ptr(),
        grad_RC.shape[0], grad_RC.shape[1],
    )  # fmt: skip
    return grad_RC
