"""A run that one machine trained is of use on another."""

import json

import numpy as np
import pytest

from factories import refused
from spikebridge.cli import main
from spikebridge.data.prepared import prepare
from spikebridge.models.neurons import kernels, native
from spikebridge.results.trained import evaluate_run, load_run
from spikebridge.runs.train import train_student
from spikebridge.training.checkpoint import load_model, save_model


@pytest.mark.parametrize("backend", ["triton", "native"])
def test_neurons_that_are_not_here_are_computed_otherwise(
    make_config, tmp_path, monkeypatch, backend, capsys
):
    config = make_config("scratch")
    data = prepare(config.data, config.seed)
    run = tmp_path / "run"
    train_student(config, data, run, teacher_folder=tmp_path / "teacher")
    before = evaluate_run(run, "test")
    weights, description = load_model(run / "model.safetensors")
    description["config"]["student"]["neuron_backend"] = backend
    save_model(run / "model.safetensors", weights, description)
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    monkeypatch.setattr(native, "library", lambda: None)
    refused(lambda: kernels.require(backend), backend)
    assert load_run(run).config.student.neuron_backend == backend
    after = evaluate_run(run, "test")
    np.testing.assert_array_equal(before.prediction_N, after.prediction_N)
    file = after.files[0]
    assert main(["predict", str(run), file, "--json"]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[0])


def test_a_run_that_was_told_to_take_a_gpu_is_evaluated_without_one(make_config, tmp_path):
    config = make_config("scratch")
    data = prepare(config.data, config.seed)
    run = tmp_path / "run"
    result = train_student(config, data, run, teacher_folder=tmp_path / "teacher")
    weights, description = load_model(run / "model.safetensors")
    description["config"]["train"]["device"] = "cuda:1"
    save_model(run / "model.safetensors", weights, description)
    assert evaluate_run(run, "test").top1 == result["test_top1"]
