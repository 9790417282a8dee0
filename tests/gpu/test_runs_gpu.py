"""Whole runs on a real GPU: resumed to the same bits, evaluated, exported, on either device."""

import itertools
import json
import os
import signal

import pytest
import torch

from spikebridge.base.errors import Interrupted
from spikebridge.cli import main
from spikebridge.data.prepared import prepare
from spikebridge.models.build import build_student
from spikebridge.models.fast.inference import GraphedStudent, deploy
from spikebridge.models.settings import StudentConfig
from spikebridge.results.energy import energy_of_run
from spikebridge.results.export.run import export_run
from spikebridge.results.trained import evaluate_run, load_run
from spikebridge.runs.train import train_student, train_teacher
from spikebridge.training.step import TrainingStep
from training.run_checks import same_run

WANTED = os.environ.get("SPIKEBRIDGE_GPU")


@pytest.fixture
def data(make_config):
    config = make_config()
    return prepare(config.data, config.seed)


def stopped_at(step):
    """A context in which training gets a Ctrl-C during one step."""
    patch, number, original = pytest.MonkeyPatch(), itertools.count(), TrainingStep.__call__

    def taken(self, *arguments):
        if next(number) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, *arguments)

    patch.setattr(TrainingStep, "__call__", taken)
    return patch


def on(device, **train):
    return {"train": {"device": device, "precision": "auto", "epochs": 4, "ema": 0.5} | train}


@pytest.mark.parametrize("step", [1, 5, 13])
def test_a_run_stopped_anywhere_ends_with_the_same_bits(make_config, data, tmp_path, step):
    config = make_config("ckd", **on("cuda"))
    folders = {"teacher_folder": tmp_path / "teacher"}
    train_student(config, data, tmp_path / "whole", **folders)
    patch = stopped_at(step)
    try:
        with pytest.raises(Interrupted):
            train_student(config, data, tmp_path / "parts", **folders)
    finally:
        patch.undo()
    train_student(config, data, tmp_path / "parts", **folders, resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_a_teacher_stopped_ends_with_the_same_bits(make_config, data, tmp_path):
    config = make_config(**on("cuda"))
    train_teacher(config, data, tmp_path / "whole")
    patch = stopped_at(4)
    try:
        with pytest.raises(Interrupted):
            train_teacher(config, data, tmp_path / "parts")
    finally:
        patch.undo()
    train_teacher(config, data, tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize(("first", "then"), [("cpu", "cuda"), ("cuda", "cpu")])
def test_a_run_goes_on_on_the_other_device(make_config, data, tmp_path, monkeypatch, first, then):
    """`auto` is what both runs say; what is there differs."""
    available = torch.cuda.is_available
    devices = {"cpu": lambda: False, "cuda": available}
    config = make_config("kt", **on("auto", precision="float32"))
    folders = {"teacher_folder": tmp_path / "teacher"}
    monkeypatch.setattr(torch.cuda, "is_available", devices[first])
    patch = stopped_at(7)
    try:
        with pytest.raises(Interrupted):
            train_student(config, data, tmp_path / "run", **folders)
    finally:
        patch.undo()
    monkeypatch.setattr(torch.cuda, "is_available", devices[then])
    train_student(config, data, tmp_path / "run", **folders, resume=True)
    lines = (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()
    steps = [r["step"] for r in map(json.loads, lines) if r["kind"] == "step"]
    assert steps == list(range(20))


def test_what_is_done_with_a_finished_run(make_config, data, tmp_path, gpu):
    config = make_config("ckd", **on("cuda", precision="float32"))
    folder = tmp_path / "run"
    result = train_student(config, data, folder, teacher_folder=tmp_path / "teacher")
    assert evaluate_run(folder, "test").top1 == result["test_top1"]
    assert evaluate_run(tmp_path / "teacher", "test").top1 > 0
    report = energy_of_run(folder, limit=4, teacher_folder=tmp_path / "teacher").as_json()
    assert "missing" not in report
    for name in ("nir", "onnx", "pt2"):
        export_run(folder, name, tmp_path / f"student.{name}")
    recording = data.manifest.select("recording", "test")[0].file
    assert main(["predict", str(folder), str(recording)]) == 0


def test_commands_train_resume_and_evaluate(recipe, tmp_path, gpu):
    import yaml

    recipe["train"] |= {"device": "cuda", "precision": "bfloat16"}
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))
    run = tmp_path / "run"
    words = ["train", str(file), "--method", "ckd-plus", "--out", str(run)]
    assert main([*words, "--teacher_run", str(tmp_path / "teacher")]) == 0
    assert main(["evaluate", str(run)]) == 0
    assert main(["audit", str(run)]) == 0


def test_a_backbone_is_taught_and_a_student_starts_from_it(recipe, tmp_path, gpu):
    import yaml

    recipe["train"] |= {"device": "cuda", "epochs": 3}
    file, run = tmp_path / "recipe.yaml", tmp_path / "backbone"
    file.write_text(yaml.safe_dump(recipe))
    words = ["backbone", "--photos", recipe["data"]["photos"], "--recipe", str(file)]
    assert main([*words, "--train.epochs", "3", "--out", str(run)]) == 0
    words = ["train", str(file), "--method", "scratch", "--student.weights", str(run)]
    assert main([*words, "--out", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("name", ["vgg-snn", "resnet18-snn"])
def test_a_deployed_student_predicts_as_the_student_does(gpu, name, kind):
    torch.manual_seed(0)
    student = build_student(StudentConfig(name=name, width=0.5), 10, (32, 32)).to(gpu)
    x_TBCHW = (torch.rand(4, 64, 2, 32, 32) < 0.2).float().to(gpu)
    for module in student.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = 1.0
    with torch.no_grad():
        student(x_TBCHW)
    student.eval()
    with torch.no_grad(), torch.autocast("cuda", dtype=kind, enabled=kind != torch.float32):
        network = deploy(student)
        assert isinstance(network, GraphedStudent)
        expected = student(x_TBCHW).logits_TBC.float().mean(0)
        found = [network(x_TBCHW).logits_TBC.mean(0) for _ in range(6)]
    assert network._graphs._captured
    near = 0.02 if kind == torch.float32 else 0.8  # Of unlike logits: 1.1. Rounding moves spikes.
    for one in found:
        assert (one - expected).abs().mean() < near * expected.std()
        # A CPU's bfloat16 convolutions round by how tensors lie in memory.
        rehearsed = os.environ.get("SPIKEBRIDGE_GPU") == "pretend" and kind != torch.float32
        assert rehearsed or torch.equal(one, found[0])
    other = network(1 - x_TBCHW).logits_TBC.mean(0)
    assert not torch.equal(other, found[0])


def test_a_student_trained_on_a_gpu_loads_on_a_cpu(make_config, data, tmp_path, monkeypatch):
    config = make_config("scratch", student={"neuron_backend": "triton"}, **on("cuda"))
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    assert load_run(tmp_path / "run").config.train.device == "cuda"
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)  # Fewer than it was trained on.
    assert load_run(tmp_path / "run").config.train.device == "auto"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    model = load_run(tmp_path / "run").model
    assert model(torch.rand(3, 2, 2, 8, 8)).logits_TBC.shape == (3, 2, 3)


@pytest.mark.skipif(WANTED == "pretend", reason="an imitation has no memory of its own")
def test_a_full_gpu_is_one_line(make_config, data, tmp_path, gpu, capsys):
    import yaml

    from spikebridge.settings.recorded import plain_settings

    config = make_config("scratch", student={"width": 4.0}, **on("cuda"))
    file = tmp_path / "big.yaml"
    file.write_text(yaml.safe_dump(plain_settings(config)))
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction(0.002)
    try:
        words = ["train", str(file), "--method", "scratch", "--out", str(tmp_path / "run")]
        assert main(words) == 2
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert "batch_size" in capsys.readouterr().err.splitlines()[-1]
