"""Every method learns in two epochs, and selects without the test recordings."""

import csv
import json
import shutil
from unittest.mock import MagicMock

import pytest
import torch

from factories import refused
from spikebridge.data.collection import cache_folder
from spikebridge.data.datasets.folders import with_simulated_events
from spikebridge.data.manifest import Manifest
from spikebridge.data.prepared import prepare
from spikebridge.models.build import build_student
from spikebridge.results.audit import audit
from spikebridge.results.trained import evaluate_run
from spikebridge.run_folder import RunFolder
from spikebridge.runs.tasks import student_task
from spikebridge.runs.train import train_student
from spikebridge.settings.presets import methods
from spikebridge.training.loop import fit
from spikebridge.training.tasks import StudentTask, TeacherTask


def records(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", methods())
def test_method_learns(make_config, tmp_path, method):
    config = make_config(method, train={"batches_per_epoch": 40}, teacher={"epochs": 4})
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    result = train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    chance = 100 / 3
    assert result["val_top1"] > 1.5 * chance
    assert result["test_top1"] > 1.5 * chance
    steps = [r for r in records(tmp_path / "run") if r["kind"] == "step"]
    first = sum(r["losses"]["total"] for r in steps[:5])
    last = sum(r["losses"]["total"] for r in steps[35:40])
    if method != "pretrain-finetune":
        assert last < first
    assert (tmp_path / "teacher").exists() == any("kd" in r["losses"] for r in steps)


def test_test_recordings_are_read_once_after_the_selection(make_config, tmp_path, monkeypatch):
    seen = []
    for task in (StudentTask, TeacherTask):
        original = task.evaluate

        def spy(self, split, original=original):
            seen.append((type(self).__name__, split))
            return original(self, split)

        monkeypatch.setattr(task, "evaluate", spy)
    config = make_config(train={"epochs": 3})
    data = prepare(config.data, config.seed)
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    assert seen == [
        ("TeacherTask", "validation"),
        ("TeacherTask", "test"),
        ("StudentTask", "validation"),
        ("StudentTask", "validation"),
        ("StudentTask", "validation"),
        ("StudentTask", "test"),
    ]


def test_result_is_that_of_the_epoch_best_on_validation(make_config, tmp_path):
    config = make_config("kt", train={"epochs": 4})
    data = prepare(config.data, config.seed)
    result = train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    evaluations = [r for r in records(tmp_path / "run") if r["kind"] == "eval"]
    assert [r["split"] for r in evaluations] == ["validation"] * 4
    best = max(evaluations, key=lambda r: (r["top1"], -r["loss"]))
    assert result["best_epoch"] == best["epoch"]
    assert result["val_top1"] == best["top1"]
    with open(tmp_path / "run" / "predictions.csv") as stream:
        rows = list(csv.DictReader(stream))
    right = sum(row["label"] == row["prediction"] for row in rows)
    assert result["test_top1"] == pytest.approx(100 * right / len(rows))
    assert {row["file"] for row in rows} == {
        e.file for e in data.manifest.select("recording", "test")
    }


def test_nothing_is_selected_before_the_dvs_stream_is_trained(make_config, tmp_path):
    config = make_config("pretrain-finetune", train={"epochs": 4})
    data = prepare(config.data, config.seed)
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    evaluations = [r for r in records(tmp_path / "run") if r["kind"] == "eval"]
    assert [r["epoch"] for r in evaluations] == [2, 3]


@pytest.fixture
def make_task(make_config):
    """Makes the task of a student that is trained from nothing, with changes of `train`."""

    def make(**train):
        config = make_config("scratch", train=train)
        data = prepare(config.data, config.seed)
        student = build_student(config.student, 3, config.data.size, two_heads=False)
        return student_task(config, data, student, torch.device("cpu"))

    return make


def test_progress_tells_no_accuracy_before_the_first_evaluation(make_task, tmp_path, monkeypatch):
    bar, notes = MagicMock(), []
    bar.__enter__.return_value.update = lambda shown, advance, note: notes.append(note)
    monkeypatch.setattr("spikebridge.training.loop._progress_bar", lambda: bar)
    task = make_task(epochs=4, evaluate_every=2)
    best, _ = fit(task, task.settings, tmp_path, description="")
    assert notes[:9] == [""] * 9  # Five steps an epoch.
    assert all(note.startswith("best validation ") for note in notes[9:])
    assert notes[-1] == f"best validation {best.top1:.1f} %"


def test_an_exception_of_the_listener_ends_training_with_its_log_whole(make_task, tmp_path):
    task = make_task(epochs=4)
    heard = []

    def listen(epoch, evaluation):
        heard.append((epoch, evaluation.top1))
        if epoch == 1:
            raise LookupError("hopeless")

    with pytest.raises(LookupError, match="hopeless"):
        fit(task, task.settings, tmp_path, description="", on_evaluation=listen)
    evaluations = [r for r in records(tmp_path) if r["kind"] == "eval"]
    assert heard == [(r["epoch"], r["top1"]) for r in evaluations]
    assert [epoch for epoch, _ in heard] == [0, 1]


def test_a_class_without_photos_is_trained_on_events_alone(make_config, recipe, tmp_path):
    """All four methods, a teacher that never saw the class, and a clean audit."""
    photos = tmp_path / "photos"
    shutil.copytree(recipe["data"]["photos"], photos, ignore=lambda *_: ["down"])
    events = with_simulated_events(make_config().data).events
    folders = {"photos": str(photos), "events": events, "sensor": [16, 16]}
    refused(lambda: prepare(make_config(data=folders).data, 0), "'down'", "data.events_alone")
    folders |= {"events_alone": ["down"], "source": {"calibrate": False}}
    changes = {"data": folders, "train": {"batches_per_epoch": 2}}
    for method in ("scratch", "kt", "ckd", "ckd-plus"):
        config, run = make_config(method, **changes), tmp_path / method
        data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
        result = train_student(config, data, run, teacher_folder=tmp_path / "teacher")
        assert result["classes"] == ["across", "down", "slope"]
        assert result["proved"]
        assert {said.label for said in RunFolder(run).predictions(3)} == {0, 1, 2}
        replaced = [r["replaced"] for r in records(run) if "replaced" in r]
        assert (method == "scratch") == (not replaced)
        assert all(share > 0 for share in replaced)
        assert audit(run, cache_folder(config.data)).verdict == "clean"
    assert evaluate_run(run, "test").top1 == pytest.approx(result["test_top1"])
    teacher = Manifest.read(tmp_path / "teacher" / "manifest.csv")
    assert {e.class_name for e in teacher.seen_photos} == {"across", "slope"}
