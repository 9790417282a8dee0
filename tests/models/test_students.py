import copy

import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.reference import PlainStudent, ReferenceParts
from spikebridge.base.errors import UserError
from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import StreamBatchNorm2d

STREAMS = pytest.mark.parametrize("stream", ["dvs", "hybrid"])
STUDENTS = pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])


def student(name="vgg-snn", width=1 / 16, classes=5, size=(8, 8), two_heads=False):
    torch.manual_seed(0)
    config = StudentConfig(name=name, width=width)
    built = build_student(config, classes, size, two_heads=two_heads)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.4)
    return built


def frames(steps=3, batch=4, size=(8, 8), seed=0, dtype=torch.float32):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(steps, batch, 2, *size, generator=random, dtype=torch.float64).to(dtype) * 3


def plain(model, name, size=(8, 8), width=1 / 16, classes=5):
    """The benchmark's plain network with a student's weights, in its precision and mode."""
    config = StudentConfig(name=name, width=width)
    oracle = PlainStudent(ReferenceParts(), config, classes, size)
    oracle.to(model.head_dvs.weight.dtype).load_state_dict(model.state_dict())
    return oracle.train(model.training)


def assert_same(found, expected):
    for x, y in (
        (found.logits_TBC, expected.logits_TBC),
        (found.membrane_TBN, expected.membrane_TBN),
    ):
        torch.testing.assert_close(x, y, rtol=1e-8, atol=1e-9)


@STUDENTS
@STREAMS
@pytest.mark.parametrize("training", [True, False])
def test_logits_membrane_and_rates_are_the_plain_networks(name, stream, training):
    model = student(name).double()
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = 0.9
    for seed in range(2):
        model(frames(seed=seed, dtype=torch.float64))
    model.train(training)
    x_TBCHW = frames(seed=5, dtype=torch.float64)
    expected, output = plain(model, name)(x_TBCHW, stream), model(x_TBCHW, stream)
    assert_same(output, expected)
    rates = [rate.item() for rate in output.rates.values()]
    assert rates == pytest.approx([rate.item() for rate in expected.rates.values()], abs=1e-6)
    assert 0.02 < min(rates) < max(rates) < 0.9


def test_rates_have_the_layers_names():
    assert list(student()(frames()).rates) == [f"layer{i}" for i in range(1, 9)]
    expected = ["stem"] + [f"block{i}{part}" for i in range(1, 9) for part in "ab"]
    assert list(student("resnet18-snn")(frames()).rates) == expected


@STUDENTS
@STREAMS
def test_float32_gradients_are_those_of_plain_nchw_layers(name, stream):
    model = student(name)
    oracle, upstream, gradients = plain(model, name), None, []
    for network in (oracle, model):
        output = network(frames(), stream)
        if upstream is None:
            upstream = torch.randn_like(output.logits_TBC), torch.randn_like(output.membrane_TBN)
        loss = (output.logits_TBC * upstream[0]).sum() + (output.membrane_TBN * upstream[1]).sum()
        loss.backward()
        gradients.append({k: v.grad for k, v in network.named_parameters()})
    expected, found = gradients
    for key, gradient in expected.items():
        size = gradient.abs().max().item()
        assert size > 0
        torch.testing.assert_close(found[key], gradient, rtol=1e-3, atol=1e-4 * size)


@STUDENTS
def test_layout_of_the_input_changes_no_gradient(name):
    x_TBCHW = frames()
    channels_last = x_TBCHW.flatten(0, 1).contiguous(memory_format=torch.channels_last)
    views = [
        x_TBCHW,
        channels_last.unflatten(0, (3, 4)),
        x_TBCHW.transpose(0, 1).contiguous().transpose(0, 1),
    ]
    gradients = []
    for view in views:
        model = student(name)
        model(view).logits_TBC.square().sum().backward()
        gradients.append([p.grad for p in model.parameters() if p.grad is not None])
    for others in gradients[1:]:
        for first, other in zip(gradients[0], others, strict=True):
            assert torch.equal(first, other)


@pytest.mark.parametrize("size", [(17, 23), (5, 40), (4, 4), (19, 8), (48, 9)])
def test_vgg_takes_odd_and_non_square_sizes(size):
    model = student(size=size).double()
    x_TBCHW = frames(2, 3, size, dtype=torch.float64)
    assert_same(model(x_TBCHW), plain(model, "vgg-snn", size)(x_TBCHW))


@pytest.mark.parametrize("size", [(8, 8), (15, 22), (9, 31)])
def test_resnet_takes_odd_and_non_square_sizes(size):
    model = student("resnet18-snn", size=size).double()
    x_TBCHW = frames(2, 3, size, dtype=torch.float64)
    assert_same(model(x_TBCHW), plain(model, "resnet18-snn", size)(x_TBCHW))


@pytest.mark.parametrize(("name", "size"), [("vgg-snn", (3, 20)), ("resnet18-snn", (20, 7))])
def test_too_small_a_picture_is_refused(name, size):
    with pytest.raises(UserError, match=f"{size[0]}×{size[1]}.*data.size"):
        student(name, size=size)


def published(height, classes=101):
    with torch.device("meta"):
        return build_student(StudentConfig(), classes, (height, height), two_heads=True)


def test_vgg_has_the_published_widths():
    convolutions = [m for m in published(48).modules() if isinstance(m, nn.Conv2d)]
    widths = [(m.in_channels, m.out_channels) for m in convolutions]
    outputs = [64, 128, 256, 256, 512, 512, 512, 512]
    assert widths == list(zip([2, *outputs[:-1]], outputs, strict=True))
    assert {m.kernel_size for m in convolutions} == {(3, 3)}
    assert all(m.bias is None for m in convolutions)


@pytest.mark.parametrize("height", [32, 48, 64, 128])
def test_vgg_heads_have_the_published_size(height):
    model = published(height)
    for head in (model.head_dvs, model.head_hybrid):
        assert (head.in_features, head.out_features) == (512 * (height // 16) ** 2, 101)


def test_vgg_costs_the_published_multiplications():
    with FlopCounterMode(display=False) as counter:
        published(48)(torch.empty(1, 2, 2, 48, 48, device="meta"))
    found = counter.get_total_flops() / 2 / 2
    layers = [(2, 64, 48), (64, 128, 48), (128, 256, 24), (256, 256, 24)]
    layers += [(256, 512, 12), (512, 512, 12), (512, 512, 6), (512, 512, 6)]
    expected = sum(9 * i * o * side**2 for i, o, side in layers) + 512 * 9 * 101
    assert found == expected
    assert round(found / 1e9, 2) == 1.36


@pytest.mark.parametrize("width", [0.001, 0.3, 2.0])
def test_the_width_multiplier_scales_every_layer(width):
    model = student(width=width, size=(4, 4))
    found = [m.out_channels for m in model.modules() if isinstance(m, nn.Conv2d)]
    expected = [max(1, round(width * c)) for c in (64, 128, 256, 256, 512, 512, 512, 512)]
    assert found == expected
    assert model.head_dvs.in_features == expected[-1]


def test_resnet_has_the_published_widths_and_strides():
    with torch.device("meta"):
        model = build_student(StudentConfig(name="resnet18-snn"), 20, (48, 48))
    blocks = model.backbone.blocks
    convolutions = [[m for m in b.modules() if isinstance(m, nn.Conv2d)] for b in blocks]
    assert [c[0].out_channels for c in convolutions] == [64, 64, 128, 128, 256, 256, 512, 512]
    assert [c[0].stride[0] for c in convolutions] == [1, 1, 2, 1, 2, 1, 2, 1]
    assert [len(c) for c in convolutions] == [2, 2, 3, 2, 3, 2, 3, 2]
    assert model.head_dvs.in_features == 512


@STUDENTS
def test_every_parameter_gets_a_finite_gradient(name):
    model = student(name)
    loss = sum(model(frames(), stream).logits_TBC.square().sum() for stream in ("dvs", "hybrid"))
    loss.backward()
    for key, parameter in model.named_parameters():
        assert parameter.grad is not None, key
        assert parameter.grad.isfinite().all(), key
        assert parameter.grad.any(), key


@STUDENTS
@STREAMS
@pytest.mark.parametrize("training", [True, False])
def test_no_state_is_left_between_calls(name, stream, training):
    model = student(name).train(training)
    first = model(frames(), stream)
    model(frames(5, 2, seed=1), "hybrid")
    second = model(frames(), stream)
    assert torch.equal(first.logits_TBC, second.logits_TBC)
    assert torch.equal(first.membrane_TBN, second.membrane_TBN)


@STUDENTS
def test_copy_and_weights_taken_in_the_middle_of_a_step_are_whole(name):
    model = student(name)
    output = model(frames(), "hybrid")
    twin, fresh = copy.deepcopy(model), student(name)
    for parameter in fresh.parameters():
        nn.init.normal_(parameter)
    fresh.load_state_dict(model.state_dict())
    output.logits_TBC.sum().backward()
    expected = model.eval()(frames(seed=1)).logits_TBC
    for other in (twin, fresh):
        assert torch.equal(other.eval()(frames(seed=1)).logits_TBC, expected)


def test_each_stream_has_its_head_where_there_are_two():
    model = student(two_heads=True)
    hybrid, dvs = model(frames(), "hybrid"), model(frames(), "dvs")
    assert torch.equal(hybrid.membrane_TBN, dvs.membrane_TBN)
    assert not torch.isclose(hybrid.logits_TBC, dvs.logits_TBC).any()
    for output, own, other in (
        (hybrid, model.head_hybrid, model.head_dvs),
        (dvs, model.head_dvs, model.head_hybrid),
    ):
        model.zero_grad()
        output.logits_TBC.sum().backward()
        assert own.weight.grad.any()
        assert other.weight.grad is other.bias.grad is None
    model.head_hybrid.load_state_dict(model.head_dvs.state_dict())
    assert torch.equal(model(frames(), "hybrid").logits_TBC, dvs.logits_TBC)
    assert torch.equal(model(frames()).logits_TBC, dvs.logits_TBC)


def test_one_head_serves_both_streams():
    model = student()
    assert not any("hybrid" in key for key in model.state_dict())
    assert torch.equal(model(frames(), "hybrid").logits_TBC, model(frames()).logits_TBC)


def norms(model):
    return {
        key: buffer.clone()
        for key, buffer in model.named_buffers()
        if "running" in key or "tracked" in key
    }


@STUDENTS
def test_only_the_dvs_stream_moves_the_running_statistics(name):
    model = student(name)
    before = norms(model)
    model(frames(), "hybrid")
    for key, buffer in norms(model).items():
        assert torch.equal(buffer, before[key]), key
    model(frames(), "dvs")
    for key, buffer in norms(model).items():
        assert not torch.equal(buffer, before[key]), key


@STUDENTS
@STREAMS
def test_evaluation_moves_no_statistics(name, stream):
    model = student(name).eval()
    before = norms(model)
    model(frames(), stream)
    assert all(torch.equal(buffer, before[key]) for key, buffer in norms(model).items())


def twin_norms(stream):
    ours, torchs = StreamBatchNorm2d(3), nn.BatchNorm2d(3)
    ours.stream = stream
    for norm in (ours, torchs):
        norm.load_state_dict(
            {
                "weight": torch.tensor([0.5, 1.0, 2.0]),
                "bias": torch.tensor([-1.0, 0.0, 1.0]),
                "running_mean": torch.tensor([5.0, 6.0, 7.0]),
                "running_var": torch.tensor([2.0, 3.0, 4.0]),
                "num_batches_tracked": torch.tensor(9),
            }
        )
    return ours, torchs


def test_dvs_norm_is_batchnorm():
    ours, torchs = twin_norms("dvs")
    for seed in range(3):
        x_NCHW = frames(2, 3, seed=seed).flatten(0, 1).repeat(1, 2, 1, 1)[:, :3]
        assert torch.equal(ours(x_NCHW), torchs(x_NCHW))
    for key, buffer in torchs.named_buffers():
        assert torch.equal(ours.get_buffer(key), buffer)
    assert ours.num_batches_tracked == 12
    assert torch.equal(ours.eval()(x_NCHW), torchs.eval()(x_NCHW))


def test_hybrid_norm_uses_its_own_batch_in_training_and_the_running_statistics_after():
    ours, torchs = twin_norms("hybrid")
    x_NCHW = frames(2, 3).flatten(0, 1).repeat(1, 2, 1, 1)[:, :3]
    x_NCHW.requires_grad_()
    found, expected = ours(x_NCHW), torchs(x_NCHW)
    torch.testing.assert_close(found, expected)
    upstream = frames(seed=1).flatten(0, 1).repeat(1, 2, 1, 1)[:6, :3]
    gradients = [torch.autograd.grad((y * upstream).sum(), x_NCHW)[0] for y in (found, expected)]
    torch.testing.assert_close(*gradients)
    by_hand = (x_NCHW - 6) / torch.tensor(3 + 1e-5).sqrt()
    torch.testing.assert_close(ours.eval()(x_NCHW)[:, 1], by_hand[:, 1])


def test_evaluation_normalises_both_streams_alike():
    model = student()
    model(frames(), "dvs")
    model.eval()
    hybrid, dvs = model(frames(seed=1), "hybrid"), model(frames(seed=1), "dvs")
    assert torch.equal(hybrid.membrane_TBN, dvs.membrane_TBN)


@STUDENTS
@STREAMS
def test_bfloat16_keeps_membranes_and_statistics_in_float32(name, stream):
    model = student(name)
    with torch.autocast("cpu", torch.bfloat16):
        output = model(frames(), stream)
    assert output.membrane_TBN.dtype == torch.float32
    expected = model(frames(), stream)
    # Rounding to 8 significant bits turns some spikes over, and more of them in each layer.
    first = next(iter(expected.rates))
    assert output.rates[first].item() == pytest.approx(expected.rates[first].item(), abs=0.01)
    rates, expected_rates = (
        torch.stack(list(o.rates.values())).mean().item() for o in (output, expected)
    )
    assert rates == pytest.approx(expected_rates, abs=0.03)
    (output.logits_TBC.float().sum() + output.membrane_TBN.square().sum()).backward()
    for key, parameter in model.named_parameters():
        assert parameter.dtype == torch.float32
        assert parameter.grad is None or parameter.grad.isfinite().all(), key
    assert all(b.dtype in (torch.float32, torch.int64) for b in model.buffers())
    assert all(b.isfinite().all() for b in model.buffers())


def test_the_settings_reach_the_neurons():
    config = StudentConfig(width=1 / 16, tau=3.0, threshold=0.7, surrogate="atan", alpha=1.5)
    model = build_student(config, 5, (8, 8))
    for layer in model.backbone.layers:
        assert (layer.neuron.tau, layer.neuron.threshold) == (3.0, 0.7)
        # alpha / 2 at the threshold
        assert layer.neuron.surrogate(torch.zeros(1)).item() == pytest.approx(0.75)


@STUDENTS
def test_features_are_what_the_heads_read(name):
    network = student(name, two_heads=True)
    for stream, head in (("dvs", network.head_dvs), ("hybrid", network.head_hybrid)):
        output = network(frames(), stream)
        torch.testing.assert_close(output.logits_TBC, head(output.features_TBF))
        assert output.features_TBF.shape[-1] == head.in_features
