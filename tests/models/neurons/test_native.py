"""The compiled kernels against plain PyTorch: spikes equal, gradients within rounding."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from factories import refused
from spikebridge.models.neurons import LIF, native, surrogate
from spikebridge.models.neurons.fused import mean_and_variance
from spikebridge.models.neurons.norm import StreamBatchNorm2d

pytestmark = pytest.mark.skipif(
    native.library() is None, reason="needs a C compiler (apt-get install gcc)"
)

NAMES = st.sampled_from(["qgate", "atan"])


def pair(name="qgate", tau=2.0, threshold=0.5, alpha=None):
    return [LIF(tau, threshold, surrogate(name, alpha), b) for b in ("native", "eager")]


def random_of(seed, *shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.3 + 0.4


def run(lif, current_TN, spikes_up, membrane_up, layout=None):
    """Spikes, potentials and gradient of a copy of the current."""
    current_TN = current_TN.clone()
    if layout is not None:
        current_TN = layout(current_TN)
    current_TN.requires_grad_()
    spikes_TN, membrane_TN = lif(current_TN, membrane=True)
    outputs, ups = [spikes_TN], [spikes_up]
    if membrane_up is not None:
        outputs, ups = [*outputs, membrane_TN], [*ups, membrane_up]
    torch.autograd.backward(outputs, ups)
    return spikes_TN.detach(), membrane_TN.detach(), current_TN.grad


@settings(max_examples=60)
@given(
    shape=st.tuples(st.integers(1, 7), st.integers(1, 5), st.integers(1, 700)),
    name=NAMES,
    tau=st.sampled_from([1.0, 1.3, 2.0, 4.7]),
    threshold=st.sampled_from([0.3, 0.5, 1.0]),
    alpha=st.sampled_from([0.7, 2.0]),
    with_membrane=st.booleans(),
    seed=st.integers(0, 100),
)
def test_it_is_the_eager_neuron(shape, name, tau, threshold, alpha, with_membrane, seed) -> None:
    ours, plain = pair(name, tau, threshold, alpha)
    current = random_of(seed, *shape)
    ups = random_of(seed + 1, *shape), random_of(seed + 2, *shape) if with_membrane else None
    got, expected = run(ours, current, *ups), run(plain, current, *ups)
    if tau in (1.0, 2.0):  # torch.lerp rounds other weights in two ways itself
        assert torch.equal(got[0], expected[0])
        assert torch.equal(got[1], expected[1])
    elif ((expected[1] - threshold).abs() < 1e-5).any():
        return
    assert torch.equal(got[0], expected[0])
    torch.testing.assert_close(got[1], expected[1], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(got[2], expected[2], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    "layout",
    [
        lambda x: x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2]),
        lambda x: x.transpose(2, 4).contiguous().transpose(2, 4),
        lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
        lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]],
        lambda x: x[:, :1].contiguous().expand_as(x),
    ],
    ids=["channels last", "permuted", "batch first", "slice", "expanded"],
)
def test_any_memory_layout(layout) -> None:
    ours, plain = pair()
    current = random_of(0, 4, 3, 5, 6, 7)
    if layout(current).stride(1) == 0:
        current = layout(current).clone()
    ups = random_of(1, 4, 3, 5, 6, 7), random_of(2, 4, 3, 5, 6, 7)
    got = run(ours, current, *ups, layout=lambda x: layout(x).detach())
    for value, expected in zip(got, run(plain, current, *ups), strict=True):
        torch.testing.assert_close(value, expected, rtol=1e-5, atol=1e-5)
    upside = ups[0].transpose(1, 4).contiguous().transpose(1, 4)
    torch.testing.assert_close(run(ours, current, upside, ups[1])[2], got[2])


def test_bfloat16_is_within_its_rounding() -> None:
    ours, plain = pair()
    current = random_of(3, 6, 4, 501).bfloat16()
    up = random_of(4, 6, 4, 501).bfloat16()
    (spikes, potentials, grad), (spikes_, potentials_, grad_) = (
        run(lif, current, up, None) for lif in (ours, plain)
    )
    assert spikes.dtype == grad.dtype == torch.bfloat16
    assert potentials.dtype == torch.float32
    assert torch.equal(spikes, spikes_)
    assert torch.equal(potentials, potentials_)
    torch.testing.assert_close(grad, grad_, rtol=1e-2, atol=1e-3)


def normed(lif, x_NCHW, norm, steps, spikes_up, membrane_up):
    """Output and gradients of BatchNorm and LIF together."""
    x_NCHW = x_NCHW.clone().requires_grad_()
    spikes, membrane = lif.normalised(x_NCHW, norm, steps, membrane=True)
    torch.autograd.backward((spikes, membrane), (spikes_up, membrane_up))
    return spikes.detach(), membrane.detach(), x_NCHW.grad, norm.weight.grad, norm.bias.grad


@settings(max_examples=40)
@given(
    steps=st.integers(1, 5),
    batch=st.integers(1, 4),
    channels=st.sampled_from([1, 2, 3, 16, 31, 70]),
    side=st.integers(1, 9),
    training=st.booleans(),
    stream=st.sampled_from(["dvs", "hybrid"]),
    seed=st.integers(0, 50),
)
def test_behind_a_batch_norm(steps, batch, channels, side, training, stream, seed) -> None:
    if steps * batch * side * side < 2:
        return
    shape = steps * batch, channels, side, side
    x_NCHW = random_of(seed, *shape) * 3 + 5
    norms = []
    for _ in range(2):
        norm = StreamBatchNorm2d(channels).train(training)
        norm.stream = stream
        with torch.no_grad():
            norm.weight.copy_(random_of(seed + 1, channels))
            norm.bias.copy_(random_of(seed + 2, channels))
            norm.running_mean.copy_(random_of(seed + 3, channels) + 4)
            norm.running_var.copy_(random_of(seed + 4, channels).abs() + 1)
        norms.append(norm)
    ups = random_of(seed + 5, *shape), random_of(seed + 6, *shape)
    ups = [up.unflatten(0, (steps, batch)) for up in ups]
    got, expected = (
        normed(lif, x_NCHW, norm, steps, *ups) for lif, norm in zip(pair(), norms, strict=True)
    )
    near = (expected[1] - 0.5).abs() < 1e-4
    assert torch.equal(got[0][~near], expected[0][~near])
    torch.testing.assert_close(norms[0].running_mean, norms[1].running_mean)
    torch.testing.assert_close(norms[0].running_var, norms[1].running_var)
    assert norms[0].num_batches_tracked == norms[1].num_batches_tracked
    if near.any():  # another spike, and all that follows from it
        return
    torch.testing.assert_close(got[1], expected[1], rtol=1e-4, atol=1e-4)
    scale = expected[2].abs().max()
    torch.testing.assert_close(got[2] / scale, expected[2] / scale, rtol=1e-3, atol=1e-4)
    for value, reference in zip(got[3:], expected[3:], strict=True):
        torch.testing.assert_close(value, reference, rtol=1e-3, atol=1e-2)


def test_a_mean_far_from_zero_is_normalised_exactly() -> None:
    x_RC = random_of(0, 20_000, 5) + torch.tensor([1e4, -1e4, 1e3, 0.0, 1e5])
    mean_C, var_C = mean_and_variance(native, x_RC)
    expected = torch.var_mean(x_RC.double(), 0, correction=0)
    torch.testing.assert_close(var_C, expected[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(mean_C, expected[1], rtol=1e-9, atol=1e-4)


def test_the_result_does_not_depend_on_the_run() -> None:
    ours, _ = pair()
    current, up = random_of(0, 5, 3, 1000), random_of(1, 5, 3, 1000)
    first, second = (run(ours, current, up, None) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def test_other_kinds_take_the_eager_way() -> None:
    assert not native.takes(torch.zeros(2, 2, dtype=torch.float64), "qgate")
    assert not native.takes(torch.zeros(2, 2), "sigmoid")
    lif = LIF(2.0, 0.5, surrogate("sigmoid"), "auto")
    assert lif(torch.ones(3, 2)).tolist() == [[1, 1], [1, 1], [1, 1]]
    norm = nn.BatchNorm2d(2)
    assert not hasattr(norm, "remembers")


def test_without_a_compiler_it_still_works(tmp_path) -> None:
    script = (
        "import torch\n"
        "from spikebridge.base.errors import UserError\n"
        "from spikebridge.models.neurons import LIF, native, surrogate\n"
        "assert native.library() is None\n"
        "print(LIF(2.0, 0.5, surrogate('qgate'))(torch.ones(2, 1)).tolist())\n"
        "try:\n    LIF(2.0, 0.5, surrogate('qgate'), 'native')\n"
        "except UserError as error:\n    print(error)\n"
    )
    environment = {**os.environ, "CC": str(tmp_path / "none"), "XDG_CACHE_HOME": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0] == "[[1.0], [1.0]]"
    assert "C compiler" in done.stdout


def test_asking_for_it_by_name() -> None:
    assert LIF(2.0, 0.5, surrogate("qgate"), "native").backend == "native"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "library", lambda: None)
        refused(lambda: LIF(2.0, 0.5, surrogate("qgate"), "native"), "C compiler", "auto")
