"""Average pooling whose backward pass keeps no activation."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class AveragePool2(nn.AvgPool2d):
    """`nn.AvgPool2d(2)`, whose gradient needs the picture's size alone.

    PyTorch's own keeps its input for the backward pass: here the spikes of a whole layer.
    """

    def __init__(self) -> None:
        super().__init__(2)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """y_NCHW of half the height and width; an odd last row or column is left out."""
        return _Average.apply(x_NCHW)  # pyright: ignore[reportReturnType]


class _Average(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x_NCHW: Tensor) -> Tensor:
        ctx.height, ctx.width = x_NCHW.shape[2:]
        return F.avg_pool2d(x_NCHW, 2)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NCHW: Tensor) -> Tensor:
        spread_NCHW = F.interpolate(grad_NCHW / 4, scale_factor=2, mode="nearest")
        below, right = ctx.height % 2, ctx.width % 2
        return F.pad(spread_NCHW, (0, right, 0, below)) if below or right else spread_NCHW
