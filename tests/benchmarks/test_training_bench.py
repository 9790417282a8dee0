"""`bench training` and `bench inference`: all rows compute the same, and the figures are right."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import inference, measure, relu_bound, training
from benchmarks import run as whole_runs
from benchmarks.__main__ import main
from benchmarks.measure import Measurement, Timing
from benchmarks.problem import PROGRESS, BenchSettings, random_batch
from benchmarks.reference import (
    PlainStudent,
    ReferenceParts,
    StepByStepLIF,
    plain_losses,
)
from benchmarks.relu_bound import ReLUNetwork
from factories import refused
from spikebridge.ckd.losses import TemporalCoefficient
from spikebridge.ckd.objective import CKDObjective
from spikebridge.models.build import build_student
from spikebridge.models.neurons import LIF, native, surrogate

STUDENTS = pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
STREAMS = pytest.mark.parametrize("stream", ["dvs", "hybrid"])
TINY = BenchSettings(
    width=1 / 16, size=8, time_steps=3, batch=5, classes=4, precision="float32", device="cpu"
)


def settings_of(name):
    return replace(TINY, student=name)


def generator():
    return torch.Generator().manual_seed(0)


def twins(name, parts=None):
    """A student, and the same network from parts, every layer of which fires."""
    settings = settings_of(name)
    size = settings.config.data.size
    torch.manual_seed(0)
    plain = PlainStudent(parts or ReferenceParts(), settings.config.student, 4, size)
    for module in plain.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.8, 1.5)
            nn.init.uniform_(module.bias, -0.1, 0.4)
    ours = build_student(settings.config.student, 4, size)
    ours.load_state_dict(plain.state_dict())
    return ours, plain


def largest_error(found, expected):
    """Of each tensor, as a share of its largest value."""
    assert found.keys() == expected.keys()
    sizes = {name: tensor.abs().max().item() for name, tensor in expected.items()}
    assert min(sizes.values()) > 0
    return max(
        (found[name] - tensor).abs().max().item() / sizes[name] for name, tensor in expected.items()
    )


def gradients(*modules):
    return {
        f"{index}.{name}": parameter.grad
        for index, module in enumerate(modules)
        for name, parameter in module.named_parameters()
    }


@STUDENTS
@pytest.mark.parametrize(
    ("kind", "loss_error", "gradient_error"),
    [(torch.float64, 1e-10, 1e-9), (torch.float32, 1e-5, 1e-3)],
)
def test_losses_and_gradients_of_the_reference_are_ours(name, kind, loss_error, gradient_error):
    settings = settings_of(name)
    ours, plain = (model.to(kind) for model in twins(name))
    config = settings.config.objective
    objective = CKDObjective(config, settings.time_steps, 0.5).to(kind)
    coefficient = TemporalCoefficient(settings.time_steps).to(kind)
    batch = random_batch(settings)
    batch = replace(batch, dvs_TBCHW=batch.dvs_TBCHW.to(kind), photo_B3HW=batch.photo_B3HW.to(kind))
    teacher_BC = torch.randn(5, 4, generator=generator(), dtype=kind)
    expected = plain_losses(plain, coefficient, config, batch, teacher_BC, PROGRESS, generator())
    found = objective(ours, lambda _: teacher_BC, batch, PROGRESS, generator())
    assert 0 < found.logged["replaced"] < 1
    assert found.losses.keys() == {"hybrid", "kd", "alignment", "dvs"}
    assert largest_error(found.losses, expected) < loss_error
    found.total.backward()
    torch.stack(list(expected.values())).sum().backward()
    error = largest_error(gradients(ours, objective.coefficient), gradients(plain, coefficient))
    assert error < gradient_error
    buffers = [{k: v for k, v in m.named_buffers() if "running" in k} for m in (ours, plain)]
    assert largest_error(*buffers) < loss_error


@pytest.mark.parametrize(("kind", "error"), [(torch.float64, 1e-12), (torch.float32, 1e-5)])
def test_the_loop_over_time_is_our_neuron(kind, error):
    current_TN = 2 * torch.randn(7, 30, generator=generator(), dtype=kind)
    upstream = torch.randn(2, 7, 30, generator=generator(), dtype=kind)
    results = []
    for act in (
        lambda x: LIF(2.0, 0.5, surrogate("qgate"))(x, membrane=True),
        StepByStepLIF(last=True),
    ):
        leaf = current_TN.clone().requires_grad_()
        spikes_TN, membrane_TN = act(leaf)
        ((spikes_TN * upstream[0]).sum() + (membrane_TN * upstream[1]).sum()).backward()
        results.append((spikes_TN, {"membrane": membrane_TN, "gradient": leaf.grad}))
    (spikes, found), (expected_spikes, expected) = results
    assert torch.equal(spikes, expected_spikes)
    assert 0.1 < spikes.mean() < 0.6
    assert largest_error(found, expected) < error


@STUDENTS
@STREAMS
def test_spikingjelly_computes_our_network(name, stream):
    pytest.importorskip("spikingjelly")
    from benchmarks.jelly import JellyParts

    ours, jelly = twins(name, JellyParts())
    x_TBCHW = random_batch(TINY).dvs_TBCHW
    for _ in range(2):  # The second call starts from rest as well.
        found, expected = jelly(x_TBCHW, stream), ours(x_TBCHW, stream)
    rates = {key: rate.item() for key, rate in expected.rates.items()}
    assert {key: rate.item() for key, rate in found.rates.items()} == pytest.approx(rates, abs=1e-7)
    assert 0.02 < min(rates.values()) < max(rates.values()) < 0.9
    torch.testing.assert_close(found.logits_TBC, expected.logits_TBC, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.membrane_TBN, expected.membrane_TBN, rtol=1e-5, atol=1e-5)


@STUDENTS
@pytest.mark.parametrize("row", ["spikingjelly", "ours"])
def test_the_timed_steps_have_one_loss_and_one_gradient(name, row):
    if row == "spikingjelly":
        pytest.importorskip("spikingjelly")
    found, expected = (
        training.starter(which, settings_of(name))()[0] for which in (row, "reference")
    )
    assert found.loss(generator()).item() == pytest.approx(
        expected.loss(generator()).item(), rel=1e-5
    )
    before = expected.modules[0].head_dvs.weight.clone()
    for step in (found, expected):
        step(0)
    modules = [found.modules[0], getattr(found.modules[1], "coefficient", found.modules[1])]
    assert largest_error(gradients(*modules), gradients(*expected.modules)) < 1e-3
    assert 0 < (expected.modules[0].head_dvs.weight - before).abs().max() < 1e-3


def test_settings_of_ours_reach_its_student():
    settings = replace(TINY, neuron_backend="eager", memory="low")
    student = training.starter("ours", settings)()[0].modules[0]
    assert student.backbone.low_memory
    assert student.backbone.layers[0].neuron.backend == "eager"


@STUDENTS
def test_the_dense_bound_has_our_convolutions_and_learns(name, monkeypatch):
    monkeypatch.setattr(relu_bound, "why_not_compiled", lambda device: "no compiler")
    settings = settings_of(name)
    config, batch = settings.config, random_batch(settings)
    network = ReLUNetwork(config.student, 4, config.data.size)
    counts = []
    for act in (
        lambda: [network(batch.dvs_TBCHW, stream) for stream in ("hybrid", "dvs")],
        lambda: [twins(name)[0](batch.dvs_TBCHW, stream) for stream in ("hybrid", "dvs")],
    ):
        with FlopCounterMode(display=False) as counter:
            outputs = act()
        counts.append(counter.get_total_flops())
    assert counts[0] == counts[1] > 0
    assert outputs[0].logits_TBC.shape == network(batch.dvs_TBCHW, "dvs").shape
    step, note = training.starter("relu-bound", settings)()
    assert note == "eager, no compiler"
    losses = [step.loss(generator()).item()]
    for index in range(3):
        step(index)
        losses.append(step.loss(generator()).item())
    assert losses == sorted(losses, reverse=True)


@pytest.mark.parametrize(("eager", "compiled"), [(5.0, 9.0), (9.0, 5.0)])
def test_the_dense_bound_is_compiled_where_that_is_faster(monkeypatch, eager, compiled):
    monkeypatch.setattr(torch, "compile", lambda function, **options: function)
    monkeypatch.setattr(relu_bound, "why_not_compiled", lambda device: None)
    monkeypatch.setattr(
        relu_bound,
        "_quickest",
        lambda step, device: compiled if step.modules[0].compiled else eager,
    )
    step, note = training.starter("relu-bound", TINY)()
    assert step.modules[0].compiled == (compiled < eager)
    assert note.startswith("torch.compile: " if compiled < eager else "eager: ")
    step(0)


def test_all_rows_classify_alike():
    rows = [
        row for row in inference.ROWS if row in measure.choose(inference.ROWS, inference.ROWS)[0]
    ]
    settings = replace(TINY, batch=1)
    calls = [inference.starter(row, settings)()[0] for row in rows]
    for index in (0, 1):
        expected, *others = [call(index) for call in calls]
        assert expected.shape == (1, 4)
        assert not expected.requires_grad
        for logits_BC in others:
            torch.testing.assert_close(logits_BC, expected, rtol=1e-4, atol=1e-5)
    assert not torch.equal(calls[0](0), calls[0](1))
    weights = inference.settled_weights(settings, random_batch(settings).dvs_TBCHW)
    student = build_student(settings.config.student, 4, (8, 8))
    student.load_state_dict(weights)
    rates = student.eval()(random_batch(settings).dvs_TBCHW).rates
    assert min(rate.item() for rate in rates.values()) > 0.02


# The measuring ------------------------------------------------------------------------------------


def test_cold_time_holds_the_building_and_the_peak_is_of_the_calls():
    """In a process of its own, whose allocator no other test has changed."""
    code = """
import json, time, torch
from benchmarks.worker import TimedRow
indices = []

def start():
    time.sleep(0.05)
    return act, "a note"

def act(index):
    indices.append(index)
    torch.ones(64 if index == 0 else 16, 2**20)

row = TimedRow(start, torch.device("cpu"))
print(json.dumps([row.ms_cold, row.note, len(row.turn(3)), indices, row.peak_mib()]))
"""
    root = Path(__file__).parents[2]
    output = subprocess.check_output([sys.executable, "-c", code], text=True, cwd=root)
    ms_cold, note, calls, indices, peak_mib = json.loads(output)
    assert ms_cold > 50
    assert note == "a note"
    assert calls == 3
    assert indices == list(range(6))
    assert 60 < peak_mib < 100


class FakeProcess:
    """Each call takes its row's factor times the number of calls so far, in all rows."""

    order = []
    factors = {"reference": 3.0, "ours": 1.0}

    def __init__(self, measurement, environment):
        self.note = "plain" if measurement.row == "reference" else ""
        self.row, self.ms_cold = measurement.row, 10.0 * measurement.settings.time_steps
        self.build_s = 1.5

    def turn(self, count):
        self.order.append(self.row)
        calls = len(self.order)
        return [self.factors[self.row] * (calls + index) for index in range(count)]

    def peak_mib(self):
        return 8.0 * self.factors[self.row]

    def close(self):
        self.order.append("end")


@pytest.fixture
def order(monkeypatch):
    """Rows in the order of their turns, where processes are fake."""
    monkeypatch.setattr(measure, "Process", FakeProcess)
    monkeypatch.setattr(FakeProcess, "order", [])
    return FakeProcess.order


@pytest.mark.parametrize(("device", "hidden"), [("cpu", True), ("auto", False), ("cuda", False)])
def test_rows_on_the_cpu_see_no_gpu_and_none_finds_a_compilers_cache(monkeypatch, device, hidden):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3")
    monkeypatch.setenv("TRITON_CACHE_DIR", "/home/me/.triton/cache")
    environment = measure.row_environment("/empty", device)
    assert environment["CUDA_VISIBLE_DEVICES"] == ("" if hidden else "3")
    for name in ("TRITON_CACHE_DIR", "TORCHINDUCTOR_CACHE_DIR", "XDG_CACHE_HOME"):
        assert environment[name].startswith("/empty/")


def test_the_rows_of_whole_runs_begin_as_cold_as_those_of_steps(monkeypatch, tmp_path):
    def begin(command, env, **options):
        begun.append(env)
        return subprocess.CompletedProcess(command, 0, "[1]\n", "")

    begun = []
    monkeypatch.setattr(whole_runs.subprocess, "run", begin)
    assert whole_runs._in_a_process("ours", tmp_path, "cpu") == [1]
    assert not Path(begun[0]["TRITON_CACHE_DIR"]).exists()
    assert begun[0]["CUDA_VISIBLE_DEVICES"] == ""


def test_rows_take_turns_there_and_back(order):
    measurements = {name: Measurement("m", name, TINY, 7) for name in ("reference", "ours")}
    found = measure.measure(measurements)
    there, back = ["reference", "ours"], ["ours", "reference"]
    assert order == [*there, *back, *there, *back, *there, "end", "end"]
    assert found["reference"] == Timing(
        30.0, 1.5, [[3.0], [12.0], [15.0, 18.0], [24.0], [27.0, 30.0]], 24.0, "plain"
    )
    assert found["ours"].turns == [[2.0], [3.0], [6.0, 7.0], [7.0], [10.0, 11.0]]
    assert Timing(1.0, 0.0, [[9.0, 9.0, 1.0], [2.0, 8.0], [6.0]], 1.0, "").ms_warm == 5.0


def test_fewer_repeats_than_rounds_make_fewer_turns(order):
    measure.measure({"ours": Measurement("m", "ours", TINY, 2)})
    assert order == ["ours", "ours", "end"]


def test_inference_gives_percentiles_and_their_ratios(order, tmp_path, capsys):
    file = tmp_path / "found.json"
    assert main(["inference", "--rows", "ours,reference", "--json", str(file)]) == 0
    found, page = json.loads(file.read_text()), capsys.readouterr().out
    ms = sorted(turn + index for turn in (2, 3, 6, 7, 10) for index in range(20))
    p50, p99 = float(np.median(ms)), float(np.percentile(ms, 99))
    assert found["rows"]["ours"] == {
        "ms_cold": 100.0, "build_s": 1.5, "ms_p50": p50, "ms_p99": p99, "peak_mib": 8.0
    }  # fmt: skip
    assert found["ratios"] == {"reference / ours": found["rows"]["reference"]["ms_p50"] / p50}
    assert found["ratios"]["reference / ours"] == pytest.approx(3.0, rel=0.1)
    assert found["settings"]["batch"] == 1
    assert found["notes"] == {"reference": "plain"}
    assert f"| ours | 100 | 1.5 | {p50:.2f} | {p99:.2f} | 8 |" in page


def test_the_sweep_is_relative_to_the_fewest_steps(order, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(FakeProcess, "turn", lambda self, count: [self.ms_cold] * count)
    file = tmp_path / "found.json"
    command = ["training", "--rows", "ours", "--sweep-time-steps", "--json", str(file)]
    assert main(command) == 0
    found = json.loads(file.read_text())
    assert found["time_steps"] == {
        str(t): {"ms_warm": 10.0 * t, "ratio": t / 2} for t in (2, 4, 8, 16)
    }
    assert found["rows"]["ours"]["ms_warm"] == 100.0
    assert "| 16 | 160.0 | 8.00 |" in capsys.readouterr().out


def test_the_command_prints_and_writes_the_same_figures(tmp_path, capsys):
    file = tmp_path / "found.json"
    options = "--width 0.05 --size 8 --time-steps 2 --batch 2 --classes 3 --repeats 3 --threads 1"
    rows = ["--rows", "reference,ours", "--memory", "low", "--json", str(file)]
    assert main(["training", *options.split(), *rows]) == 0
    found, page = json.loads(file.read_text()), capsys.readouterr().out
    assert found["rows"].keys() == {"reference", "ours", "ours, low memory"}
    for name, row in found["rows"].items():
        assert row.keys() == {"ms_cold", "build_s", "ms_warm", "peak_mib"}
        assert row["build_s"] < row["ms_cold"] / 1e3
        assert min(row["ms_cold"], row["ms_warm"]) > 0
        assert 0 < row["peak_mib"] < 200
        figures = f"{row['ms_cold']:,.0f} | {row['build_s']:.1f} | {row['ms_warm']:,.1f} |"
        assert f"| {name} | {figures}" in page
    reference, ours, low = found["rows"].values()
    assert reference["build_s"] == 0
    assert ours["build_s"] > 0 or native.library() is None
    assert found["ratios"] == pytest.approx(
        {
            "reference / ours": reference["ms_warm"] / ours["ms_warm"],
            "ours, low memory / ours": low["ms_warm"] / ours["ms_warm"],
            "peak reference / ours": reference["peak_mib"] / ours["peak_mib"],
            "peak ours / ours, low memory": ours["peak_mib"] / low["peak_mib"],
        }
    )
    assert f"| reference / ours | {found['ratios']['reference / ours']:.2f} |" in page
    assert found["settings"]["time_steps"] == 2
    assert found["machine"]["threads"] == 1
    assert found["machine"]["torch"] == torch.__version__


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["training", "--rows", "ours,theirs"], ["'theirs'", "relu-bound"]),
        (["inference", "--rows", "relu-bound"], ["'relu-bound'", "reference,spikingjelly,ours"]),
        (["training", "--batch", "1"], ["--batch", "2"]),
        (["training", "--repeats", "0"], ["--repeats", "1"]),
        (["inference", "--repeats", "49"], ["--repeats", "50"]),
        (["training", "--size", "7"], ["--size", "8"]),
        (["training", "--width", "0"], ["--width"]),
        (["training", "--time-step", "3"], ["--time-step"]),
        (["flight"], ["flight", "python -m benchmarks --help"]),
    ],
)
def test_bad_options_are_refused(options, words, capsys):
    assert main([*options]) == 2
    line = capsys.readouterr().err
    assert line.count("\n") == 1
    for word in words:
        assert word in line


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "was killed"),
        ("raise MemoryError('no room')", "MemoryError: no room"),
        ("", "was killed"),
    ],
)
def test_a_row_whose_process_dies_is_named(monkeypatch, code, words):
    popen = subprocess.Popen
    monkeypatch.setattr(
        subprocess, "Popen", lambda command, **options: popen([*command[:1], "-c", code], **options)
    )
    measurement = Measurement("m", "ours", TINY, 3)
    refused(lambda: measure.Process(measurement, dict(os.environ)), "'ours'", words, "--batch")


def test_without_spikingjelly_its_row_is_left_out(monkeypatch):
    monkeypatch.setattr(measure.importlib.util, "find_spec", lambda name: None)
    chosen, left_out = measure.choose(training.ROWS, training.ROWS)
    assert chosen == ["reference", "ours", "relu-bound"]
    assert "not installed" in left_out["spikingjelly"]
    refused(lambda: measure.choose(["spikingjelly"], training.ROWS), "no row", "--rows")


def test_the_help_names_all(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    for name in ("data", "run", "training", "inference"):
        assert f"\n  {name} " in page


def test_frames_are_sparse_and_photos_dense():
    batch = random_batch(replace(TINY, size=32))
    assert 0.08 < (batch.dvs_TBCHW > 0).float().mean() < 0.12
    assert batch.dvs_TBCHW.max() <= 1
    assert batch.photo_B3HW.std() > 0.25
    np.testing.assert_array_equal(batch.recording_B, np.arange(5))
