import copy

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from spikingjelly.activation_based import neuron as spikingjelly_neuron
from spikingjelly.activation_based import surrogate as spikingjelly_surrogate

from oracles.reference import eager_lif
from spikebridge.models.neurons import LIF, surrogate

ALPHAS = {"qgate": 2.0, "atan": 2.0, "sigmoid": 4.0}
TWINS = {
    "qgate": spikingjelly_surrogate.PiecewiseQuadratic,
    "atan": spikingjelly_surrogate.ATan,
    "sigmoid": spikingjelly_surrogate.Sigmoid,
}


def make(name="qgate", alpha=None, tau=2.0, threshold=0.5, backend="auto"):
    return LIF(tau, threshold, surrogate(name, alpha), backend)


def currents(*shape, seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=random, dtype=torch.float64).mul(1.3).add(0.4).to(dtype)


def with_gradient(neuron, current_TN, spikes_up_TN, membrane_up_TN=None):
    """Spikes, potentials and the gradient of their sums weighted by the upstream gradients."""
    current_TN = current_TN.detach().requires_grad_()
    spikes_TN, membrane_TN = neuron(current_TN)
    loss = (spikes_TN * spikes_up_TN).sum()
    if membrane_up_TN is not None:
        loss = loss + (membrane_TN * membrane_up_TN).sum()
    (gradient_TN,) = torch.autograd.grad(loss, current_TN)
    return spikes_TN.detach(), membrane_TN.detach(), gradient_TN


def ours(name="qgate", alpha=None, **settings):
    lif = make(name, alpha, **settings)
    return lambda current_TN: lif(current_TN, membrane=True)


def eager(name="qgate", alpha=None, tau=2.0, threshold=0.5):
    return lambda x: eager_lif(x, tau, threshold, name, alpha or ALPHAS[name])


def spikingjelly(name, alpha, tau=2.0, threshold=0.5):
    """Spikes and potentials before reset of SpikingJelly's LIF, every setting explicit."""

    def run(current_TN):
        node = spikingjelly_neuron.LIFNode(
            tau=tau,
            decay_input=True,
            v_threshold=threshold,
            v_reset=0.0,
            surrogate_function=TWINS[name](alpha=alpha),
            detach_reset=True,
            step_mode="m",
            store_v_seq=True,
        )
        spikes_TN = node(current_TN)
        after_reset_TN = torch.cat([torch.zeros_like(node.v_seq[:1]), node.v_seq[:-1]])
        return spikes_TN, after_reset_TN + (current_TN - after_reset_TN) / tau

    return run


@pytest.mark.parametrize("name", TWINS)
@pytest.mark.parametrize(("tau", "threshold"), [(2.0, 0.5), (1.5, 1.0), (3.3, 0.2)])
@pytest.mark.parametrize("shape", [(8, 2, 3, 4, 5), (1, 3, 7), (20, 1, 2)])
def test_spikes_membranes_and_gradients_are_spikingjellys(name, tau, threshold, shape):
    current_TN = currents(*shape, dtype=torch.float64)
    upstream_TN, on_membrane_TN = currents(2, *shape, seed=1, dtype=torch.float64)
    theirs = spikingjelly(name, ALPHAS[name], tau, threshold)
    expected = with_gradient(theirs, current_TN, upstream_TN, on_membrane_TN)
    found = with_gradient(
        ours(name, tau=tau, threshold=threshold), current_TN, upstream_TN, on_membrane_TN
    )
    assert torch.equal(found[0], expected[0])
    assert 0 < found[0].mean() < 1
    # SpikingJelly writes pi / 2 and the like in float32.
    torch.testing.assert_close(found[1], expected[1], rtol=1e-6, atol=1e-9)
    torch.testing.assert_close(found[2], expected[2], rtol=1e-6, atol=1e-7)


def test_numbers_are_kts(kt):
    lif = {k: torch.tensor(v) for k, v in kt["lif"].items() if k != "settings"}
    found = with_gradient(ours(), lif["input_TN"], lif["upstream_TN"])
    assert torch.equal(found[0], lif["spikes_TN"])
    torch.testing.assert_close(found[1], lif["membrane_before_reset_TN"], rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(found[2], lif["grad_input_TN"], rtol=1e-5, atol=1e-6)


def test_three_steps_by_hand():
    current_TN = torch.tensor([[0.8], [0.8], [2.0]])
    spikes_TN, membrane_TN = make()(current_TN, membrane=True)
    # v1 = 0.4; v2 = 0.4 + (0.8 - 0.4) / 2 = 0.6, a spike, reset; v3 = 0 + 2 / 2 = 1, a spike
    torch.testing.assert_close(membrane_TN.flatten(), torch.tensor([0.4, 0.6, 1.0]))
    assert spikes_TN.flatten().tolist() == [0, 1, 1]


def test_a_potential_at_the_threshold_spikes():
    spikes_TN, membrane_TN = make()(torch.tensor([[1.0], [0.0]]), membrane=True)
    assert membrane_TN.flatten().tolist() == [0.5, 0.0]
    assert spikes_TN.flatten().tolist() == [1, 0]


def test_a_spike_at_the_threshold_cuts_the_gradient_as_it_resets():
    current_TN = torch.tensor([[1.0], [0.6]], requires_grad=True)
    _, membrane_TN = make()(current_TN, membrane=True)
    # v1 = 0.5 spikes, so that v2 = 0.6 / 2 knows nothing of the first current.
    membrane_TN[1].sum().backward()
    assert current_TN.grad.flatten().tolist() == [0.0, 0.5]


@settings(max_examples=40, deadline=None)
@given(
    shape=st.lists(st.integers(1, 4), min_size=1, max_size=4).map(tuple),
    steps=st.integers(1, 6),
    tau=st.floats(1, 8),
    threshold=st.floats(0.1, 1.5),
    name=st.sampled_from(sorted(TWINS)),
    seed=st.integers(0, 10_000),
)
def test_any_shape_matches_plain_autograd(shape, steps, tau, threshold, name, seed):
    shape = (steps, *shape)
    current_TN = currents(*shape, seed=seed, dtype=torch.float64)
    upstream = currents(2, *shape, seed=seed + 1, dtype=torch.float64)
    options = {"tau": tau, "threshold": threshold}
    expected = with_gradient(eager(name, **options), current_TN, *upstream)
    found = with_gradient(ours(name, **options), current_TN, *upstream)
    for ours_TN, theirs_TN in zip(found, expected, strict=True):
        torch.testing.assert_close(ours_TN, theirs_TN, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("read", ["spikes", "membrane"])
def test_gradient_when_only_one_output_is_read(read):
    current_TN = currents(6, 5, dtype=torch.float64)
    upstream_TN = currents(6, 5, seed=1, dtype=torch.float64)
    nothing_TN = torch.zeros_like(upstream_TN)
    pair = (upstream_TN, nothing_TN) if read == "spikes" else (nothing_TN, upstream_TN)
    expected = with_gradient(eager(), current_TN, *pair)[2]
    current_TN.requires_grad_()
    spikes_TN, membrane_TN = make()(current_TN, membrane=True)
    output_TN = spikes_TN if read == "spikes" else membrane_TN
    (output_TN * upstream_TN).sum().backward()
    torch.testing.assert_close(current_TN.grad, expected, rtol=1e-9, atol=1e-10)


def test_gradient_of_the_membrane_is_the_numerical_one_where_nothing_spikes():
    lif = make(threshold=50.0)
    current_TN = currents(5, 4, dtype=torch.float64).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: lif(x, membrane=True)[1], current_TN)


def layouts():
    plain = currents(5, 2, 3, 4, 6)
    frames = plain.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    return {
        "channels last": (frames.unflatten(0, (5, 2)), plain),
        "batch first": (plain.transpose(0, 1).contiguous().transpose(0, 1), plain),
        "strided": (plain.repeat_interleave(2, 3)[:, :, :, ::2], plain),
        "repeated over T": (plain[:1].expand(5, -1, -1, -1, -1), plain[:1].repeat(5, 1, 1, 1, 1)),
    }


@pytest.mark.parametrize("layout", ["channels last", "batch first", "strided", "repeated over T"])
def test_memory_layout_changes_nothing(layout):
    view, plain = layouts()[layout]
    assert torch.equal(view, plain)
    assert not view.is_contiguous()
    upstream = currents(2, *plain.shape, seed=1)
    expected = with_gradient(ours(), plain.clone(), *upstream)
    found = with_gradient(ours(), view, *upstream)
    for ours_TN, theirs_TN in zip(found, expected, strict=True):
        assert torch.equal(ours_TN, theirs_TN)


def test_bfloat16_currents_spike_as_the_same_values_in_float32():
    current_TN = currents(10, 3, 50, dtype=torch.bfloat16)
    upstream_TN = currents(10, 3, 50, seed=1)
    found = with_gradient(ours(), current_TN, upstream_TN.bfloat16())
    expected = with_gradient(ours(), current_TN.float(), upstream_TN.bfloat16().float())
    assert found[0].dtype == torch.bfloat16
    assert found[1].dtype == torch.float32
    assert found[2].dtype == torch.bfloat16
    assert torch.equal(found[0].float(), expected[0])
    assert torch.equal(found[1], expected[1])
    assert torch.equal(found[2], expected[2].bfloat16())


def test_no_state_is_left_between_calls():
    lif = make()
    current_TN = currents(4, 3)
    first = lif(current_TN, membrane=True)
    lif(currents(7, 2, 5, seed=1).requires_grad_())
    second = lif(current_TN, membrane=True)
    assert torch.equal(first[0], second[0])
    assert torch.equal(first[1], second[1])
    assert lif.state_dict() == {}
    assert not list(lif.buffers())


def test_deepcopy_works_between_forward_and_backward():
    lif = make()
    current_TN = currents(4, 3).requires_grad_()
    spikes_TN = lif(current_TN)
    twin = copy.deepcopy(lif)
    lif.load_state_dict(twin.state_dict())
    assert torch.equal(twin(current_TN), spikes_TN)
    spikes_TN.sum().backward()
    expected = with_gradient(eager(), current_TN.detach(), torch.ones(4, 3))[2]
    torch.testing.assert_close(current_TN.grad, expected)


def test_changing_the_input_afterwards_does_not_change_the_gradient():
    current_TN = currents(4, 3)
    expected = with_gradient(ours(), current_TN.clone(), torch.ones(4, 3))[2]
    leaf_TN = current_TN.clone().requires_grad_()
    buffer_TN = leaf_TN * 1
    spikes_TN = make(backend="eager")(buffer_TN)
    with torch.no_grad():
        buffer_TN.zero_()
    spikes_TN.sum().backward()
    torch.testing.assert_close(leaf_TN.grad, expected)


def test_spikes_alone_equal_those_with_the_membrane():
    current_TN = currents(6, 3)
    assert torch.equal(make()(current_TN), make()(current_TN, membrane=True)[0])


@pytest.mark.parametrize(("tau", "threshold"), [(0.9, 0.5), (2.0, 0.0), (2.0, -1.0)])
def test_bad_settings_are_refused(tau, threshold):
    with pytest.raises(ValueError, match="LIF needs"):
        make(tau=tau, threshold=threshold)
