"""The Triton kernels against plain PyTorch.

`test_triton.py` runs this file in a process of its own: by Triton's CPU interpreter, which has to
be chosen before Triton is loaded, and on CUDA.
"""

import pytest
import torch
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from torch.nn import functional

from spikebridge.models.build import build_student
from spikebridge.models.neurons import LIF, surrogate, triton_lif
from spikebridge.models.neurons.fused import mean_and_variance
from spikebridge.models.neurons.kernels import kernels_for
from spikebridge.models.neurons.norm import StreamBatchNorm2d
from spikebridge.models.settings import StudentConfig

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
QUICK = settings(max_examples=10, phases=[Phase.generate])
"""The interpreter is slow, and to shrink what fails would take it minutes."""
NAMES = ("qgate", "atan", "sigmoid")
BACKENDS = ("triton", "eager")

LAYOUTS = {
    "contiguous": lambda x: x,
    "channels last": lambda x: (
        x.flatten(0, 1).to(memory_format=torch.channels_last).unflatten(0, x.shape[:2])
    ),
    "permuted": lambda x: x.transpose(2, 4).contiguous().transpose(2, 4),
    "batch first": lambda x: x.transpose(0, 1).contiguous().transpose(0, 1),
    "slice": lambda x: torch.cat([x, x], -1)[..., : x.shape[-1]],
}


def random_of(seed, *shape, dtype=torch.float32):
    values = torch.randn(shape, generator=torch.Generator().manual_seed(seed)) * 1.3 + 0.4
    return values.to(DEVICE, dtype)


def neuron(backend, name="qgate", tau=2.0, threshold=0.5, alpha=None):
    return LIF(tau, threshold, surrogate(name, alpha), backend)


def run(lif, current_TN, spikes_up, membrane_up):
    """Spikes, potentials and gradient of a copy of the current in the same layout."""
    current_TN = current_TN.detach().clone().requires_grad_()
    spikes_TN, membrane_TN = lif(current_TN, membrane=True)
    outputs = [(spikes_TN, spikes_up), (membrane_TN, membrane_up)]
    outputs, ups = zip(*[(out, up) for out, up in outputs if up is not None], strict=True)
    torch.autograd.backward(outputs, ups)
    return spikes_TN.detach(), membrane_TN.detach(), current_TN.grad


def close(found, expected, tolerance):
    torch.testing.assert_close(found, expected, rtol=tolerance, atol=tolerance)


def test_the_kernels_are_what_runs():
    x = random_of(0, 2, 3)
    for dtype in (torch.float32, torch.bfloat16, torch.float16):
        assert kernels_for(x.to(dtype), "triton", "sigmoid") is triton_lif
    assert triton_lif.INTERPRETED is (DEVICE == "cpu")
    if DEVICE == "cuda":
        assert kernels_for(x, "auto", "sigmoid") is triton_lif
        assert kernels_for(x, "native", "qgate") is None
    else:
        assert kernels_for(x, "auto", "sigmoid") is None


def test_float64_is_left_to_plain_pytorch():
    x = random_of(0, 4, 5, dtype=torch.float64)
    assert kernels_for(x, "triton", "qgate") is None
    found, expected = (neuron(b)(x, membrane=True) for b in BACKENDS)
    assert found[1].dtype == torch.float64
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))


@QUICK
@given(
    shape=st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(1, 600)),
    name=st.sampled_from(NAMES),
    tau=st.sampled_from([1.0, 1.3, 2.0, 4.7]),
    threshold=st.sampled_from([0.3, 0.5, 1.0]),
    alpha=st.sampled_from([0.7, 2.0]),
    read=st.sampled_from(["spikes", "membrane", "both"]),
    seed=st.integers(0, 100),
)
def test_it_is_the_eager_neuron(shape, name, tau, threshold, alpha, read, seed):
    ups = [random_of(seed + 1, *shape), random_of(seed + 2, *shape)]
    ups = [None if read == "membrane" else ups[0], None if read == "spikes" else ups[1]]
    current = random_of(seed, *shape)
    found, expected = (run(neuron(b, name, tau, threshold, alpha), current, *ups) for b in BACKENDS)
    if tau in (1.0, 2.0):  # torch.lerp rounds other weights in two ways itself
        assert torch.equal(found[1], expected[1])
    elif ((expected[1] - threshold).abs() < 1e-5).any():
        return
    assert torch.equal(found[0], expected[0])
    close(found[1], expected[1], 1e-5)
    close(found[2], expected[2], 1e-5)


@pytest.mark.parametrize("steps", [1, 10, 11, 23])
def test_sequences_longer_than_what_is_kept(steps):
    shape = steps, 1, 7
    current, ups = random_of(0, *shape), (random_of(1, *shape), random_of(2, *shape))
    found, expected = (run(neuron(b), current, *ups) for b in BACKENDS)
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    close(found[2], expected[2], 1e-5)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_any_memory_layout(layout):
    shape = 3, 2, 5, 4, 6
    current = random_of(0, *shape)
    ups = random_of(1, *shape), random_of(2, *shape)
    laid_out = LAYOUTS[layout](current)
    found = run(neuron("triton"), laid_out, *ups)
    expected = run(neuron("eager"), current, *ups)
    assert found[2].shape == current.shape
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    close(found[2], expected[2], 1e-5)
    upside = ups[0].transpose(1, 4).contiguous().transpose(1, 4)
    assert torch.equal(run(neuron("triton"), laid_out, upside, ups[1])[2], found[2])


@pytest.mark.parametrize("layout", ["strided", "repeated over T"])
def test_views_with_gaps_or_repeats(layout):
    current = random_of(0, 4, 2, 9)
    view = current[..., ::2] if layout == "strided" else current[:1].expand(4, -1, -1)
    leaf = current.clone().requires_grad_()
    taken = leaf[..., ::2] if layout == "strided" else leaf[:1].expand(4, -1, -1)
    neuron("triton", "atan")(taken).sum().backward()
    plain = current.clone().requires_grad_()
    taken = plain[..., ::2] if layout == "strided" else plain[:1].expand(4, -1, -1)
    neuron("eager", "atan")(taken).sum().backward()
    close(leaf.grad, plain.grad, 1e-5)
    assert torch.equal(neuron("triton")(view), neuron("eager")(view))


@pytest.mark.parametrize(("dtype", "band"), [(torch.bfloat16, 8e-3), (torch.float16, 1e-3)])
@pytest.mark.parametrize("name", NAMES)
def test_half_precision_is_within_its_rounding(dtype, band, name):
    # Potentials and what is carried over T are float32 in both; the gradient is rounded once, by
    # the interpreter to the next number towards 0.
    current, up = random_of(3, 6, 301, dtype=dtype), random_of(4, 6, 301, dtype=dtype)
    found, expected = (run(neuron(b, name), current, up, None) for b in BACKENDS)
    assert found[0].dtype == found[2].dtype == dtype
    assert found[1].dtype == torch.float32
    assert torch.equal(found[0], expected[0])
    assert torch.equal(found[1], expected[1])
    torch.testing.assert_close(found[2], expected[2], rtol=band, atol=1e-6)


def norms(channels, seed, *, training=True, stream="dvs"):
    """Two equal BatchNorms with some history."""
    pair = []
    for _ in BACKENDS:
        norm = StreamBatchNorm2d(channels).train(training).to(DEVICE)
        norm.stream = stream
        with torch.no_grad():
            norm.weight.copy_(random_of(seed + 1, channels))
            norm.bias.copy_(random_of(seed + 2, channels))
            norm.running_mean.copy_(random_of(seed + 3, channels) + 4)
            norm.running_var.copy_(random_of(seed + 4, channels).abs() + 1)
        pair.append(norm)
    return pair


def normed(backend, name, x_NCHW, norm, steps, ups):
    """Spikes, potentials and gradients of BatchNorm and LIF together."""
    x_NCHW = x_NCHW.detach().clone().requires_grad_()
    lif = neuron(backend, name)
    outputs = lif.normalised(x_NCHW, norm, steps, membrane=True)
    torch.autograd.backward(
        outputs, [up.to(out.dtype) for out, up in zip(outputs, ups, strict=True)]
    )
    return [x.detach() for x in outputs] + [x_NCHW.grad, norm.weight.grad, norm.bias.grad]


def compare_normed(shape, steps, name, pair, seed, layout=torch.contiguous_format):
    """Assert that both ways agree, up to the first potential too near the threshold to tell."""
    x_NCHW = (random_of(seed, *shape) * 3 + 5).to(memory_format=layout)
    ups = [random_of(seed + k, *shape).unflatten(0, (steps, -1)) for k in (5, 6)]
    found, expected = (
        normed(backend, name, x_NCHW, norm, steps, ups)
        for backend, norm in zip(BACKENDS, pair, strict=True)
    )
    for statistic in ("running_mean", "running_var", "num_batches_tracked"):
        close(getattr(pair[0], statistic), getattr(pair[1], statistic), 1e-5)
    near = (expected[1] - 0.5).abs() < 1e-4
    assert torch.equal(found[0][~near], expected[0][~near])
    if near.any():  # perhaps another spike, and all that follows from it
        return False
    close(found[1], expected[1], 1e-4)
    for value, reference in zip(found[2:], expected[2:], strict=True):
        scale = reference.abs().max().clamp(min=1e-3)
        close(value / scale, reference / scale, 1e-4)
    return True


@QUICK
@given(
    steps=st.integers(1, 4),
    batch=st.integers(1, 3),
    channels=st.sampled_from([1, 3, 16, 70]),
    side=st.integers(1, 5),
    training=st.booleans(),
    stream=st.sampled_from(["dvs", "hybrid"]),
    name=st.sampled_from(NAMES),
    layout=st.sampled_from([torch.contiguous_format, torch.channels_last]),
    seed=st.integers(0, 50),
)
def test_behind_a_batch_norm(steps, batch, channels, side, training, stream, name, layout, seed):
    if steps * batch * side * side < 3:
        return
    pair = norms(channels, seed, training=training, stream=stream)
    compare_normed((steps * batch, channels, side, side), steps, name, pair, seed, layout)


def test_many_blocks_to_a_program(monkeypatch):
    monkeypatch.setattr(triton_lif, "_PROGRAMS", 1)
    monkeypatch.setattr(triton_lif, "_BLOCK", 16)
    monkeypatch.setattr(triton_lif, "_KEPT_BLOCK", 16)
    monkeypatch.setattr(triton_lif, "_GROUP", 3)
    blocks = triton_lif._Blocks(3 * 3 * 3, 5, 16, grouped=True)
    assert (blocks.grid, blocks.group) == ((5, 1), 3)  # 14 blocks of 2 rows
    assert compare_normed((6, 5, 3, 3), 2, "qgate", norms(5, 1), 1)


def test_what_is_not_read_gets_no_gradient():
    x_NCHW = random_of(0, 4, 3, 2, 2)
    found = []
    for backend, norm in zip(BACKENDS, norms(3, 0), strict=True):
        leaf = x_NCHW.clone().requires_grad_()
        _, membrane = neuron(backend).normalised(leaf, norm, 2, membrane=True)
        membrane[1].sum().backward()
        found.append((leaf.grad, norm.weight.grad, norm.bias.grad))
    for ours, theirs in zip(*found, strict=True):
        close(ours, theirs, 1e-5)


def test_bfloat16_behind_a_batch_norm():
    shape, pair = (6, 20, 3, 3), norms(20, 7)
    x_NCHW = (random_of(7, *shape) * 3 + 5).bfloat16()
    ups = [random_of(seed, *shape).bfloat16().unflatten(0, (3, 2)) for seed in (8, 9)]
    # Plain float32 on the same values; spikes may differ only where rounding decides.
    found = normed("triton", "qgate", x_NCHW, pair[0], 3, ups)
    expected = normed("eager", "qgate", x_NCHW.float(), pair[1], 3, ups)
    assert found[0].dtype == found[2].dtype == torch.bfloat16
    assert ((expected[1] - 0.5).abs() > 1e-4).all()
    assert torch.equal(found[0].float(), expected[0])
    close(found[1], expected[1], 1e-4)
    scale = expected[2].abs().max()
    # Rounded twice: as the neuron's gradient, and as the BatchNorm's.
    torch.testing.assert_close(found[2].float() / scale, expected[2] / scale, rtol=2e-2, atol=1e-2)
    close(found[3], expected[3], 1e-4)
    close(found[4], expected[4], 1e-4)


def test_a_mean_far_from_zero_is_normalised_exactly():
    offset_C = torch.tensor([1e4, -1e4, 1e3, 0.0, 1e5], device=DEVICE)
    x_RC = random_of(0, 3_000, 5) + offset_C
    mean_C, var_C = mean_and_variance(triton_lif, x_RC)
    expected = torch.var_mean(x_RC.double(), 0, correction=0)
    torch.testing.assert_close(var_C, expected[0], rtol=1e-4, atol=0)
    torch.testing.assert_close(mean_C, expected[1], rtol=1e-9, atol=1e-4)


def test_the_result_does_not_depend_on_the_run():
    x_NCHW = random_of(0, 8, 17, 5, 5)
    ups = [random_of(seed, 2, 4, 17, 5, 5) for seed in (1, 2)]
    pair = norms(17, 3)
    first, second = (normed("triton", "qgate", x_NCHW, norm, 2, ups) for norm in pair)
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


@pytest.mark.parametrize("stream", ["dvs", "hybrid"])
def test_a_whole_student(stream):
    found = []
    for backend in BACKENDS:
        torch.manual_seed(0)
        config = StudentConfig(width=0.06, neuron_backend=backend)
        student = build_student(config, 3, (8, 8)).to(DEVICE)
        frames = random_of(1, 2, 3, 2, 8, 8)
        output = student(frames, stream=stream)
        loss = functional.cross_entropy(
            output.logits_TBC.mean(0), torch.tensor([0, 2, 1], device=DEVICE)
        )
        loss = loss + output.membrane_TBN.square().mean()
        loss.backward()
        gradients = {n: p.grad for n, p in student.named_parameters() if p.grad is not None}
        found.append((loss.detach(), output.rates, gradients, dict(student.named_buffers())))
    ours, theirs = found
    close(ours[0], theirs[0], 1e-5)
    assert ours[1] == theirs[1]
    assert len(ours[2]) == len(theirs[2]) > 20
    for name, gradient in theirs[2].items():
        scale = gradient.abs().max().clamp(min=1e-6)
        close(ours[2][name] / scale, gradient / scale, 1e-3)
    for name, value in theirs[3].items():
        close(ours[3][name], value, 1e-5)
