"""Two processes on one run: a student is refused, a teacher that both need is waited for."""

import errno
import os
import shutil
import threading

import pytest

from factories import refused
from spikebridge.base.locks import alone
from spikebridge.data.prepared import prepare
from spikebridge.run_folder import RunFolder
from spikebridge.runs.begin import open_run
from spikebridge.runs.train import teacher_settings, train_student, train_teacher


@pytest.fixture
def data(make_config):
    config = make_config()
    return prepare(config.data, config.seed)


def test_a_run_that_another_process_trains_is_refused(make_config, data, tmp_path):
    config, folder = make_config(method="scratch"), tmp_path / "run"
    with alone(folder):
        refused(
            lambda: train_student(config, data, folder, teacher_folder=tmp_path / "teacher"),
            folder,
            "another process trains this run",
        )
    assert [path.name for path in folder.iterdir()] == [".lock"]
    train_student(config, data, folder, teacher_folder=tmp_path / "teacher")
    with alone(folder):  # A finished run needs nobody.
        train_student(config, data, folder, teacher_folder=tmp_path / "teacher")


def test_a_teacher_that_another_process_trains_is_waited_for(
    make_config, data, tmp_path, monkeypatch
):
    config, teacher = make_config(), tmp_path / "teacher"
    train_teacher(config, data, tmp_path / "elsewhere")
    asked, ended = threading.Event(), threading.Event()
    monkeypatch.setattr("spikebridge.base.locks.console.print", lambda *_, **__: asked.set())

    def train():
        train_student(config, data, tmp_path / "student", teacher_folder=teacher)
        ended.set()

    thread = threading.Thread(target=train, daemon=True)
    with alone(teacher):
        thread.start()
        while not asked.wait(0.05):
            assert thread.is_alive()
        assert not ended.wait(0.5)
        shutil.copytree(tmp_path / "elsewhere", teacher, dirs_exist_ok=True)
        (teacher / "metrics.jsonl").unlink()
    thread.join()
    assert ended.is_set()
    assert not (teacher / "metrics.jsonl").exists()  # It was not trained again.


def test_a_teacher_may_become_interrupted_while_one_looks(make_config, data, tmp_path, monkeypatch):
    config, folder = teacher_settings(make_config()), tmp_path / "teacher"
    train_teacher(config, data, folder)
    (folder / "result.json").unlink()
    checkpoint = folder / "checkpoint.pt"
    written = checkpoint.read_bytes()
    checkpoint.unlink()

    def settings_of(run):
        """Another process writes its checkpoint just now."""
        checkpoint.write_bytes(written)
        return original(run)

    original = RunFolder.settings
    monkeypatch.setattr(RunFolder, "settings", settings_of)
    assert open_run(folder, config, shared=True) is None
    refused(lambda: open_run(folder, config), folder, "interrupted run", "--resume")


def test_a_file_system_without_locks_trains(make_config, data, tmp_path, monkeypatch):
    def without(file, how):
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))

    monkeypatch.setattr("spikebridge.base.locks.fcntl.flock", without)
    run = tmp_path / "run"
    train_student(make_config(method="scratch"), data, run, teacher_folder=tmp_path / "teacher")
    assert (run / "result.json").exists()
