"""Precision `auto` goes by what the processor has, and a run keeps what it was begun with."""

import itertools
import json
import os
import signal
from unittest import mock

import pytest
import torch
import yaml
from run_checks import same_run

from spikebridge.base.errors import Interrupted, UserError
from spikebridge.data.prepared import prepare
from spikebridge.models.student import Student
from spikebridge.results.trained import evaluate_run, load_run
from spikebridge.run_folder import RunFolder
from spikebridge.runs.train import train_student, train_teacher
from spikebridge.training.precision import resolve
from spikebridge.training.tasks import StudentTask

CPU, CUDA = torch.device("cpu"), torch.device("cuda", 0)


def processor(monkeypatch, amx=False, avx512_bf16=False, ampere=False):
    """A machine with these instructions."""

    def is_bf16_supported(including_emulation=True):
        return ampere or including_emulation

    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
    monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512_bf16)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", is_bf16_supported)


@pytest.mark.parametrize(
    ("has", "on_cpu", "on_cuda"),
    [
        ({}, "float32", "float32"),
        ({"amx": True}, "bfloat16", "float32"),
        ({"avx512_bf16": True}, "bfloat16", "float32"),
        ({"ampere": True}, "float32", "bfloat16"),
    ],
)
def test_auto_goes_by_the_processor(monkeypatch, has, on_cpu, on_cuda):
    processor(monkeypatch, **has)
    assert resolve("auto", CPU) == on_cpu
    assert resolve("auto", CUDA) == on_cuda
    for word in ("float32", "bfloat16"):
        assert resolve(word, CPU) == resolve(word, CUDA) == word


@pytest.fixture
def config(make_config):
    return make_config("ckd", train={"precision": "auto"})


@pytest.fixture
def data(config):
    return prepare(config.data, config.seed)


def precisions(act):
    """Whether each pass of a student was in bfloat16 while `act` ran."""
    found = set()
    original = Student.forward

    def forward(self, *arguments, **options):
        found.add(torch.is_autocast_enabled("cpu"))
        return original(self, *arguments, **options)

    with mock.patch.object(Student, "forward", forward):
        act()
    return found


def stop_at(monkeypatch, step):
    original, count = StudentTask.losses, itertools.count()

    def stopping(self, tensors):
        if torch.is_grad_enabled() and next(count) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, tensors)

    monkeypatch.setattr(StudentTask, "losses", stopping)


def test_a_run_goes_on_and_is_evaluated_in_what_it_was_begun_with(
    config, data, tmp_path, monkeypatch
):
    where = {"teacher_folder": tmp_path / "teacher"}
    processor(monkeypatch, avx512_bf16=True)
    assert precisions(lambda: train_student(config, data, tmp_path / "whole", **where)) == {True}
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 4)
        train_student(config, data, tmp_path / "parts", **where)
    processor(monkeypatch)
    parts = tmp_path / "parts"
    resumed = precisions(lambda: train_student(config, data, parts, **where, resume=True))
    assert resumed == {True}
    same_run(tmp_path / "whole", parts)
    for folder in (tmp_path / "whole", parts, tmp_path / "teacher"):
        assert json.loads((folder / "result.json").read_text())["precision"] == "bfloat16"
        written = yaml.safe_load((folder / "config.yaml").read_text())
        assert written["train"]["precision"] == "auto"
        assert load_run(folder).config.train.precision == "bfloat16"
    assert precisions(lambda: evaluate_run(parts, "test")) == {True}
    # A new run takes what is right here.
    assert precisions(lambda: train_student(config, data, tmp_path / "new", **where)) == {False}
    assert json.loads((tmp_path / "new" / "result.json").read_text())["precision"] == "float32"


def test_a_run_that_was_killed_before_its_first_checkpoint_begins_again(
    config, tmp_path, monkeypatch
):
    data = prepare(config.data, config.seed)
    processor(monkeypatch, amx=True)
    with (
        mock.patch("spikebridge.runs.train.fit", side_effect=KeyboardInterrupt),
        pytest.raises(KeyboardInterrupt),
    ):
        train_teacher(config, data, tmp_path)
    assert RunFolder(tmp_path).precision_file.read_text() == "bfloat16\n"
    processor(monkeypatch)
    assert train_teacher(config, data, tmp_path)["precision"] == "float32"
    assert RunFolder(tmp_path).precision_file.read_text() == "float32\n"


def test_a_damaged_record_is_refused(config, data, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        stop_at(patch, 1)
        train_student(config, data, tmp_path / "a", teacher_folder=tmp_path / "teacher")
    RunFolder(tmp_path / "a").precision_file.write_text("float3")
    with pytest.raises(UserError, match=r"a/precision.txt: damaged; write float32 or bfloat16"):
        train_student(
            config, data, tmp_path / "a", teacher_folder=tmp_path / "teacher", resume=True
        )
