"""An interrupted run goes on to the bit-identical result of an uninterrupted one."""

import itertools
import json
import os
import signal
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
import yaml
from run_checks import same_run
from safetensors.torch import load_file

from factories import refused
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.cli import main
from spikebridge.data.prepared import prepare
from spikebridge.runs.train import teacher_settings, train_student, train_teacher
from spikebridge.training.tasks import StudentTask, TeacherTask


def run_until(monkeypatch, task, step, action):
    """Makes a task's step number `step`, counted from the call's first, end with an action."""
    original, number = task.losses, itertools.count()

    def patched(self, tensors):
        result = original(self, tensors)
        if torch.is_grad_enabled() and next(number) == step:  # not when statistics are measured
            action()
        return result

    monkeypatch.setattr(task, "losses", patched)


def send_interrupt():
    os.kill(os.getpid(), signal.SIGINT)


def die():
    raise RuntimeError("the power went out")


@pytest.fixture(scope="module")
def data(make_config):
    config = make_config()
    return prepare(config.data, config.seed)


@pytest.fixture(scope="module")
def whole(make_config, data, tmp_path_factory):
    """A run of CKD that nothing stopped; its teacher lies beside it."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    train_student(make_config(), data, folder, teacher_folder=folder.parent / "teacher")
    return folder


@pytest.mark.parametrize("step", [0, 4, 6, 9])
def test_student_stopped_by_ctrl_c_at_any_step(
    make_config, data, whole, tmp_path, monkeypatch, step
):
    config, teacher = make_config(), whole.parent / "teacher"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_until(patch, StudentTask, step, send_interrupt)
        train_student(config, data, tmp_path / "parts", teacher_folder=teacher)
    assert not (tmp_path / "parts" / "result.json").exists()
    spent = torch.load(tmp_path / "parts" / "checkpoint.pt")["seconds"]
    assert spent > 0
    train_student(config, data, tmp_path / "parts", teacher_folder=teacher, resume=True)
    same_run(whole, tmp_path / "parts")
    assert torch.load(tmp_path / "parts" / "checkpoint.pt")["seconds"] > spent or step == 9


def test_student_killed_after_its_last_checkpoint(make_config, data, whole, tmp_path, monkeypatch):
    config, folder, teacher = make_config(), tmp_path / "parts", whole.parent / "teacher"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_until(patch, StudentTask, 2, send_interrupt)
        train_student(config, data, folder, teacher_folder=teacher)
    with monkeypatch.context() as patch, pytest.raises(RuntimeError):
        run_until(patch, StudentTask, 4, die)  # after steps 0 to 2
        train_student(config, data, folder, teacher_folder=teacher, resume=True)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) > 4
    train_student(config, data, folder, teacher_folder=teacher, resume=True)
    same_run(whole, folder)


def test_teacher_stopped_by_ctrl_c(make_config, data, tmp_path, monkeypatch):
    config = make_config()
    train_teacher(config, data, tmp_path / "whole")
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_until(patch, TeacherTask, 3, send_interrupt)
        train_teacher(config, data, tmp_path / "parts")
    train_teacher(config, data, tmp_path / "parts", resume=True)
    same_run(tmp_path / "whole", tmp_path / "parts")


@pytest.mark.parametrize("kind", ["student", "teacher"])
def test_a_run_does_not_go_on_on_another_split(
    make_config, data, whole, tmp_path, monkeypatch, kind
):
    """A recording that is added between Ctrl-C and --resume has the split drawn otherwise."""
    task, folder = {"student": StudentTask, "teacher": TeacherTask}[kind], tmp_path / "run"
    options = {} if kind == "teacher" else {"teacher_folder": whole.parent / "teacher"}
    train = {"student": train_student, "teacher": train_teacher}[kind]
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_until(patch, task, 3, send_interrupt)
        train(make_config(), data, folder, **options)
    written = (folder / "manifest.csv").read_bytes()
    entries = data.manifest.entries
    fewer = replace(data, manifest=replace(data.manifest, entries=entries[1:]))
    act = lambda: train(make_config(), fewer, folder, **options, resume=True)  # noqa: E731
    assert "manifest.csv" in refused(act, folder, "its split was another one", "restore")
    assert (folder / "manifest.csv").read_bytes() == written
    train(make_config(), data, folder, **options, resume=True)


@pytest.mark.parametrize(
    "way", [{"cuda_graph": False}, {"memory": "low"}, {"checkpoint_minutes": 7.0}]
)
def test_a_run_goes_on_another_way_to_the_same_result(
    make_config, data, whole, tmp_path, monkeypatch, way
):
    teacher = whole.parent / "teacher"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        run_until(patch, StudentTask, 4, send_interrupt)
        train_student(make_config(), data, tmp_path / "run", teacher_folder=teacher)
    config = make_config(train=way)
    train_student(config, data, tmp_path / "run", teacher_folder=teacher, resume=True)
    ours, theirs = (json.loads((f / "result.json").read_text()) for f in (whole, tmp_path / "run"))
    assert ours["settings_key"] == theirs["settings_key"]
    assert ours["test_top1"] == theirs["test_top1"]
    assert teacher_settings(config).train.cuda_graph == config.train.cuda_graph


_CTRL_C = """
import itertools, os, signal, sys
from spikebridge.cli import main
from spikebridge.training.tasks import StudentTask

original, number = StudentTask.losses, itertools.count()

def losses(self, tensors):
    if next(number) == 4:
        os.kill(os.getpid(), signal.SIGINT)
    return original(self, tensors)

StudentTask.losses = losses
sys.exit(main(sys.argv[1:]))
"""


def test_command_stopped_by_ctrl_c_resumes(recipe, tmp_path, capsys):
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(recipe))

    words = ["train", str(file), "--method", "kt", "--out"]
    assert main([*words, str(tmp_path / "whole")]) == 0
    parts = [*words, str(tmp_path / "parts")]
    stopped = subprocess.run(
        [sys.executable, "-c", _CTRL_C, *parts],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert stopped.returncode == 130, stopped.stderr
    assert "--resume" in stopped.stderr.splitlines()[-1]
    assert "Traceback" not in stopped.stderr
    assert main(parts) == 2
    assert "--resume" in capsys.readouterr().err
    assert main([*parts, "--resume"]) == 0
    same_run(tmp_path / "whole", tmp_path / "parts")


def test_same_seed_same_run_and_other_seed_other_run(make_config, tmp_path):
    folders = []
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        config = make_config("kt", seed=seed)
        folders.append(tmp_path / name)
        data = prepare(config.data, seed)
        train_student(config, data, folders[-1], teacher_folder=tmp_path / f"teacher{seed}")
    same_run(folders[0], folders[1])
    ours, theirs = (load_file(folders[i] / "model.safetensors") for i in (0, 2))
    assert not torch.equal(ours["head_dvs.weight"], theirs["head_dvs.weight"])


def test_folder_of_other_settings_names_the_setting(make_config, data, tmp_path):
    train_student(make_config("kt"), data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    with pytest.raises(UserError, match=r"train.lr is 0.5 there and 0.25 here"):
        train_student(
            make_config("kt", train={"lr": 0.25}),
            data,
            tmp_path / "run",
            teacher_folder=tmp_path / "teacher",
        )


def test_finished_run_is_left_as_it_is(make_config, data, tmp_path):
    config = make_config("kt")
    first = train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    before = (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns
    again = train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    assert again == first
    assert (tmp_path / "run" / "model.safetensors").stat().st_mtime_ns == before
