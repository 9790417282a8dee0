"""`bench run`: both ways train on the same batches, and the figures are consistent."""

import json
import threading

import numpy as np
import pytest
import torch
import yaml

from benchmarks import run, run_rows
from benchmarks.__main__ import main
from benchmarks.run_rows import PARTS, Clock, DenseFiles
from factories import refused, tiny_recipe
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.data.prepared import prepare
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.training.ahead import Ahead


@pytest.fixture
def recipe(tmp_path):
    """A file with the settings of a tiny run."""
    settings = tiny_recipe(tmp_path, data={"time_steps": 3}, train={"batches_per_epoch": 2})
    path = tmp_path / "mine.yaml"
    path.write_text(yaml.safe_dump(settings))
    return path


def test_both_ways_train_evaluate_and_tell_where_the_time_went(recipe, tmp_path):
    config = config_from(yaml.safe_load(recipe.read_text()), "mine")
    data = prepare(config.data, 0)
    for way in (run_rows.reference, run_rows.ours):
        seconds = way(config, data, tmp_path)
        assert seconds.keys() == {*PARTS, "whole"}
        assert min(seconds.values()) > 0
        assert sum(seconds[part] for part in PARTS) == pytest.approx(seconds["whole"])


def test_dense_files_hold_the_networks_input(recipe, tmp_path):
    config = config_from(yaml.safe_load(recipe.read_text()), "mine")
    events = prepare(config.data, 0).events["train"]
    files = DenseFiles(events, tmp_path / "dense")
    assert len(files) == len(events.label_N) > 3
    for rows in (np.array([2, 0, 2]), slice(1, 3)):
        np.testing.assert_array_equal(files[rows], events.input(rows))
    assert files[np.array([0])].max() > 0


def test_the_command_prints_and_writes_the_same_figures(recipe, tmp_path, monkeypatch, capsys):
    def fake(row, scratch, device):
        """A run whose second half is quicker; the plain one takes three times as long."""
        factor = 3.0 if row == "reference" else 1.0
        runs = [
            {part: factor * k for part in PARTS} | {"whole": 4 * k * factor} for k in (5.0, 2.0)
        ]
        runs[0]["build"] = 0.0 if row == "reference" else 1.5
        return runs

    monkeypatch.setattr(run, "_in_a_process", fake)
    file = tmp_path / "found.json"
    assert main(["run", str(recipe), "--json", str(file)]) == 0
    found, page = json.loads(file.read_text()), capsys.readouterr().out
    assert found["steps"] == 4
    assert found["ratios"] == dict.fromkeys([*PARTS, "whole"], 3.0)
    assert found["saved"] == pytest.approx(dict.fromkeys(PARTS, 1 / 6))
    assert "| steps | 6.00 | 2.00 | 3.00 | 16.7% |" in page
    assert "| whole | 24.00 | 8.00 | 3.00 | 66.7% |" in page
    assert "| ours | 20.00 | 1.5 |" in page


CUDA = torch.device("cuda", 1)


@pytest.fixture
def gpu(monkeypatch):
    """What is asked of a GPU that is not there, in order."""
    asked = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: asked.append(device))
    monkeypatch.setattr(torch.cuda, "set_device", lambda device: None)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: "graph" in asked)
    return asked


def test_a_part_begins_and_ends_with_nothing_queued_on_its_gpu(gpu):
    clock = Clock(CUDA)
    clock.timed("teacher", lambda: gpu.append("act"))()
    assert gpu == [CUDA, "act", CUDA]
    gpu.append("graph")  # What is recorded must not wait.
    clock.timed("teacher", lambda: gpu.append("act"))()
    assert gpu[3:] == ["graph", "act"]
    with Clock(torch.device("cpu")).of("teacher"):
        pass
    assert len(gpu) == 5


def test_loading_on_a_gpu_is_the_wait_for_the_thread(gpu, monkeypatch):
    class Time:
        """Stands still until a batch takes its time."""

        def __init__(self):
            self.now, self.looked_at = 0.0, threading.Event()

        def perf_counter(self):
            self.looked_at.set()
            return self.now

    class Task:
        device = CUDA

        def batch(self, step):
            asked_in.add(threading.current_thread())
            if step == 0:
                time.looked_at.wait()
                time.now = 0.25
            return step

    asked_in, time, task, original = set(), Time(), Task(), Ahead.__call__
    monkeypatch.setattr(run_rows, "time", time)
    clock = Clock(CUDA)
    with run_rows.loading_timed(clock, task), Ahead(task.batch, 2, CUDA) as batches:
        assert [batches(0), batches(1)] == [0, 1]
    assert clock.seconds["loading"] == 0.25
    assert threading.main_thread() not in asked_in
    assert len(gpu) == 4
    assert Ahead.__call__ is original


def test_what_the_plain_loop_does_not_know_is_refused():
    config = Config(objective=ObjectiveConfig(kd_on="rgb"))
    refused(lambda: run.bench_run(config), "bench run", "ckd")
