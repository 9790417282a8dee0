"""Connections of convolutions, pools and linear layers, exact at the borders; MACs of any ANN."""

import numpy as np
import torch
from torch import Tensor, nn

from spikebridge.results.watched import watched


def connections_1d(
    size: int, count: int, kernel: int, stride: int, *, before: int = 0, dilation: int = 1
) -> np.ndarray:
    """Number of weights between outputs and inputs along one axis, OI; none to the padding.

    Args:
        size: Inputs.
        count: Outputs.
        kernel: Width of the window in taps.
        stride: Inputs between two windows.
        before: Padding before the first input.
        dilation: Inputs between two taps.
    """
    position_OK = stride * np.arange(count)[:, None] + dilation * np.arange(kernel) - before
    return (position_OK[..., None] == np.arange(size)).sum(1)


def conv_connections(
    conv: nn.Conv2d, axis: int, size: int, out_size: int | None = None
) -> np.ndarray:
    """`connections_1d` of a convolution along one axis.

    Args:
        conv: The convolution.
        axis: 0 is vertical.
        size: Inputs along it.
        out_size: Outputs that were seen. Where PyTorch's rule gives another number, the convolution
            pads as TensorFlow's "same" does.
    """
    kernel, stride, dilation = conv.kernel_size[axis], conv.stride[axis], conv.dilation[axis]
    reach = dilation * (kernel - 1) + 1
    before = 0 if isinstance(conv.padding, str) else int(conv.padding[axis])
    count = (size + 2 * before - reach) // stride + 1
    if out_size is not None and count != out_size:
        count = out_size
        before = max((count - 1) * stride + reach - size, 0) // 2
    return connections_1d(size, count, kernel, stride, before=before, dilation=dilation)


def pool_connections(pool: nn.AvgPool2d | None, axis: int, size: int) -> np.ndarray:
    """`connections_1d` of a pool; pixels left over at the end reach nothing. None is no pool."""
    if pool is None:
        return np.eye(size, dtype=np.int64)
    kernel, stride = (
        value if isinstance(value, int) else value[axis]
        for value in (pool.kernel_size, pool.stride)
    )
    return connections_1d(size, (size - kernel) // stride + 1, kernel, stride)


def channel_pairs(conv: nn.Conv2d) -> int:
    """Pairs of an input and an output channel that a convolution connects."""
    return conv.in_channels * conv.out_channels // conv.groups


@torch.no_grad()
def count_macs(network: nn.Module, x_BCHW: Tensor) -> int:
    """MACs of one input in a network's convolutions and linear layers; padding costs nothing.

    Products of two activations (attention) are not counted.

    Args:
        network: Any network; it is run in evaluation mode.
        x_BCHW: One or more inputs.
    """
    macs: list[int] = []

    def count(module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            sizes = zip(inputs[0].shape[-2:], output.shape[-2:], strict=True)
            rows, columns = (
                conv_connections(module, axis, size, out_size).sum()
                for axis, (size, out_size) in enumerate(sizes)
            )
            macs.append(channel_pairs(module) * int(rows * columns))
        elif isinstance(module, nn.Linear):
            macs.append(inputs[0][0].numel() * module.out_features)

    counted = [m for m in network.modules() if isinstance(m, nn.Conv2d | nn.Linear)]
    with watched(network, ((module, count) for module in counted)):
        network(x_BCHW)
    return sum(macs)
