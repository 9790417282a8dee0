"""Convolutions of spiking layers; 1×1 ones with a stride take every stride-th pixel."""

from torch import Tensor, nn
from torch.nn import functional as F


class PointwiseConv2d(nn.Conv2d):
    """`nn.Conv2d` of kernel 1 without padding; the pixels that it skips are dropped first.

    oneDNN 3.12 on AVX2 writes beyond its buffers in the backward pass of the strided convolution,
    in channels-last with fewer than 8 input channels: the process aborts, or worse, goes on.
    """

    def __init__(self, channels_in: int, channels_out: int, stride: int) -> None:
        super().__init__(channels_in, channels_out, 1, stride=stride, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """y_NCHW of every stride-th row and column."""
        down, across = self.stride
        return F.conv2d(x_NCHW[:, :, ::down, ::across], self.weight)


def square_convolution(
    channels_in: int, channels_out: int, kernel: int = 3, stride: int = 1
) -> nn.Conv2d:
    """Convolution of an odd kernel, without bias, that keeps the picture's size at stride 1."""
    if kernel == 1:
        return PointwiseConv2d(channels_in, channels_out, stride)
    return nn.Conv2d(channels_in, channels_out, kernel, stride, kernel // 2, bias=False)
