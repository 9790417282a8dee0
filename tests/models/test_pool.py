"""Average pooling without kept activations: values and gradients are PyTorch's."""

import pytest
import torch
from torch import nn

from spikebridge.models.pool import AveragePool2


@pytest.mark.parametrize("size", [(8, 6), (7, 9), (2, 3), (2, 2)])
@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_values_and_gradients_are_those_of_pytorch(size, kind, layout):
    torch.manual_seed(0)
    x = torch.randn(3, 5, *size).to(kind).contiguous(memory_format=layout).requires_grad_()
    y = AveragePool2()(x)
    weight = torch.randn_like(y)
    (gradient,) = torch.autograd.grad((y * weight).sum(), x)
    expected = nn.AvgPool2d(2)(x)
    (expected_gradient,) = torch.autograd.grad((expected * weight).sum(), x)
    assert torch.equal(y, expected)
    assert torch.equal(gradient, expected_gradient)


def test_nothing_is_kept_for_the_backward_pass():
    kept = []
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: kept.append(t) or t, lambda t: t):
        AveragePool2()(x)
    assert kept == []
