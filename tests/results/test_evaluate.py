"""Evaluation and prediction repeat what training measured."""

import csv
import shutil
from contextlib import contextmanager

import pytest

from spikebridge.cli import main
from spikebridge.data.prepared import prepare
from spikebridge.results import trained as loading
from spikebridge.results.predict import predict
from spikebridge.results.trained import evaluate_run, load_run
from spikebridge.runs.train import train_student


@pytest.fixture(scope="module")
def run(make_config, tmp_path_factory):
    root, config = tmp_path_factory.mktemp("run"), make_config("kt")
    data = prepare(config.data, config.seed)
    train_student(config, data, root / "run", teacher_folder=root / "teacher")
    return root / "run"


def rows(run):
    with open(run / "predictions.csv") as stream:
        return list(csv.DictReader(stream))


def test_evaluation_of_a_run_gives_its_own_result_again(run):
    evaluation = evaluate_run(run, "test")
    stored = rows(run)
    assert evaluation.prediction_N.tolist() == [int(row["prediction"]) for row in stored]
    assert evaluation.files == tuple(row["file"] for row in stored)


def test_evaluation_tells_that_it_goes_on(run, monkeypatch):
    told = []

    @contextmanager
    def working(description):
        told.append(description)
        yield
        told.append("ended")

    original = loading.evaluate_student
    monkeypatch.setattr(loading, "working", working)
    monkeypatch.setattr(
        loading,
        "evaluate_student",
        lambda *given, **more: told.append("evaluated") or original(*given, **more),
    )
    evaluate_run(run, "validation")
    assert told == ["evaluating on validation", "evaluated", "ended"]


def test_prediction_of_a_file_is_that_of_the_test(run):
    stored = rows(run)
    trained = load_run(run)
    predictions = predict(trained, [row["file"] for row in stored], top=3)
    for row, prediction in zip(stored, predictions, strict=True):
        assert prediction.classes[0] == trained.classes[int(row["prediction"])]
        assert prediction.confidences[0] == pytest.approx(float(row["confidence"]), abs=1e-3)
        assert sum(prediction.confidences) == pytest.approx(1, abs=1e-5)


def test_evaluation_refuses_data_that_changed(run, tmp_path, capsys):
    run = shutil.copytree(run, tmp_path / "run")
    manifest = run / "manifest.csv"
    text = manifest.read_text()
    manifest.write_text(text.replace(",train,", ",test,", 1))
    assert main(["evaluate", str(run)]) == 2
    assert "manifest.csv" in capsys.readouterr().err
