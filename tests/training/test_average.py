"""The moving average of weights: its values, and that it is what a run selects and saves."""

import copy
import itertools
import json
import os
import signal

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from factories import refused
from spikebridge.base.errors import Interrupted
from spikebridge.data.prepared import prepare
from spikebridge.results.trained import evaluate_run
from spikebridge.runs.train import train_student
from spikebridge.settings.parsing import config_from
from spikebridge.training.average import WeightAverage
from spikebridge.training.tasks import StudentTask


def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))


def change(model, value):
    with torch.no_grad():
        for tensor in model.state_dict().values():
            tensor.fill_(value)


def test_the_average_follows_weights_and_statistics_by_hand():
    model = network()
    change(model, 1.0)
    average = WeightAverage(model, 0.2)
    change(model, 2.0)
    average.update()  # decay min(0.2, 1/10): 0.1 * 1 + 0.9 * 2 = 1.9
    change(model, 3.0)
    average.update()  # decay min(0.2, 2/11): 2/11 * 1.9 + 9/11 * 3
    change(model, 4.0)
    average.update()  # decay min(0.2, 3/12) = 0.2
    expected = 0.2 * (2 / 11 * 1.9 + 9 / 11 * 3) + 0.8 * 4
    with average.applied():
        for name, tensor in model.state_dict().items():
            whole = not tensor.is_floating_point()
            assert tensor.flatten()[0].item() == pytest.approx(4 if whole else expected), name
    assert {t.flatten()[0].item() for t in model.state_dict().values()} == {4.0}


def test_it_is_a_long_memory_in_the_end():
    model = network()
    change(model, 0.0)
    average = WeightAverage(model, 0.9)
    for _ in range(200):
        average.update()
    change(model, 1.0)
    for _ in range(5):
        average.update()
    with average.applied():
        assert model[0].weight[0, 0].item() == pytest.approx(1 - 0.9**5)


def test_weights_come_back_also_after_an_error_and_in_the_same_memory():
    model = network()
    average = WeightAverage(model, 0.5)
    before = copy.deepcopy(model.state_dict())
    places = [p.data_ptr() for p in model.parameters()]
    change(model, 7.0)
    with pytest.raises(RuntimeError), average.applied():
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
        assert [p.data_ptr() for p in model.parameters()] == places
        raise RuntimeError
    assert {t.flatten()[0].item() for t in model.state_dict().values()} == {7.0}


def test_without_decay_nothing_is_kept_or_changed():
    model = network()
    average = WeightAverage(model, 0.0)
    before = copy.deepcopy(model.state_dict())
    average.update()
    with average.applied():
        assert all(torch.equal(v, before[k]) for k, v in model.state_dict().items())
    assert average.state_dict()["average"] == {}


def test_a_checkpoint_brings_it_back():
    model = network()
    average = WeightAverage(model, 0.5)
    change(model, 2.0)
    average.update()
    state = copy.deepcopy(average.state_dict())
    twin_model = copy.deepcopy(model)
    twin = WeightAverage(twin_model, 0.5)
    twin.load_state_dict(state)
    for each, network_ in ((average, model), (twin, twin_model)):
        change(network_, 5.0)
        each.update()
    with average.applied(), twin.applied():
        for name, tensor in model.state_dict().items():
            assert torch.equal(tensor, twin_model.state_dict()[name]), name


def test_a_run_selects_and_saves_the_average_and_trains_on_alone(make_config, tmp_path):
    runs = {}
    for name, ema in (("raw", 0.0), ("averaged", 0.8)):
        config = make_config("scratch", train={"ema": ema, "epochs": 3})
        data = prepare(config.data, config.seed)
        folder = tmp_path / name
        result = train_student(config, data, folder, teacher_folder=tmp_path / "teacher")
        state = torch.load(folder / "checkpoint.pt", map_location="cpu")
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        losses = [r["losses"] for r in map(json.loads, lines) if r["kind"] == "step"]
        runs[name] = (result, state, losses, load_file(folder / "model.safetensors"))
    # Training itself is the same to the last bit; what is selected is not.
    assert runs["raw"][2] == runs["averaged"][2]
    for name, tensor in runs["raw"][1]["model"].items():
        assert torch.equal(tensor, runs["averaged"][1]["model"][name])
    assert not torch.equal(
        runs["raw"][3]["head_dvs.weight"], runs["averaged"][3]["head_dvs.weight"]
    )
    if runs["averaged"][0]["best_epoch"] == 2:
        for name, tensor in runs["averaged"][1]["average"]["average"].items():
            measured = "running" in name or "tracked" in name  # for the averaged weights
            assert torch.equal(tensor, runs["averaged"][3][name]) is not measured, name
    again = evaluate_run(tmp_path / "averaged", "test")
    assert again.top1 == runs["averaged"][0]["test_top1"]


@pytest.mark.parametrize("step", [2, 6])
def test_an_interrupted_run_goes_on_with_the_same_average(make_config, tmp_path, monkeypatch, step):
    config = make_config("kt", train={"ema": 0.9})
    data = prepare(config.data, config.seed)
    train_student(config, data, tmp_path / "whole", teacher_folder=tmp_path / "teacher")
    original, number = StudentTask.losses, itertools.count()

    def stopping(self, tensors):
        result = original(self, tensors)
        if torch.is_grad_enabled() and next(number) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(StudentTask, "losses", stopping)
        train_student(config, data, tmp_path / "parts", teacher_folder=tmp_path / "teacher")
    train_student(
        config, data, tmp_path / "parts", teacher_folder=tmp_path / "teacher", resume=True
    )
    ours, theirs = (load_file(tmp_path / f / "model.safetensors") for f in ("whole", "parts"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    states = [torch.load(tmp_path / f / "checkpoint.pt")["average"] for f in ("whole", "parts")]
    assert states[0]["updates"] == states[1]["updates"] == 10
    for name, tensor in states[0]["average"].items():
        assert torch.equal(tensor, states[1]["average"][name])


@pytest.mark.parametrize("decay", [-0.1, 1.0])
def test_a_decay_out_of_range_is_refused(decay):
    refused(lambda: config_from({"train": {"ema": decay}}, "mine.yaml"), "train.ema")
