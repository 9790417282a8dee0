"""Two processes on a shared batch: equal to one where the mathematics says so, one run's files."""

import json
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import yaml
from run_checks import same_run
from torch import distributed as dist
from torch.distributed import TCPStore
from worker import APART, TOGETHER, make_task, train

from factories import refused, tiny_recipe
from spikebridge.base import distributed
from spikebridge.cli import main

PORTS = 6


@pytest.fixture(scope="module")
def two(tmp_path_factory):
    """What two processes found, by rank, the folder of their runs, and their recipe."""
    folder = tmp_path_factory.mktemp("two")
    recipe = folder / "recipe.yaml"
    settings = tiny_recipe(
        folder,
        data={"augment": {"crop": 1, "flip": True}},
        train={"batches_per_epoch": 3, "batch_size": 7},
    )
    recipe.write_text(yaml.safe_dump(settings))
    # As torchrun does, so that no other program can take a port in between.
    own = {"is_master": True, "wait_for_workers": False}
    stores = [TCPStore("127.0.0.1", 0, **own) for _ in range(PORTS)]
    ports = [str(store.port) for store in stores]
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "MASTER_ADDR": "127.0.0.1",
        "TORCHELASTIC_USE_AGENT_STORE": "True",
        "WORLD_SIZE": "2",
        "LOCAL_WORLD_SIZE": "2",
    }
    worker = [sys.executable, str(Path(__file__).with_name("worker.py")), str(recipe), str(folder)]
    started = [
        subprocess.Popen(
            [*worker, *ports],
            env=environment | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate()[0] for process in started]
    finally:
        for process in started:
            process.kill()
    assert [process.returncode for process in started] == [0, 0], "\n".join(said)
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)], folder, str(recipe), said


@pytest.fixture
def nccl(monkeypatch):
    """What is asked of CUDA and of NCCL, which are not there."""
    asked = []
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.setenv(name, "1")
    for module, name in (
        (torch.cuda, "set_device"),
        (dist, "init_process_group"),
        (dist, "destroy_process_group"),
        (dist.distributed_c10d, "_abort_process_group"),
    ):
        monkeypatch.setattr(
            module, name, lambda *given, name=name, **_: asked.append((name, *given))
        )
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: asked[0][1])
    return asked


@pytest.mark.parametrize(
    ("count", "ids", "taken"),
    [
        (2, ["a", "b"], 1),
        (4, ["a", "b"], 1),
        (1, ["a", "b"], 0),
        (1, ["a", "a"], None),
        (0, ["a", "b"], None),
    ],
)
def test_each_process_takes_a_gpu_of_its_own(nccl, monkeypatch, count, ids, taken):
    properties = SimpleNamespace(uuid=ids[1])
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(distributed, "each_ones", lambda value: [(ids[0], value[1]), value])

    def start():
        with distributed.processes("auto"):
            nccl.append(("train",))

    if taken is None:
        refused(start, f"2 processes for {count} GPUs")
        assert ("train",) not in nccl
    else:
        start()
        assert nccl[0] == ("set_device", taken)
        assert nccl[1:] == [
            ("init_process_group", "cpu:gloo,cuda:nccl"), ("train",), ("destroy_process_group",)
        ]  # fmt: skip


def test_a_process_that_fails_does_not_wait_for_the_others(nccl, monkeypatch):
    monkeypatch.setattr(distributed, "_require_own_gpus", lambda: None)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(ZeroDivisionError), distributed.processes("cuda"):
        _ = 1 / 0
    assert nccl[-1] == ("_abort_process_group",)
    assert ("destroy_process_group",) not in nccl


def test_shared_statistics_and_alignment_compute_what_one_process_does(two):
    (first, second), _, recipe, _ = two
    one = train(make_task(recipe, "ckd", TOGETHER), 3)
    for step in range(3):
        losses = one["losses"][step]
        assert losses.keys() == {"total", "hybrid", "kd", "dvs", "alignment"}
        for name, loss in losses.items():
            parts = [found["together"]["losses"][step][name] for found in (first, second)]
            assert sum(parts) == pytest.approx(loss, rel=1e-6), name
        assert sum(g is not None and bool(g.any()) for g in one["grads"][step].values()) > 20
        for name, grad in one["grads"][step].items():
            for found in (first, second):
                torch.testing.assert_close(
                    found["together"]["grads"][step][name], grad, rtol=1e-5, atol=1e-8, msg=name
                )
    for name, value in one["weights"].items():
        for found in (first, second):
            torch.testing.assert_close(
                found["together"]["weights"][name], value, rtol=1e-5, atol=1e-7, msg=name
            )


def test_apart_the_gradient_is_the_mean_of_the_halves(two):
    (first, second), _, recipe, _ = two
    halves = []
    for rank in range(2):
        task = make_task(recipe, "scratch+tet", APART)
        task.batches.rows = slice(rank, None, 2)
        halves.append(train(task, 1))
    # Each half counts with its part of the batch, a half.
    for name, grad in first["apart"]["grads"][0].items():
        other, *parts = (found["grads"][0][name] for found in (second["apart"], *halves))
        if grad is None:
            assert other is parts[0] is parts[1] is None
            continue
        assert torch.equal(grad, other)
        torch.testing.assert_close(grad, sum(parts), rtol=1e-6, atol=1e-10, msg=name)
    one = train(make_task(recipe, "scratch+tet", APART), 1)
    name = "0.backbone.layers.0.synapse.layers.0.weight"
    assert not torch.allclose(one["grads"][0][name], first["apart"]["grads"][0][name], rtol=1e-2)


def test_a_run_stopped_in_one_process_stops_in_both_and_resumes_to_the_same(two):
    (first, second), folder, _, _ = two
    assert first["whole"][0] == second["whole"][0] == 0
    assert first["stopped"][0] == second["stopped"][0] == 130
    assert "stopped after step 4 of 6" in first["stopped"][1]
    assert torch.load(folder / "stopped" / "checkpoint.pt")["step"] == 4
    assert first["resumed"][0] == second["resumed"][0] == 0
    same_run(folder / "whole", folder / "parts")


def test_only_rank_0_writes_and_speaks(two):
    (_, second), folder, _, (_, said) = two
    names = {path.name for path in (folder / "whole").iterdir()}
    assert names == {
        "config.yaml", "precision.txt", "manifest.csv", "teacher-manifest.csv", "metrics.jsonl",
        "tensorboard", "checkpoint.pt", "model.safetensors", "result.json", "predictions.csv",
        ".lock",
    }  # fmt: skip
    assert len(list((folder / "whole" / "tensorboard").iterdir())) == 1
    assert len((folder / "whole" / "metrics.jsonl").read_text().splitlines()) == 6 + 2
    assert json.loads((folder / "whole" / "result.json").read_text())["world_size"] == 2
    assert said == ""
    assert [second[name][1] for name in ("whole", "stopped", "resumed", "refused")] == [""] * 4


def test_another_number_of_processes_is_refused(two, capsys):
    _, folder, recipe, _ = two
    teacher = ["--teacher_run", str(folder / "teacher")]
    stopped = ["--out", str(folder / "stopped"), "--resume"]
    assert main(["train", recipe, "--method", "ckd", *teacher, *stopped]) == 2
    [line] = [x for x in capsys.readouterr().err.splitlines() if x.startswith("spikebridge")]
    assert "a run of 2 processes, not of 1" in line


def test_too_small_batches_are_refused_in_one_line(two):
    (first, second), folder, _, _ = two
    assert first["refused"][0] == second["refused"][0] == 2
    [line] = [x for x in first["refused"][1].splitlines() if x.startswith("spikebridge: ")]
    assert "batches of 3 samples leave 2 processes less than two each" in line
    assert not (folder / "refused").exists()
