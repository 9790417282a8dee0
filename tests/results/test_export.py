"""Exported files against the students they were made of, and what is refused."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import nir
import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import yaml
from torch import nn

from factories import refused, tiny_recipe
from spikebridge.cli import main
from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.results.energy import energy_of_run
from spikebridge.results.export import (
    FORMATS,
    difference,
    export_run,
    folded_graph,
    student_outputs,
)
from spikebridge.results.export import run as exporting
from spikebridge.results.export.card import model_card
from spikebridge.results.export.graph import Convolution, Spikes
from spikebridge.results.export.outputs import Difference, Outputs
from spikebridge.results.export.to_pt2 import FoldedStudent
from spikebridge.results.trained import load_run

STEPS = 3
# Odd sizes, where pools and strides leave out the last row and column.
KINDS = pytest.mark.parametrize(
    ("name", "size"), [("vgg-snn", (13, 10)), ("resnet18-snn", (9, 16))]
)


def student(name="vgg-snn", size=(8, 8), **settings):
    """A student that fires in every layer, with statistics that folding must respect."""
    torch.manual_seed(1)
    config = StudentConfig(name=name, width=1 / 8, neuron_backend="eager", **settings)
    network = build_student(config, 5, size).eval()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.5)
            nn.init.uniform_(module.bias, 0.1, 0.7)
            nn.init.uniform_(module.running_mean, -0.2, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 1.5)
    return network


def case(*args, **settings):
    """A student, its graph, some input, and what the student makes of it."""
    network = student(*args, **settings)
    size = args[1] if len(args) > 1 else (8, 8)
    x_BTCHW = torch.rand(4, STEPS, 2, *size, generator=torch.Generator().manual_seed(0)) * 2
    graph = folded_graph(network, size, STEPS)
    return network, graph, x_BTCHW, student_outputs(network, graph, x_BTCHW)


def same(found, expected):
    """Whether all spikes are equal, and logits within rounding."""
    apart = difference(expected, found)
    assert apart.spikes == apart.predictions == 0
    assert apart.logits < 1e-5 * apart.logit_range
    assert apart.tolerable


@KINDS
def test_what_is_compared_is_what_the_student_fires(name, size):
    network, graph, x_BTCHW, expected = case(name, size)
    with torch.no_grad():
        output = network(x_BTCHW.transpose(0, 1))
    torch.testing.assert_close(expected.logits_TBC, output.logits_TBC)
    assert list(expected.spikes) == list(output.rates)
    for layer, rate in output.rates.items():
        assert float(expected.spikes[layer].mean()) == pytest.approx(float(rate), rel=1e-5)
        assert 0 < float(rate) < 1
    assert expected.spikes[graph.neurons[-1]].shape[2:] == graph.shape_of(graph.neurons[-1])


@KINDS
@pytest.mark.parametrize("neuron", ["lif", "relu"])
def test_folded_network_is_the_student(name, size, neuron):
    _, graph, x_BTCHW, expected = case(name, size, neuron=neuron)
    with torch.no_grad():
        logits_BC, step_logits_BTC = FoldedStudent(graph)(x_BTCHW)
    torch.testing.assert_close(step_logits_BTC.transpose(0, 1), expected.logits_TBC)
    torch.testing.assert_close(logits_BC, expected.logits_TBC.mean(0))


@KINDS
@pytest.mark.parametrize("to", ["nir", "onnx"])
def test_file_gives_the_students_spikes_and_logits(name, size, to, tmp_path):
    _, graph, x_BTCHW, expected = case(name, size, tau=1.7)
    FORMATS[to].write(graph, tmp_path / "file", {"classes": '["ä"]'})
    same(FORMATS[to].run(tmp_path / "file", graph, x_BTCHW), expected)


@pytest.mark.parametrize("neuron", ["lif", "relu"])
def test_torch_export_gives_the_students_spikes_and_logits(neuron, tmp_path):
    _, graph, x_BTCHW, expected = case(neuron=neuron)
    FORMATS["pt2"].write(graph, tmp_path / "file", {"classes": '["ä"]'})
    same(FORMATS["pt2"].run(tmp_path / "file", graph, x_BTCHW), expected)
    extra = {"classes": ""}
    with (tmp_path / "file").open("rb") as stream:
        program = torch.export.load(stream, extra_files=extra).module()
    assert extra == {"classes": '["ä"]'}
    with torch.no_grad():
        logits_BC, _ = program(x_BTCHW[:1])
    torch.testing.assert_close(logits_BC, expected.logits_TBC[:, :1].mean(0))


def test_relu_students_go_to_onnx(tmp_path):
    _, graph, x_BTCHW, expected = case("resnet18-snn", neuron="relu")
    FORMATS["onnx"].write(graph, tmp_path / "file", {})
    same(FORMATS["onnx"].run(tmp_path / "file", graph, x_BTCHW), expected)


def test_onnx_file_is_plain_and_takes_any_batch(tmp_path):
    _, graph, x_BTCHW, expected = case()
    FORMATS["onnx"].write(graph, tmp_path / "file", {"classes": '["ä"]'})
    model = onnx.load(tmp_path / "file")
    assert {entry.key: entry.value for entry in model.metadata_props} == {"classes": '["ä"]'}
    operators = {node.op_type for node in model.graph.node}
    assert not operators & {"BatchNormalization", "Loop", "Scan", "If"}
    assert {node.domain for node in model.graph.node} == {""}
    session = onnxruntime.InferenceSession(tmp_path / "file")
    for batch in (1, 3):
        logits_BC, step_logits_BTC = session.run(None, {"frames": x_BTCHW[:batch].numpy()})
        np.testing.assert_allclose(logits_BC, step_logits_BTC.mean(1), atol=1e-6)
        np.testing.assert_allclose(
            step_logits_BTC, expected.logits_TBC[:, :batch].transpose(0, 1), atol=1e-5
        )


def test_nir_file_holds_the_neurons_equation_and_no_batch_norm(tmp_path):
    network, graph, _, _ = case("resnet18-snn", tau=2.5, threshold=0.75)
    FORMATS["nir"].write(graph, tmp_path / "file", {"classes": '["ä"]'})
    read = nir.read(tmp_path / "file")
    assert read.metadata == {"classes": '["ä"]'}
    lif = read.nodes["block3b"]
    for values, value in ((lif.tau, 2.5e-4), (lif.r, 1), (lif.v_threshold, 0.75), (lif.v_reset, 0)):
        np.testing.assert_allclose(values, np.full((16, 4, 4), value))
    into = {source for source, target in read.edges if target == "block3b"}
    assert into == {"block3b_conv", "block3b_shortcut"}
    assert {s for s, target in read.edges if target == "block2b"} == {"block2b_conv", "block1b"}
    convolution, norm = network.backbone.stem.synapse.layers
    scale_O = norm.weight / (norm.running_var + norm.eps).sqrt()
    bias_O = norm.bias - norm.running_mean * scale_O
    np.testing.assert_allclose(
        read.nodes["stem_conv"].weight,
        (convolution.weight * scale_O[:, None, None, None]).detach(),
        rtol=1e-5,
    )
    np.testing.assert_allclose(read.nodes["stem_conv"].bias, bias_O.detach(), rtol=1e-4, atol=1e-6)


def test_differences_are_counted():
    spikes = {"layer1": torch.zeros(2, 3, 4, 5, 5), "layer2": torch.ones(2, 3, 4, 1, 1)}
    logits_TBC = torch.tensor([[[0.0, 1.0], [4.0, 2.0], [0.0, 3.0]]] * 2)
    one = Outputs(logits_TBC, spikes)
    other = {name: x.clone() for name, x in spikes.items()}
    other["layer1"][0, 0, 0, 0, :2] = 1
    other["layer2"][1, 2, 3] = 0
    moved_TBC = logits_TBC.clone()
    moved_TBC[1, 0, 0] += 3
    found = difference(one, Outputs(moved_TBC, other))
    assert (found.recordings, found.spikes, found.of, found.predictions) == (3, 3, 624, 1)
    assert found.equal == 1
    assert (found.logits, found.logit_range) == (1.5, 4.0)
    assert not found.tolerable
    close = difference(one, Outputs(logits_TBC + 0.03, spikes))
    assert close.tolerable
    assert not replace(close, spikes=1).tolerable
    assert not replace(close, predictions=1).tolerable
    assert not replace(close, logits=0.25).tolerable
    assert not difference(one, Outputs(logits_TBC * float("nan"), spikes)).tolerable
    nothing = {name: x * float("nan") for name, x in spikes.items()}
    assert difference(one, Outputs(logits_TBC, nothing)).spikes == 624
    assert found.silent == ("layer1",)
    assert "never a spike in layer1" in str(found)
    with pytest.raises(ValueError, match="layers"):
        difference(one, Outputs(logits_TBC, {"layer1": spikes["layer1"]}))


@pytest.fixture(scope="module")
def recipe(tmp_path_factory) -> str:
    root = tmp_path_factory.mktemp("export")
    settings = tiny_recipe(root, student={"threshold": 0.01})  # All layers spike.
    (root / "recipe.yaml").write_text(yaml.safe_dump(settings))
    return str(root / "recipe.yaml")


@pytest.fixture(scope="module")
def run(recipe, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "scratch-seed0"
    assert main(["train", recipe, "--method", "scratch", "--out", str(folder)]) == 0
    return folder


@pytest.mark.parametrize("to", ["nir", "onnx", "pt2"])
def test_command_writes_file_and_card(run, to, tmp_path, capsys):
    file = tmp_path / f"student.{to}"
    assert main(["export", str(run), "--to", to, "--out", str(file), "--check", "3"]) == 0
    printed = capsys.readouterr().out
    assert f"{file}.md" in printed
    assert "student on 3 recordings: logits differ by at most" in printed
    assert "0 predictions differ" in printed
    assert sorted(path.name for path in tmp_path.iterdir()) == [file.name, f"{file.name}.md"]
    card = (tmp_path / f"{file.name}.md").read_text()
    result = json.loads((run / "result.json").read_text())
    for words in (
        f"Test top-1: **{result['test_top1']:.2f} %**",
        "Protocol: few-shot",
        "recordings are simulated from photos",
        "12 trained, 12 selected the epoch, 12 tested",
        f"epoch {result['best_epoch']} of 2, counted from 0",
        "| this network |",
        "3 recordings: logits differ",
        "cut into 2 bins of equal duration",
        "stretched to 8×8",
        "95th percentile",
        "across, down, slope",
        "## Licence",
        FORMATS[to].runtime,
    ):
        assert words in card
    code = card.split("```python\n")[1].split("```")[0]
    scope = {}
    exec(code.replace(f'"{file.name}"', f'"{file}"'), scope)  # As a reader would run it.
    assert tuple(scope["logits"].shape) == (1, 3)


def test_a_card_lists_no_teacher_that_the_method_never_had(run, recipe, tmp_path):
    assert main(["teacher", recipe, "--out", str(run.parent / "teacher-seed0")]) == 0
    card = export_run(run, "onnx", tmp_path / "student.onnx").card.read_text()
    assert "teacher" not in card
    assert "| ANN of the same shape, one pass per step |" in card


def test_a_card_names_as_code_only_what_may_be_code(run):
    trained = load_run(run)
    teacher = replace(trained.config.teacher, weights="photos:resnet.pth")
    objective = replace(trained.config.objective, kd_loss="own.losses:pull@0123456789ab")
    trained = replace(trained, config=replace(trained.config, teacher=teacher, objective=objective))
    none = Difference(8, 0.0, 1.0, 0, 1, 0, 8)
    energy = energy_of_run(run, limit=1)
    card = model_card(run, trained, FORMATS["onnx"], Path("a.onnx"), 1, none, energy)
    lines = [line for line in card.splitlines() if "author's own" in line]
    assert lines == [
        "- With code of its author's own: objective.kd_loss own.losses:pull@0123456789ab (import "
        "path, source hash)"
    ]


def test_epochs_are_counted_from_0_as_in_the_result(run, recipe, capsys):
    assert main(["train", recipe, "--method", "scratch", "--out", str(run)]) == 0
    result = json.loads((run / "result.json").read_text())
    log = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    evaluated = [one for one in log if one["kind"] == "eval"]
    best = max(evaluated, key=lambda one: (one["top1"], -one["loss"], -one["epoch"]))
    assert result["best_epoch"] == best["epoch"]
    assert f", epoch {best['epoch']}, " in capsys.readouterr().out


def test_file_lies_in_the_run_by_default_and_says_how_to_prepare_frames(run):
    exported = export_run(run, "onnx")
    assert exported.file == run / "student.onnx"
    assert exported.difference.recordings == 8
    assert exported.difference.silent == ()
    kept = {entry.key: json.loads(entry.value) for entry in onnx.load(exported.file).metadata_props}
    assert kept["classes"] == ["across", "down", "slope"]
    assert kept["preprocessing"]["size"] == [8, 8]
    assert kept["preprocessing"]["channels"] == ["OFF", "ON"]


def changed(graph, wrong):
    """A graph with one operation exchanged by ``wrong``, where that does not return None."""
    nodes = [replace(node, operation=wrong(node) or node.operation) for node in graph.nodes]
    return replace(graph, nodes=tuple(nodes))


def negated(node):
    if node.name == "head":
        return replace(node.operation, weight_CF=-node.operation.weight_CF - 1)
    return None


def unfolded(node):
    if isinstance(node.operation, Convolution):
        return replace(node.operation, bias_O=node.operation.bias_O + 5)
    return None


def leakless(node):
    return replace(node.operation, tau=8.0) if isinstance(node.operation, Spikes) else None


@pytest.mark.parametrize("wrong", [negated, unfolded, leakless])
@pytest.mark.parametrize("to", ["nir", "onnx"])
def test_file_that_differs_is_not_kept(run, wrong, to, tmp_path, monkeypatch, capsys):
    file = tmp_path / "student"
    file.write_text("an earlier one")
    fold = exporting.folded_graph
    monkeypatch.setattr(exporting, "folded_graph", lambda *args: changed(fold(*args), wrong))
    assert main(["export", str(run), "--to", to, "--out", str(file)]) == 2
    message = capsys.readouterr().err
    assert f"{file}: not written: {FORMATS[to].runtime} gives something else" in message
    assert file.read_text() == "an earlier one"
    assert list(tmp_path.iterdir()) == [file]


@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
def test_a_hundredth_more_threshold_is_seen(name, tmp_path):
    _, graph, x_BTCHW, expected = case(name, (16, 16))

    def higher(node):
        if isinstance(node.operation, Spikes):
            return replace(node.operation, threshold=1.01 * node.operation.threshold)
        return None

    FORMATS["onnx"].write(changed(graph, higher), tmp_path / "file", {})
    found = difference(expected, FORMATS["onnx"].run(tmp_path / "file", graph, x_BTCHW))
    assert not found.tolerable
    assert found.spikes > 0.002 * found.of
    assert found.equal == 0


@pytest.mark.parametrize("to", ["nir", "onnx", "pt2"])
def test_file_that_cannot_be_run_is_not_kept(run, to, tmp_path, monkeypatch):
    monkeypatch.setattr(
        type(FORMATS[to]), "write", lambda self, graph, path, about: path.write_bytes(b"broken")
    )
    file = tmp_path / "student"
    refused(lambda: export_run(run, to, file), file, "not written", FORMATS[to].runtime)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (["--student.neuron", "relu"], "NIR has no ReLU"),
        (["--student.tau", "1"], "SpikingJelly, which checks the file"),
    ],
)
def test_what_nir_cannot_hold_is_said_before_training(recipe, tmp_path, settings, words, capsys):
    folder = tmp_path / "run"
    train = ["train", recipe, "--method", "scratch", "--out", str(folder), *settings]
    assert main(train) == 0
    message = capsys.readouterr().err
    assert f"warning: this student will not export to NIR: {words}" in " ".join(message.split())
    assert main(["export", str(folder), "--to", "nir"]) == 2
    assert words in capsys.readouterr().err
    assert main(["export", str(folder), "--to", "onnx"]) == 0
    assert main(train) == 0
    assert "warning" not in capsys.readouterr().err


def test_students_that_export_are_trained_without_a_warning(recipe, tmp_path, capsys):
    assert main(["train", recipe, "--method", "scratch", "--out", str(tmp_path / "run")]) == 0
    assert "warning" not in capsys.readouterr().err


def test_bad_input_is_one_line(run, tmp_path, monkeypatch, capsys):
    refused(lambda: export_run(tmp_path, "onnx"), tmp_path)
    refused(lambda: export_run(run, "onnx", check=0), "--check")
    assert main(["export", str(run)]) == 2
    assert main(["export", str(run), "--to", "caffe"]) == 2
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    refused(lambda: export_run(run, "onnx"), "onnxruntime", "pip install 'spikebridge[export]'")


def test_teachers_are_refused(recipe, tmp_path):
    assert main(["teacher", recipe, "--out", str(tmp_path / "teacher")]) == 0
    refused(lambda: export_run(tmp_path / "teacher", "onnx"), "holds a teacher")
