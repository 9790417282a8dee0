"""Runs on photos without labels: who is taken, who is turned away, and what the run says of it."""

import csv
import itertools
import json
import os
import shutil
import signal
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file

from factories import refused
from spikebridge.base.errors import Interrupted
from spikebridge.cli import main
from spikebridge.data.feed.batches import PairedBatches
from spikebridge.data.prepared import prepare
from spikebridge.results.audit import audit
from spikebridge.results.compare import compare
from spikebridge.results.report import write_report
from spikebridge.runs import train as runs_train
from spikebridge.runs.sweep.trial import without_test
from spikebridge.runs.train import select_student, train_student, train_teacher
from spikebridge.runs.unlabelled import answer_twice, mean_classifier, nearest_class
from spikebridge.training.tasks import StudentTask

TEACHER = {"epochs": 12, "lr": 0.01}


@pytest.fixture(scope="module")
def foreign(tmp_path_factory) -> Path:
    """Photos of none of the classes: noise, in sub-folders."""
    folder = tmp_path_factory.mktemp("foreign")
    for index in range(12):
        file = folder / f"trip{index % 2}" / f"{index}.png"
        file.parent.mkdir(exist_ok=True)
        pixels = np.random.default_rng(index).integers(0, 256, (20, 24, 3), np.uint8)
        Image.fromarray(pixels).save(file)
    return folder


@pytest.fixture
def unlabelled(make_config, foreign):
    """Makes the configuration of a method with hidden labels and foreign photos."""

    def make(method="ckd", learn="both", labelled=3, **changes):
        data = {"split": {"labelled_photos_per_class": labelled}, "unlabelled": str(foreign)}
        own = {"learn": learn, "least_likeness": 0.6, **changes.pop("unlabelled", {})}
        objective = {"unlabelled": own, **changes.pop("objective", {})}
        return make_config(
            method,
            data={**data, **changes.pop("data", {})},
            objective=objective,
            teacher={**TEACHER, **changes.pop("teacher", {})},
            **changes,
        )

    return make


def train(config, folder, **options):
    data = prepare(config.data, config.seed, simulated_source=config.needs_simulated_source)
    teacher = options.pop("teacher_folder", folder.parent / "teacher")
    return train_student(config, data, folder, teacher_folder=teacher, **options)


def answered(folder):
    with open(folder / "unlabelled.csv", newline="") as stream:
        return list(csv.DictReader(stream))


def note_batches(monkeypatch):
    """All batches that are drawn from now on, by class and file of their photos."""
    drawn, original = [], PairedBatches.drawn

    def noting(self, step):
        batch = original(self, step)
        files = [self.photos.files[row] for row in batch.source_B]
        drawn.extend(zip(files, batch.label_B.tolist(), strict=True))
        return batch

    monkeypatch.setattr(PairedBatches, "drawn", noting)
    return drawn


def interrupt(patch, *steps):
    """Presses Ctrl-C at some of the steps that students take from now on, counted over all runs."""
    original, number = StudentTask.losses, itertools.count(1)

    def losses(self, tensors):
        if torch.is_grad_enabled() and next(number) in steps:  # Not when statistics are measured.
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, tensors)

    patch.setattr(StudentTask, "losses", losses)


def same_result(one, other):
    """Weights and results of two runs agree, but for seconds and where they are."""
    ours, theirs = (load_file(folder / "model.safetensors") for folder in (one, other))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    found = [json.loads((folder / "result.json").read_text()) for folder in (one, other)]
    for result in found:
        del result["seconds"]
    assert found[0] == found[1]


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"method": "ckd-plus", "data": {"source": {"calibrate": False}}},
        {
            "method": "ckd-plus",
            "data": {
                "source": {"in_step": True, "calibrate": False},
                "photo_views": {"crop": 0.5, "mixup": True},
                "augment": {"crop": 0, "flip": False},
            },
        },
    ],
    ids=["photo", "simulated", "in_step"],
)
def test_photos_that_the_teacher_is_sure_of_train_and_others_never(
    unlabelled, tmp_path, monkeypatch, changes
):
    config = unlabelled(**changes)
    drawn = note_batches(monkeypatch)
    result = train(config, tmp_path / "run")
    rows = {row["file"]: row for row in answered(tmp_path / "run")}
    manifest = prepare(config.data, config.seed).manifest
    names = {e.class_name: e.label for e in manifest.entries if e.class_name}
    labelled = {e.file: e.label for e in manifest.select("photo", "train")}
    assert set(rows) == {e.file for e in manifest.select("photo", "unlabelled")}
    assert len(labelled) == 2 * 3
    accepted = {f: names[row["answer"]] for f, row in rows.items() if row["accepted"] == "True"}
    assert {f for f, row in rows.items() if float(row["likeness"]) > 0.61} <= set(accepted)
    assert 0 < len(accepted) < len(rows)
    assert drawn
    assert all((labelled | accepted)[file] == label for file, label in drawn)
    assert accepted.keys() & {file for file, _ in drawn}
    told = result["unlabelled"]
    assert told["photos"] == len(rows)
    assert told["labeller"] == "teacher"
    assert told["accepted"] == len(accepted)
    assert told["turned_away"] == len(rows) - len(accepted)
    counts = Counter(row["answer"] for f, row in rows.items() if f in accepted)
    assert told["accepted_by_class"] == {name: counts[name] for name in names}
    known = [row for f, row in rows.items() if row["class"]]
    assert told["known"] == len(known) == len(rows) - 12
    taken = [row for row in known if row["accepted"] == "True"]
    assert told["known_accepted"] == len(taken)
    assert told["known_right"] == sum(row["class"] == row["answer"] for row in taken)


def test_a_stopped_run_goes_on_to_the_same_bits(unlabelled, tmp_path, monkeypatch):
    config = unlabelled()
    train(config, tmp_path / "whole")
    teacher = tmp_path / "teacher"
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt(patch, 4)
        train(config, tmp_path / "parts", teacher_folder=teacher)
    assert not (tmp_path / "parts" / "result.json").exists()
    train(config, tmp_path / "parts", teacher_folder=teacher, resume=True)
    same_result(tmp_path / "whole", tmp_path / "parts")


def test_what_is_learned_of_them_makes_a_difference(unlabelled, tmp_path):
    teacher, losses = tmp_path / "teacher", {}
    for learn in ("both", "class", "logits", "none"):
        folder = tmp_path / learn
        result = train(unlabelled(learn=learn), folder, teacher_folder=teacher)
        first = (folder / "metrics.jsonl").read_text().splitlines()[0]
        losses[learn] = json.loads(first)["losses"]
        assert (result["unlabelled"]["accepted"] == 0) == (learn == "none")
        assert (folder / "unlabelled.csv").exists() == (learn != "none")
    both, classes, logits, none = losses.values()
    assert both["hybrid"] == classes["hybrid"] > logits["hybrid"]
    assert both["kd"] == logits["kd"] > classes["kd"]
    assert none["hybrid"] != both["hybrid"]
    # One teacher for all, and it was shown labelled photos alone.
    manifest = prepare(unlabelled().data, 0).manifest
    table = compare([tmp_path / learn for learn in losses])
    assert {row.variant for row in table} == {
        "", *(f"objective.unlabelled.learn {learn}" for learn in ("class", "logits", "none"))
    }  # fmt: skip
    text = (teacher / "manifest.csv").read_text()
    assert "foreign" not in text
    assert text.count("photo,") == sum(e.kind == "photo" and e.label >= 0 for e in manifest.entries)


def test_a_method_without_a_teacher_says_that_it_leaves_them_out(unlabelled, tmp_path, capsys):
    result = train(unlabelled("kt"), tmp_path / "run")
    line = " ".join(capsys.readouterr().err.split())
    assert "photos without labels are left out: method kt has no teacher" in line
    assert result["unlabelled"]["labeller"] is None
    plain = unlabelled("kt", data={"unlabelled": None})
    train(plain, tmp_path / "plain")
    ours, theirs = (load_file(tmp_path / n / "model.safetensors") for n in ("run", "plain"))
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    capsys.readouterr()
    assert "unlabelled" not in train(unlabelled("scratch"), tmp_path / "scratch")
    assert "left out" not in capsys.readouterr().err


@pytest.mark.parametrize("in_step", [False, True])
def test_a_student_labels_them_itself(unlabelled, tmp_path, monkeypatch, in_step):
    data = {"source": {"in_step": in_step, "calibrate": False}}
    own = {"least_likeness": -1.0}
    config = unlabelled("self-training", data=data, unlabelled=own)
    assert config.objective.unlabelled.labeller == "student"
    with monkeypatch.context() as patch:  # Stopped as a labeller, and once more as what it is for.
        interrupt(patch, 4, 15)
        with pytest.raises(Interrupted) as stop:
            train(config, tmp_path / "run")
        assert "--resume" not in str(stop.value)
        with pytest.raises(Interrupted):
            train(config, tmp_path / "run")
    result = train(config, tmp_path / "run", resume=True)
    labeller = json.loads((tmp_path / "run" / "labeller" / "result.json").read_text())
    assert labeller["unlabelled"]["accepted"] == 0
    assert labeller["test_top1"] is None  # Test recordings are read once, by the student itself.
    assert not (tmp_path / "run" / "labeller" / "predictions.csv").exists()
    assert result["unlabelled"]["labeller"] == "student"
    assert result["unlabelled"]["accepted"] == result["unlabelled"]["photos"] > 12
    assert not (tmp_path / "teacher").exists()
    train(config, tmp_path / "whole")
    same_result(tmp_path / "whole", tmp_path / "run")
    assert audit(tmp_path / "run", Path(config.data.cache)).verdict == "clean"


def test_of_one_label_a_class_the_teacher_takes_its_last_epoch(unlabelled, tmp_path, capsys):
    config = unlabelled(labelled=1, teacher={"epochs": 3})
    train(config, tmp_path / "run")
    teacher = json.loads((tmp_path / "teacher" / "result.json").read_text())
    assert (teacher["best_epoch"], teacher["val_top1"]) == (2, None)
    assert teacher["selected_on"] == "last epoch"
    assert "teacher, 3/3, training photos " in capsys.readouterr().err
    assert audit(tmp_path / "teacher", Path(config.data.cache)).verdict == "clean"
    assert audit(tmp_path / "run", Path(config.data.cache)).verdict == "clean"
    (row,) = compare([tmp_path / "teacher"], "validation")
    assert np.isnan(row.mean)
    folders = [tmp_path / "run", tmp_path / "teacher"]
    write_report(folders, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "nan" not in page.split("<style", 1)[0].lower()
    capsys.readouterr()


def test_report_and_card_say_what_became_of_them(unlabelled, foreign, tmp_path):
    pool = tmp_path / "pool"
    shutil.copytree(foreign, pool)
    result = train(unlabelled(data={"unlabelled": str(pool)}), tmp_path / "run")
    told = result["unlabelled"]
    shutil.rmtree(pool)  # Nobody needs it any more.
    words = f"{told['accepted']} of {told['photos']} photos without labels"
    write_report([tmp_path / "run", tmp_path / "teacher"], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert words in page
    assert "not split alike" not in page  # The teacher's manifest lists nothing unsorted.
    assert main(["evaluate", str(tmp_path / "run")]) == 0
    assert main(["export", str(tmp_path / "run"), "--to", "pt2"]) == 0
    assert words in next((tmp_path / "run").glob("*.md")).read_text()


def test_a_labeller_of_another_split_is_refused(unlabelled, tmp_path):
    """It may have been trained on what tests now, where recordings were added in between."""
    config = unlabelled("self-training", data={"source": {"calibrate": False}})
    data = prepare(config.data, config.seed, simulated_source=True)
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    shutil.copytree(tmp_path / "run" / "labeller", tmp_path / "other" / "labeller")
    fewer = replace(data, manifest=replace(data.manifest, entries=data.manifest.entries[1:]))
    act = lambda: train_student(  # noqa: E731
        config, fewer, tmp_path / "other", teacher_folder=tmp_path / "teacher"
    )
    refused(act, tmp_path / "other" / "labeller", "another split", "delete it")
    assert not (tmp_path / "other" / "manifest.csv").exists()


def test_a_run_that_goes_on_gives_answers_as_it_was_begun(unlabelled, tmp_path, monkeypatch):
    """In the precision that it was begun in, and to the same photos; else it is refused."""
    config = unlabelled(train={"precision": "auto"})
    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        interrupt(patch, 4)
        train(config, tmp_path / "run")
    precision = tmp_path / "run" / "precision.txt"
    other = "float32" if "bfloat16" in precision.read_text() else "bfloat16"
    precision.write_text(f"{other}\n")
    used, plain = [], runs_train.answers

    def noted(labeller, data, least, device, autocast):
        with autocast():
            used.append(torch.is_autocast_enabled("cpu"))
        return plain(labeller, data, least, device, autocast)

    monkeypatch.setattr(runs_train, "answers", noted)
    written = (tmp_path / "run" / "unlabelled.csv").read_text()
    (tmp_path / "run" / "unlabelled.csv").write_text(written.replace(",teacher", ",x", 1) + "\n")
    refused(lambda: train(config, tmp_path / "run", resume=True), "unlabelled.csv", "cannot go on")
    assert used == [other == "bfloat16"]


def test_a_sweeps_trial_has_a_labeller_that_sees_no_test_recording(unlabelled, tmp_path):
    config = unlabelled("self-training", data={"source": {"calibrate": False}})
    data = without_test(prepare(config.data, 0, simulated_source=True))
    best = select_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    assert best.weights is not None
    assert (tmp_path / "run" / "unlabelled.csv").exists()


def test_a_teacher_that_knows_hidden_labels_is_refused(unlabelled, make_config, tmp_path):
    knows = make_config(teacher={"epochs": 1})
    train_teacher(knows, prepare(knows.data, 0), tmp_path / "knows")
    config = unlabelled(teacher={"checkpoint": str(tmp_path / "knows")})
    words = "was told the label of", "labelled_photos_per_class"
    refused(lambda: train(config, tmp_path / "run"), *words)


def test_a_study_shares_a_teacher_among_arms_with_and_without_the_folder(
    recipe, foreign, tmp_path, capsys
):
    study = {
        "recipes": ["mine.yaml"],
        "seeds": [0],
        "labelled_per_class": [4],
        "settings": {"data": {"split": {"labelled_photos_per_class": 3}}, "teacher": TEACHER},
        "arms": {
            "alone": {"method": "ckd", "objective": {"unlabelled": {"learn": "none"}}},
            "pool": {"method": "ckd", "data": {"unlabelled": str(foreign)}},
        },
        "against": ["alone"],
    }
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(recipe))
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        assert main(["study", "study.yaml", "--jobs", "1", "--out", "out"]) == 0
    folders = sorted(p.parent.name for p in tmp_path.glob("out/mine/k4/*/result.json"))
    assert folders == ["alone-seed0", "pool-seed0", "teacher-seed0"]
    capsys.readouterr()


# Likeness -----------------------------------------------------------------------------------------


def test_the_answer_is_the_class_in_whose_direction_a_photo_lies():
    known_MF = np.array([[3.0, 1.0], [1.0, 3.0], [1.0, 1.0], [-1.0, -1.0]])  # Their mean: 1, 1.
    label_M = np.array([0, 5, 5, 5])  # Class 5: up, nowhere, and down to the left.
    direction_2 = np.array([0.0, 1.0]) - 0.5**0.5
    direction_2[0] = -(0.5**0.5)
    direction_2 /= np.hypot(*direction_2)
    features_NF = np.array([[6.0, 1.0], [2.0, 2.0], [-1.0, 1.0], [1.0, 9.0]])
    centre_F = known_MF.mean(0)
    answer_N, likeness_N = nearest_class(features_NF, known_MF, label_M, centre_F)
    assert answer_N.tolist() == [0, 0, 5, 5]
    assert likeness_N == pytest.approx([1, 0.5**0.5, -direction_2[0], direction_2[1]])
    moved = 7 * features_NF + 3, 7 * known_MF + 3, label_M, 7 * centre_F + 3
    moved_N, alike_N = nearest_class(*moved)
    assert moved_N.tolist() == answer_N.tolist()
    assert alike_N == pytest.approx(likeness_N)


def at(*degrees: float) -> np.ndarray:
    angle_N = np.radians(degrees)
    return np.stack([np.cos(angle_N), np.sin(angle_N)], 1)


def test_a_class_is_better_known_by_what_was_taken():
    features_NF, known_MF, label_M = at(50, 80, 110, 230, 260, 290), at(0, 180), np.array([0, 1])
    answer_N, likeness_N = nearest_class(features_NF, known_MF, label_M, np.zeros(2))
    assert answer_N.tolist() == [0, 0, 1, 1, 1, 0]
    assert likeness_N[1] < 0.5 < likeness_N[0]
    answer_N, likeness_N = answer_twice(features_NF, known_MF, label_M, 0.5)
    assert answer_N.tolist() == [0, 0, 0, 1, 1, 1]
    assert likeness_N[:3] == pytest.approx(np.cos(np.radians([25, 55, 85])))
    assert likeness_N[3:] == pytest.approx(likeness_N[:3])


def test_a_class_whose_labelled_photo_is_unlike_the_others_takes_those_that_are_nearly_like_it():
    """Without them it would take none: 67 degrees is less like than 0.4, and more than 0.3."""
    close, far = at(*[67] * 12, *[247] * 12), at(*[75] * 12, *[255] * 12)
    known_MF, label_M = at(0, 180), np.array([0, 1])
    answer_N, likeness_N = answer_twice(close, known_MF, label_M, 0.4)
    assert answer_N.tolist() == [0] * 12 + [1] * 12
    # Ten at 67 degrees and the labelled photo, whose mean is at about 61.
    turned = np.degrees(np.arctan2(10 * np.sin(np.radians(67)), 10 * np.cos(np.radians(67)) + 1))
    assert likeness_N == pytest.approx(np.cos(np.radians(67 - turned)))
    assert (answer_twice(far, known_MF, label_M, 0.4)[1] < 0.3).all()


def test_photos_are_seen_from_the_mean_of_all_of_them():
    """A few labelled photos lie at random; what is taken must not depend on that."""
    known_MF, label_M = at(20, 160), np.array([0, 1])
    features_NF = at(10, 170, 190, 350)
    answer_N, likeness_N = answer_twice(features_NF, known_MF, label_M, 0.4)
    assert answer_N.tolist() == [0, 1, 1, 0]  # All are taken.
    taken = np.concatenate([known_MF, features_NF]), np.append(label_M, answer_N)
    centre_F = np.array([0.0, np.sin(np.radians(20)) / 3])
    assert likeness_N == pytest.approx(nearest_class(features_NF, *taken, centre_F)[1])


def test_a_classifier_of_means_answers_likewise_and_is_as_sure_as_it_was_told_to_be():
    random = np.random.default_rng(0)
    label_M = np.repeat([0, 2, 3], 40)
    known_MF = (random.normal(size=(4, 12))[label_M] + random.normal(size=(120, 12))).astype("f4")
    features_NF = random.normal(size=(50, 12)).astype("f4")
    centre_F = random.normal(size=12) / 4
    classifier = mean_classifier(known_MF, label_M, centre_F, 4, confidence=0.8)
    logits_NC = classifier(torch.from_numpy(features_NF))
    answer_N, likeness_N = nearest_class(features_NF, known_MF, label_M, centre_F)
    assert logits_NC.argmax(1).tolist() == answer_N.tolist()
    assert logits_NC.max(1).values.numpy() / classifier.sharpness == pytest.approx(
        likeness_N, abs=1e-5
    )
    assert (logits_NC[:, 1] == -classifier.sharpness).all()  # No photo of this one is known.
    sure_M = classifier(torch.from_numpy(known_MF))[:, [0, 2, 3]].softmax(1).max(1).values
    assert sure_M.mean().item() == pytest.approx(0.8, abs=1e-4)


@pytest.mark.parametrize("photos", [1, 5])
def test_a_classifier_of_means_of_a_single_class_or_photo_is_finite(photos):
    known_MF = np.random.default_rng(0).normal(size=(photos, 6)).astype("f4")
    classifier = mean_classifier(known_MF, np.full(photos, 1), known_MF.mean(0), 3)
    assert classifier(torch.from_numpy(known_MF)).isfinite().all()


def test_the_teacher_guides_by_what_it_answered(unlabelled, tmp_path, monkeypatch):
    """Not by its own head, which has seen the labelled photos alone."""
    config, guides = unlabelled(labelled=1), []
    plain = StudentTask._guidance

    def noted(self, batch):
        guides.append(self.teacher.network)
        return plain(self, batch)

    monkeypatch.setattr(StudentTask, "_guidance", noted)
    data = prepare(config.data, config.seed)
    train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    assert type(guides[0][-1]).__name__ == "MeanClassifier"
    labelled = unlabelled(labelled=1, learn="none")
    train_student(labelled, data, tmp_path / "plain", teacher_folder=tmp_path / "teacher")
    assert isinstance(guides[-1][-1], torch.nn.Linear)
