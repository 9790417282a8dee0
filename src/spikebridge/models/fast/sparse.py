"""Convolution and LIF in one pass that skips zeros: ``sparse.c``, for inference on the CPU.

Spikes are rare, so a convolution that adds the weights of the spikes alone does a fraction of the
dense one's work. Its rounding differs from a dense convolution's as that of two dense
implementations does.
"""

import ctypes
from ctypes import c_float, c_int64, c_void_p
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from spikebridge.base.compiled import compiled
from spikebridge.models.neurons import LIF

_SLICE = 128  # As in sparse.c.
_BLOCKS = (1, 2, 4)


@cache
def library() -> ctypes.CDLL | None:
    """The kernels, or None where there is no C compiler."""
    kernels = compiled(Path(__file__).with_suffix(".c"))
    if kernels is None:
        return None
    kernels.vector_lanes.restype = c_int64
    kernels.active.argtypes = [*[c_void_p] * 3, *[c_int64] * 2]
    for vectors in _BLOCKS:
        convolve = getattr(kernels, f"convolve_{vectors}")
        convolve.argtypes = [*[c_void_p] * 7, ctypes.POINTER(c_int64), c_float, c_float]
    return kernels


def _kernels() -> ctypes.CDLL:
    kernels = library()
    assert kernels is not None
    return kernels


class SparseConvolution:
    """A square convolution with bias; `library` must be there.

    Args:
        weight_OIHW: Weights of any layout.
        bias_O: Bias.
        stride: Stride.
        padding: Padding on all sides.
    """

    def __init__(self, weight_OIHW: Tensor, bias_O: Tensor, stride: int, padding: int) -> None:
        outer, inner, self.kernel, _ = weight_OIHW.shape
        self.stride, self.padding, self.channels = stride, padding, outer
        lanes = _kernels().vector_lanes()
        self.vectors = next((v for v in _BLOCKS if outer <= lanes * v), _BLOCKS[-1])
        width = lanes * self.vectors
        blocks = -(-outer // width)
        weight = weight_OIHW.new_zeros(blocks * width, inner, self.kernel, self.kernel)
        weight[:outer] = weight_OIHW
        blocked = weight.unflatten(0, (blocks, width)).permute(0, 3, 4, 2, 1)
        self.weight, self.bias = blocked.contiguous(), bias_O.new_zeros(blocks * width)
        self.bias[:outer] = bias_O

    def __call__(
        self, x_TBHWC: Tensor, neuron: LIF | None = None, residual_TBHWC: Tensor | None = None
    ) -> Tensor:
        """Spikes of neurons that the convolution's output drives, or that output, y_TBHWC.

        Args:
            x_TBHWC: Contiguous input, float32.
            neuron: What fires; None gives the output.
            residual_TBHWC: Contiguous; added to the output before the neurons.
        """
        kernels = _kernels()
        steps, batch, *size, inner = x_TBHWC.shape
        rows = x_TBHWC.numel() // inner
        channel = x_TBHWC.new_empty(rows, inner, dtype=torch.uint16)
        count = x_TBHWC.new_empty(rows, -(-inner // _SLICE), dtype=torch.int32)
        kernels.active(x_TBHWC.data_ptr(), channel.data_ptr(), count.data_ptr(), rows, inner)
        out = [(n + 2 * self.padding - self.kernel) // self.stride + 1 for n in size]
        y_TBHWC = x_TBHWC.new_empty(steps, batch, *out, self.channels)
        shape = [steps, batch, *size, inner, *out, self.channels]
        shape += [self.kernel, self.stride, self.padding]
        tau, threshold = (neuron.tau, neuron.threshold) if neuron else (1.0, 0.0)
        getattr(kernels, f"convolve_{self.vectors}")(
            x_TBHWC.data_ptr(), channel.data_ptr(), count.data_ptr(), self.weight.data_ptr(),
            self.bias.data_ptr(), None if residual_TBHWC is None else residual_TBHWC.data_ptr(),
            y_TBHWC.data_ptr(), (c_int64 * len(shape))(*shape), 1 / tau, threshold,
        )  # fmt: skip
        return y_TBHWC
