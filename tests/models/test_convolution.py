import pytest
import torch
from torch.nn import functional as F

from spikebridge.models.convolution import PointwiseConv2d


@pytest.mark.parametrize("channels", [2, 4, 6, 16])
@pytest.mark.parametrize("size", [(8, 8), (7, 5)])
def test_equals_the_strided_convolution_and_many_steps_leave_the_heap_whole(channels, size):
    torch.manual_seed(0)
    ours = PointwiseConv2d(channels, 2 * channels, 2).to(memory_format=torch.channels_last)
    for _ in range(40):
        x_NCHW = torch.rand(12, channels, *size)
        ours.zero_grad()
        inner_NCHW = x_NCHW.to(memory_format=torch.channels_last).requires_grad_()
        found = ours(inner_NCHW)
        upstream = torch.randn_like(found)
        found.backward(upstream)
    plain_NCHW = x_NCHW.contiguous().requires_grad_()
    weight = ours.weight.detach().clone(memory_format=torch.contiguous_format).requires_grad_()
    expected = F.conv2d(plain_NCHW, weight, stride=2)
    expected.backward(upstream)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(inner_NCHW.grad, plain_NCHW.grad)
    torch.testing.assert_close(ours.weight.grad, weight.grad)
