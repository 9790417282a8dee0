"""Operations against all-ones convolutions, SpikingJelly's counters and figures by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from torch import nn
from torch.nn import functional as F

from factories import refused, tiny_recipe
from spikebridge.cli import main
from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.models.student import Student
from spikebridge.results.energy import Operations, count_macs, count_operations, energy_of_run
from spikebridge.results.energy.connections import connections_1d, conv_connections
from spikebridge.results.energy.operations import joined

NAMES = pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
# Odd sizes, where pools leave out the last row and column.
SIZES = pytest.mark.parametrize("size", [(8, 8), (13, 10)])


def student(name="vgg-snn", size=(8, 8), **settings) -> Student:
    """A student that fires in every layer."""
    torch.manual_seed(0)
    config = StudentConfig(name=name, width=1 / 16, neuron_backend="eager", **settings)
    built = build_student(config, 5, size)
    for module in built.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.5)
            nn.init.uniform_(module.bias, 0.2, 0.9)
    return built.eval()


def frames(size=(8, 8), steps=3, batch=2, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.rand(steps, batch, 2, *size, generator=random) * 3


def layers(operations: Operations):
    return {layer.name: layer for layer in operations.layers}


def inputs_of(network: Student, x_TBCHW: torch.Tensor):
    """What every convolution and linear layer reads, with the layer."""
    found = []
    hooks = [
        module.register_forward_pre_hook(lambda module, inputs: found.append((module, inputs[0])))
        for module in network.modules()
        if isinstance(module, nn.Conv2d | nn.Linear)
    ]
    with torch.no_grad():
        network(x_TBCHW)
    for hook in hooks:
        hook.remove()
    return found


def of_ones(module, x):
    """Sum of a layer's outputs where every weight is 1."""
    x = x.double()
    if isinstance(module, nn.Linear):
        return float(x.sum()) * module.out_features
    ones = torch.ones_like(module.weight, dtype=torch.float64)
    return float(F.conv2d(x, ones, None, module.stride, module.padding, module.dilation).sum())


@SIZES
def test_vgg_operations_are_the_sum_of_all_ones_convolutions(size):
    network, x_TBCHW = student(size=size), frames(size)
    counted = count_operations(network, x_TBCHW).layers
    assert [layer.name for layer in counted] == [*(f"layer{i}" for i in range(1, 9)), "head"]
    for layer, (module, x) in list(zip(counted, inputs_of(network, x_TBCHW), strict=True))[1:]:
        # A pool of 2 gives quarters of spikes.
        unit = 4 if layer.pooled else 1
        assert layer.sops_NT.sum() == pytest.approx(unit * of_ones(module, x))
        assert layer.sops_NT.sum() > 0


@SIZES
def test_resnet_operations_are_the_sum_of_all_ones_convolutions(size):
    network, x_TBCHW = student("resnet18-snn", size), frames(size)
    counted = layers(count_operations(network, x_TBCHW))
    read = {id(module): (module, x) for module, x in inputs_of(network, x_TBCHW)}
    for index, block in enumerate(network.backbone.blocks):
        name = f"block{index + 1}"
        for part, conv in (("a", block.first.synapse.layers[0]), ("b", block.second.layers[0])):
            assert counted[name + part].sops_NT.sum() == of_ones(*read[id(conv)])
        shortcut = counted[f"{name}-shortcut"]
        if isinstance(block.shortcut, nn.Identity):
            assert shortcut.sops_NT.sum() == counted[f"{name}a"].spikes_NT.sum()
        else:
            assert shortcut.sops_NT.sum() == of_ones(*read[id(block.shortcut.layers[0])])
    head, mean = read[id(network.head_dvs)]
    last = network.backbone.blocks[-1].second.layers[0]
    pixels = read[id(last)][1].shape[-2:].numel()
    assert counted["head"].sops_NT.sum() == pytest.approx(pixels * of_ones(head, mean), rel=1e-5)


@NAMES
def test_spikes_are_those_of_the_students_rates(name):
    network, x_TBCHW = student(name, (16, 16)), frames((16, 16))
    with torch.no_grad():
        rates = network(x_TBCHW).rates
    counted = count_operations(network, x_TBCHW).layers
    for maker, layer in zip(counted, counted[1:], strict=False):
        # In ResNet only the second convolution of a block reads what the one before it fires.
        if name == "vgg-snn" or layer.name.endswith("b"):
            emitted = float(rates[maker.name]) * maker.neurons * layer.spikes_NT.size
            assert layer.spikes_NT.sum() == pytest.approx(emitted, rel=1e-5)


@NAMES
def test_spikingjelly_counts_the_same_where_its_convention_is_the_same(name):
    """It takes what a pool gives, not binary, for dense MACs, and counts the padding of MACs."""
    from spikingjelly.activation_based.op_counter import (
        DispatchCounterMode,
        MACCounter,
        SynOpCounter,
    )

    network, x_TBCHW = student(name, (16, 16)), frames((16, 16))
    synops, macs = SynOpCounter(), MACCounter(extra_ignore_modules=[nn.BatchNorm2d])
    with torch.no_grad(), DispatchCounterMode([synops, macs]):
        network(x_TBCHW)
    counted = [x for x in count_operations(network, x_TBCHW).layers if not x.identity]
    same = [x for x in counted if x.spiking and not x.pooled]
    assert len(same) == (4 if name == "vgg-snn" else 19)
    assert sum(x.sops_NT.sum() for x in same) == synops.get_total() > 0
    as_macs = [x for x in counted if not x.spiking or x.pooled]
    read = inputs_of(network, x_TBCHW)
    padded = sum(
        of_ones(module, torch.ones_like(x))
        if isinstance(module, nn.Linear)
        else x.shape[0] * 9 * module.in_channels * module.out_channels * x.shape[-2:].numel()
        for module, x in read
        if not bool(((x == 0) | (x == 1)).all())
    )
    assert macs.get_total() == padded
    assert 6 * sum(x.dense for x in as_macs) <= padded


def one_spike(row: int, column: int, size=(4, 4)) -> tuple[Student, torch.Tensor]:
    """A VGG-SNN of two layers that copy, and one bright pixel in the second of three frames."""
    network = build_student(StudentConfig(width=1 / 16), 5, size).eval()
    for index, layer in enumerate(network.backbone.layers):
        conv = layer.synapse.layers[0]
        nn.init.zeros_(conv.weight)
        if index < 2:
            conv.weight.data[0, 0, 1, 1] = 10
    x_TBCHW = torch.zeros(3, 1, 2, *size)
    x_TBCHW[1, 0, 0, row, column] = 1
    return network, x_TBCHW


@pytest.mark.parametrize(("row", "column", "reached"), [(0, 0, 4), (0, 1, 6), (2, 1, 9)])
def test_one_spike_by_hand(row, column, reached):
    """Widths 4, 8 and 16: layer 2 reads 4×4 pixels, layer 3 the 2×2 cells of a pool."""
    counted = layers(count_operations(*one_spike(row, column)))
    assert counted["layer2"].spikes_NT.tolist() == [[0, 1, 0]]
    assert counted["layer2"].sops_NT.tolist() == [[0, 8 * reached, 0]]
    assert counted["layer3"].spikes_NT.tolist() == [[0, 1, 0]]
    assert counted["layer3"].sops_NT.tolist() == [[0, 16 * 4, 0]]
    assert counted["layer4"].sops_NT.tolist() == [[0, 0, 0]]
    # Layer 1: 2 channels into 4; along an axis the 4 pixels reach 2, 3, 3 and 2 outputs.
    assert counted["layer1"].macs == counted["layer1"].dense == 2 * 4 * 10 * 10
    assert counted["layer1"].sops_NT.tolist() == [[0, 0, 0]]
    assert counted["layer1"].neurons == 4 * 16
    assert counted["layer3"].dense == 8 * 16 * 4 * 4


def test_energy_by_hand():
    operations = count_operations(*one_spike(2, 1))
    layer1 = 800 * 4.6
    np.testing.assert_allclose(
        operations.pj_NT, [[layer1, layer1 + (8 * 9 + 16 * 4) * 0.9, layer1]]
    )
    # Behind the pools: layers 3 and 5; one cell is left for layers 5 to 8.
    behind = (layers(operations)["layer3"].dense + 16 * 32) * 4.6
    assert operations.pools_as_macs.pj_NT[0, 0] == pytest.approx(layer1 + behind)
    connections = 800 + 4 * 8 * 100 + (8 * 16 + 16 * 16) * 16 + 16 * 32 + 3 * 32 * 32 + 32 * 5
    assert operations.dense_pj == pytest.approx(4.6 * connections)
    assert operations.updates == (4 + 8) * 16 + (16 + 16) * 4 + 4 * 32


def test_spikes_that_a_pool_leaves_out_cost_nothing():
    """Of five rows and columns the pool leaves out the last."""
    counted = layers(count_operations(*one_spike(4, 1, size=(5, 5))))
    assert counted["layer3"].spikes_NT.tolist() == [[0, 1, 0]]
    assert counted["layer3"].sops_NT.tolist() == [[0, 0, 0]]


def test_a_relu_student_costs_what_its_ann_does():
    operations = count_operations(student(neuron="relu"), frames(steps=3))
    np.testing.assert_allclose(operations.pj_NT, operations.dense_pj)
    assert all(layer.macs == layer.dense for layer in operations.layers)


@NAMES
def test_counts_do_not_depend_on_the_batch_and_leave_the_student_as_it_was(name):
    network, x_TBCHW = student(name).train(), frames(batch=4)
    whole = count_operations(network, x_TBCHW)
    halves = joined([count_operations(network, x) for x in x_TBCHW.split([3, 1], dim=1)])
    for one, other in zip(whole.layers, halves.layers, strict=True):
        assert one.sops_NT.shape == (4, 3)
        np.testing.assert_array_equal(one.sops_NT, other.sops_NT)
        np.testing.assert_array_equal(one.spikes_NT, other.spikes_NT)
    assert network.training
    assert not any(module._forward_hooks for module in network.modules())


def test_graded_spikes_are_refused(monkeypatch):
    network = student()
    fire = network.backbone.layers[0].neuron.normalised
    monkeypatch.setattr(
        network.backbone.layers[0].neuron, "normalised", lambda *a, **b: 0.5 * fire(*a, **b)
    )
    with pytest.raises(ValueError, match="layer2"):
        count_operations(network, frames())


@NAMES
def test_dense_connections_are_the_macs_of_the_same_layers_run_as_an_ann(name):
    network, x_TBCHW = student(name, (13, 10)), frames((13, 10), steps=1, batch=1)
    dense = sum(x.dense for x in count_operations(network, x_TBCHW).layers if not x.identity)
    assert count_macs(network, x_TBCHW) == dense


@pytest.mark.parametrize(
    ("size", "count", "kernel", "stride", "before", "dilation", "reach"),
    [
        (4, 4, 3, 1, 1, 1, [2, 3, 3, 2]),
        (5, 3, 3, 2, 1, 1, [1, 2, 1, 2, 1]),
        (5, 2, 2, 2, 0, 1, [1, 1, 1, 1, 0]),
        (5, 1, 3, 1, 0, 2, [1, 0, 1, 0, 1]),
        (1, 1, 3, 1, 1, 1, [1]),
    ],
)
def test_connections_by_hand(size, count, kernel, stride, before, dilation, reach):
    found = connections_1d(size, count, kernel, stride, before=before, dilation=dilation)
    assert found.sum(0).tolist() == reach


@pytest.mark.parametrize("size", [5, 8, 9])
@pytest.mark.parametrize("stride", [1, 2])
def test_tensorflows_padding_is_seen(size, stride):
    from spikebridge.models._timm import import_timm

    import_timm()
    from timm.layers import Conv2dSame

    conv = Conv2dSame(1, 1, 3, stride=stride, bias=False)
    nn.init.ones_(conv.weight)
    x_BCHW = torch.zeros(1, 1, size, size, requires_grad=True)
    y_BCHW = conv(x_BCHW)
    y_BCHW.sum().backward()
    assert x_BCHW.grad is not None
    reach_H, reach_W = (
        conv_connections(conv, axis, size, y_BCHW.shape[-1]).sum(0) for axis in range(2)
    )
    np.testing.assert_array_equal(x_BCHW.grad[0, 0].numpy(), np.outer(reach_H, reach_W))


def test_macs_of_an_ann_are_the_sum_of_all_ones_layers():
    network = nn.Sequential(
        nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2),
        nn.ReLU(),
        nn.Conv2d(6, 3, (1, 3), dilation=(1, 2), bias=False),
        nn.Flatten(),
        nn.Linear(3 * 4 * 1, 7),
    )
    ones = nn.Conv2d(4, 6, 3, stride=2, padding=1, groups=2, bias=False)
    nn.init.ones_(ones.weight)
    first = int(ones(torch.ones(1, 4, 8, 10)).sum())
    assert count_macs(network, torch.rand(2, 4, 8, 10)) == first + 4 * 1 * 6 * 3 * 3 + 12 * 7


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("energy")
    settings = tiny_recipe(
        root,
        data={"size": [16, 16], "time_steps": 3},
        student={"neuron_backend": "eager"},
        teacher={"width": 0.1},
        train={"epochs": 1, "batches_per_epoch": 2, "batch_size": 4},
    )
    file = root / "recipe.yaml"
    file.write_text(yaml.safe_dump(settings))
    return str(file)


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "scratch-seed0"
    assert main(["train", recipe, "--method", "scratch", "--out", str(folder)]) == 0
    return folder


def test_command_prints_figures_and_assumptions(run, tmp_path, capsys):
    file = tmp_path / "energy.json"
    assert main(["energy", str(run), "--json", str(file)]) == 0
    page = capsys.readouterr().out
    report = json.loads(file.read_text())
    assert (report["recordings"], report["time_steps"], report["split"]) == (12, 3, "validation")
    assert f"{report['student']['nj']:,.1f}" in page
    assert f"{report['ann']['nj']:,.1f}" in page
    for words in ("layer8", "head", "t=2", "4.6 pJ per MAC", "not binary", "no teacher in"):
        assert words in page
    by_layer = [layer["nj"] for layer in report["student"]["layers"]]
    assert sum(by_layer) == pytest.approx(report["student"]["nj"])
    assert sum(report["student"]["nj_by_step"]) == pytest.approx(report["student"]["nj"])
    assert report["ann"]["nj"] == pytest.approx(3 * report["ann"]["nj_once_on_summed_frames"])
    assert main(["energy", str(run), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == report


def test_report_repeats_and_takes_some_recordings(run):
    whole, again = energy_of_run(run), energy_of_run(run)
    assert whole.as_json() == again.as_json()
    some = energy_of_run(run, limit=3)
    np.testing.assert_allclose(some.nj_N, whole.nj_N[[0, 6, 11]])
    assert energy_of_run(run, "test").recordings == 12


def test_teacher_beside_the_run_is_counted(run, recipe, tmp_path, capsys):
    folder = tmp_path / "teacher"
    assert main(["teacher", recipe, "--out", str(folder)]) == 0
    report = energy_of_run(run, limit=1, teacher_folder=folder)
    teacher = report.teacher
    assert teacher is not None
    assert report.teacher_missing is None
    assert (teacher.name, teacher.size) == ("small-cnn", (16, 16))
    # Widths 3, 6 and 13; 46 = 3·16 − 2 connections along an axis of 16 pixels, and so on.
    pairs = ((3 * 3 + 3 * 3), (3 * 6 + 6 * 6), (6 * 13 + 13 * 13))
    expected = sum(p * n * n for p, n in zip(pairs, (46, 22, 10), strict=True)) + 4 * 13 * 3
    assert teacher.macs == expected
    assert teacher.nj == pytest.approx(expected * 4.6e-3)
    capsys.readouterr()
    assert main(["energy", str(folder)]) == 2
    assert "holds a teacher" in capsys.readouterr().err
    assert "holds a student" in str(energy_of_run(run, limit=1, teacher_folder=run).teacher_missing)


@pytest.mark.parametrize(
    ("settings", "said", "unsaid"),
    [
        (["--student.neuron", "relu"], "This student is of ReLU", "spike costs"),
        (["--student.name", "resnet18-snn"], "shortcut without weights", "of ReLU"),
    ],
)
def test_assumptions_are_those_of_the_student(recipe, tmp_path, settings, said, unsaid, capsys):
    folder = tmp_path / "other"
    assert main(["train", recipe, "--method", "scratch", "--out", str(folder), *settings]) == 0
    capsys.readouterr()
    assert main(["energy", str(folder), "--limit", "2"]) == 0
    page = " ".join(capsys.readouterr().out.split())
    assert said in page
    assert unsaid not in page


def test_bad_input_is_one_line(run, tmp_path):
    refused(lambda: energy_of_run(tmp_path), tmp_path)
    refused(lambda: energy_of_run(run, limit=0), "limit")
