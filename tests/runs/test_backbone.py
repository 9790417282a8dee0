"""Backbones: taught, resumed, started from, and refused where they have seen too much."""

import dataclasses
import itertools
import json
import os
import shutil
import signal
from pathlib import Path

import pytest
import torch
import yaml
from safetensors.torch import load_file

from factories import photo_folder, png_bytes, refused, tiny_recipe
from spikebridge.base.errors import Interrupted
from spikebridge.base.files import file_sha256
from spikebridge.cli import main
from spikebridge.data.pool import Pool
from spikebridge.data.prepared import prepare
from spikebridge.models.build import build_student
from spikebridge.results.audit import audit
from spikebridge.results.backbone import load_backbone, require_fitting, start_from
from spikebridge.results.comparable import settings_that_matter
from spikebridge.results.export.card import _accuracy
from spikebridge.results.trained import load_run
from spikebridge.run_folder import RunFolder
from spikebridge.runs import backbone as runs_backbone
from spikebridge.runs.train import train_student, train_teacher
from spikebridge.settings import weights
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge, read_recipe
from spikebridge.training.backbone import BackboneTask
from spikebridge.training.checkpoint import load_model, save_model

SHORT = {"epochs": 3, "batches_per_epoch": 2, "batch_size": 6, "warmup_epochs": 0.5}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """A recipe's photos, and a pool of other ones."""
    root = tmp_path_factory.mktemp("taught")
    for index in range(24):
        file = root / "pool" / ("one", "two", "three")[index % 3] / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(png_bytes(500 + index, side=40))
    # Large enough to be compared by likeness.
    photo_folder(root / "photos", classes=("across", "down", "slope"), count=20, side=40)
    return root


@pytest.fixture(scope="module")
def make_config(root):
    """Makes the settings of a student's run, or of a backbone's."""

    def make(method="scratch", **changes):
        settings = merge(tiny_recipe(root), {"teacher": {"epochs": 1}, **changes})
        file = root / "recipe.yaml"
        file.write_text(yaml.safe_dump(settings))
        return config_from(read_recipe(str(file), method), str(file))

    return make


@pytest.fixture(scope="module")
def teach(root, make_config):
    """Teaches a backbone."""

    def act(folder, *, held=None, resume=False, **changes):
        own = {"photos": [str(root / "pool")]} | changes.pop("backbone", {})
        config = make_config(train=SHORT, backbone=own, **changes)
        return runs_backbone.train_backbone(config, folder, held=held, resume=resume)

    return act


@pytest.fixture(scope="module")
def taught(teach, tmp_path_factory) -> Path:
    """A backbone's run."""
    folder = tmp_path_factory.mktemp("whole") / "backbone"
    teach(folder)
    return folder


@pytest.fixture(scope="module")
def teacher(make_config, root) -> Path:
    """A teacher of the recipe's photos, on its split of seed 0."""
    config = make_config("ckd")
    train_teacher(config, prepare(config.data, 0), root / "teacher", shared=True)
    return root / "teacher"


# Teaching -----------------------------------------------------------------------------------------


def test_a_run_holds_the_last_weights_a_card_curves_and_the_pool(taught):
    run = RunFolder(taught)
    result, kept = run.result(), load_file(run.weights_file)
    assert all(name.startswith("backbone.") for name in kept)
    last = torch.load(run.checkpoint_file)["model"]
    for name, tensor in kept.items():  # Statistics are measured again for evaluation.
        measured = name.endswith(("running_mean", "running_var", "num_batches_tracked"))
        assert measured or torch.equal(tensor, last[name]), name
    assert result["best_epoch"] == 2
    assert [e["epoch"] for e in run.metrics("eval")] == [0, 1, 2]
    assert len(run.metrics("step")) == 6
    assert set(run.metrics("step")[0]["losses"]) == {"total", "labels"}
    assert result["photos"] == {"train": 23, "validation": 1, "teacher": 0}
    assert run.pool() == Pool.parse(load_model(run.weights_file)[1]["pool"])
    card = run.card_file.read_text()
    assert "width 0.1" in card
    assert "23 taught" in card


def test_learning_changes_the_features(teach, taught, tmp_path):
    other = teach(tmp_path / "other", seed=1)
    assert other["settings_key"] == RunFolder(taught).result()["settings_key"]
    ours, theirs = (load_file(f / "model.safetensors") for f in (taught, tmp_path / "other"))
    assert any(not torch.equal(ours[name], theirs[name]) for name in ours)


@pytest.mark.parametrize("step", [0, 3, 5])
def test_a_run_stopped_by_ctrl_c_goes_on_to_the_same_bits(
    teach, taught, tmp_path, monkeypatch, step
):
    original, number = BackboneTask.losses, itertools.count()

    def losses(self, tensors):
        result = original(self, tensors)
        if torch.is_grad_enabled() and next(number) == step:
            os.kill(os.getpid(), signal.SIGINT)
        return result

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(BackboneTask, "losses", losses)
        teach(tmp_path / "parts")
    refused(lambda: teach(tmp_path / "parts"), "--resume")
    teach(tmp_path / "parts", resume=True)
    one, other = taught, tmp_path / "parts"
    assert (one / "model.safetensors").read_bytes() == (other / "model.safetensors").read_bytes()
    assert (one / "metrics.jsonl").read_text() == (other / "metrics.jsonl").read_text()
    results = [RunFolder(folder).result() for folder in (one, other)]
    assert results[0] | {"seconds": 0} == results[1] | {"seconds": 0}


def test_an_embedding_goes_on_to_the_same_bits_too(
    teach, make_config, teacher, tmp_path, monkeypatch
):
    learn = {"teacher": {"checkpoint": str(teacher)}, "backbone": {"learn": "both"}}
    whole = teach(tmp_path / "whole", **learn)
    assert whole["photos"]["teacher"] > 0
    original, number = BackboneTask.losses, itertools.count()

    def losses(self, tensors):
        if torch.is_grad_enabled() and next(number) == 2:
            os.kill(os.getpid(), signal.SIGINT)
        return original(self, tensors)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(BackboneTask, "losses", losses)
        teach(tmp_path / "parts", **learn)
    teach(tmp_path / "parts", resume=True, **learn)
    ours, theirs = (tmp_path / name / "model.safetensors" for name in ("whole", "parts"))
    assert ours.read_bytes() == theirs.read_bytes()
    step = RunFolder(tmp_path / "parts").metrics("step")[0]
    assert set(step["losses"]) == {"total", "labels", "embedding"}
    # What its teacher saw has been seen by the backbone, too.
    other = make_config(seed=1, student={"weights": str(tmp_path / "whole")})
    data = prepare(other.data, 1)
    act = lambda: train_student(other, data, tmp_path / "run", teacher_folder=tmp_path / "t")  # noqa: E731
    line = refused(act, "was taught on", "photos/")
    assert "held-out" in line


def test_what_its_teacher_saw_is_looked_at_from_any_folder(
    teach, teacher, make_config, root, tmp_path, monkeypatch
):
    """Paths in a teacher's manifest may be relative to the folder where it was trained."""
    monkeypatch.chdir(root)
    config = make_config("ckd", data={"photos": "photos"})
    train_teacher(config, prepare(config.data, 0), tmp_path / "teacher", shared=True)
    monkeypatch.chdir(tmp_path)
    learn = {"teacher": {"checkpoint": "teacher"}, "backbone": {"learn": "both"}}
    result = teach(tmp_path / "run", **learn)
    pool = RunFolder(tmp_path / "run").pool()
    assert pool is not None
    assert all(p.look for p in pool.select("teacher"))
    assert result["unproved"] == []
    monkeypatch.setattr("spikebridge.data.pool.unchanged", lambda entries, *_: list(entries)[1:])
    (doubt,) = teach(tmp_path / "other", **learn)["unproved"]
    assert "1 photos that the teacher was trained on" in doubt


def test_photos_without_labels_are_learnt_from_by_embedding(teach, root, teacher, tmp_path):
    nameless = {"photos": [], "unlabelled": [str(root / "pool")], "learn": "embedding"}
    for name in ("small-cnn", "resnet18"):  # Untrained, both.
        own = {"backbone": nameless, "teacher": {"name": name}}
        refused(lambda o=own: teach(tmp_path / "run", **o), name, "teacher.checkpoint")
    result = teach(tmp_path / "run", backbone=nameless, teacher={"checkpoint": str(teacher)})
    assert result["classes"] == []
    assert result["val_top1_is"] == "retrieval"


def test_labels_that_are_not_there_are_asked_for(teach, root, tmp_path):
    act = lambda **own: teach(tmp_path / "run", backbone=own)  # noqa: E731
    refused(lambda: act(photos=[str(root / "pool/one")]), "two classes", "embedding")
    refused(lambda: act(unlabelled=[str(root / "photos")]), "have no label", "both")


def test_a_run_on_other_photos_is_not_gone_on_with(teach, root, tmp_path, monkeypatch):
    shutil.copytree(root / "pool", tmp_path / "pool")
    own = {"photos": [str(tmp_path / "pool")]}
    original = BackboneTask.losses

    def losses(self, tensors):
        os.kill(os.getpid(), signal.SIGINT)
        return original(self, tensors)

    with monkeypatch.context() as patch, pytest.raises(Interrupted):
        patch.setattr(BackboneTask, "losses", losses)
        teach(tmp_path / "run", backbone=own)
    (tmp_path / "pool/one/0.png").unlink()
    refused(lambda: teach(tmp_path / "run", backbone=own, resume=True), "other photos (24 then")


# Starting from one --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("size", "classes", "steps"), [((8, 8), 3, 2), ((16, 12), 5, 4), ((48, 48), 2, 1)]
)
def test_other_sizes_classes_and_time_steps_fit(make_config, taught, size, classes, steps):
    backbone, config = load_backbone(str(taught)), make_config()
    torch.manual_seed(3)
    student = build_student(config.student, classes, size)
    heads = {k: v.clone() for k, v in student.state_dict().items() if k.startswith("head")}
    start_from(student, backbone)
    for name, tensor in student.state_dict().items():
        assert torch.equal(tensor, heads[name] if name in heads else backbone.weights[name]), name
    assert any("running_mean" in name and tensor.abs().sum() > 0
               for name, tensor in student.state_dict().items())  # fmt: skip
    assert student(torch.rand(steps, 2, 2, *size)).logits_TBC.shape == (steps, 2, classes)


@pytest.mark.parametrize("method", ["scratch", "ckd", "pretrain-finetune", "ckd-plus"])
def test_every_method_starts_from_it(make_config, root, taught, tmp_path, method):
    config = make_config(
        method,
        student={"weights": str(taught)},
        train={"epochs": 1, "batches_per_epoch": 1, "lr": 1e-9, "warmup_epochs": 0},
    )
    data = prepare(config.data, 0, simulated_source=config.needs_simulated_source)
    result = train_student(config, data, tmp_path / "run", teacher_folder=root / "teacher")
    ours, theirs = (load_file(f / "model.safetensors") for f in (tmp_path / "run", taught))
    for name, tensor in theirs.items():
        if "running" not in name and "num_batches" not in name:
            assert torch.allclose(ours[name], tensor, atol=1e-5), name
    written = RunFolder(tmp_path / "run").settings()["student"]["weights"]
    assert written == f"{taught}@{result['backbone']['sha256'][:12]}"
    assert RunFolder(tmp_path / "run").pool() == RunFolder(taught).pool()
    assert load_run(tmp_path / "run").classes == data.classes
    found = audit(tmp_path / "run", root / "cache")
    assert (found.verdict, found.leaks) == ("clean", ())
    assert any("photos of the backbone" in check for check in found.checks)
    assert f"backbone {taught}, SHA-256" in _accuracy("made", config, result, None)
    (tmp_path / "run/pool.csv").unlink()
    assert "is missing" in audit(tmp_path / "run", root / "cache").unproved[0]


@pytest.mark.parametrize(
    ("student", "words"),
    [({"width": 0.2}, "student.width 0.1, not 0.2"), ({"neuron": "relu"}, "neuron lif, not relu"),
     ({"name": "resnet18-snn"}, "student.name vgg-snn, not resnet18-snn"),
     ({"tau": 3.0}, "student.tau 2.0, not 3.0")],
)  # fmt: skip
def test_a_mismatch_is_one_line(make_config, taught, tmp_path, student, words):
    config = make_config(student={"weights": str(taught)} | student)
    data = prepare(config.data, 0)
    act = lambda: train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "t")  # noqa: E731
    refused(act, words)
    assert not (tmp_path / "run").exists()


def test_what_is_no_backbone_is_refused(make_config, root, taught, tmp_path):
    refused(lambda: load_backbone("photos-v7"), "'photos-v7'", "no weights there")
    student = make_config()
    data = prepare(student.data, 0)
    train_student(student, data, tmp_path / "run", teacher_folder=tmp_path / "teacher")
    refused(lambda: load_backbone(str(tmp_path / "run")), "holds a student, not a backbone")
    recorded = f"{taught}@{'0' * 12}"
    refused(lambda: load_backbone(recorded), "not the file that was recorded", "000000000000")
    again = make_config(student={"weights": str(taught)})
    refused(lambda: runs_backbone.train_backbone(again, tmp_path / "b"), "fresh weights")
    for words in (["evaluate", str(taught)], ["compare", str(taught)], ["audit", str(taught)]):
        assert main(words) == 2


def test_backbones_that_only_their_seed_tells_apart_are_averaged(make_config, taught):
    settings = {"student": {"weights": "a@012345678901"}}
    one = {"backbone": {"settings_key": "k" * 20, "sha256": "0" * 64}}
    other = {"backbone": {"settings_key": "k" * 20, "sha256": "1" * 64}}
    third = {"backbone": {"settings_key": "m" * 20, "sha256": "1" * 64}}
    found = [settings_that_matter(settings, result) for result in (one, other, third)]
    assert found[0] == found[1] != found[2]
    assert settings_that_matter({}, {}) == {} == settings_that_matter(
        {"backbone": {"photos": ["a"]}}, {}
    )  # fmt: skip


def test_a_shipped_backbone_is_found_by_its_name(make_config, taught, tmp_path, monkeypatch):
    monkeypatch.setattr(weights, "_SHIPPED", tmp_path)
    refused(lambda: load_backbone("photos-v1"), "photos-v1", "this version ships none")
    tensors, description = load_model(taught / "model.safetensors")
    half = {k: v.half() if v.is_floating_point() else v for k, v in tensors.items()}
    save_model(tmp_path / "photos-v1.safetensors", half, description)
    backbone = load_backbone("photos-v1")
    assert all(v.dtype != torch.float16 for v in backbone.weights.values())
    refused(lambda: load_backbone("photos-v2"), "photos-v1", "did you mean")


def test_the_backbone_that_ships_loads_and_is_refused_where_it_has_seen_the_photos():
    for file in weights.shipped_weights().values():
        assert file.stat().st_size <= 5_000_000
        assert file_sha256(file) in file.with_suffix(".md").read_text(encoding="utf-8")
    backbone, recipe = (
        load_backbone("photos-v1"),
        config_from(read_recipe("digits", "ckd"), "digits"),
    )
    assert len(backbone.pool.photos) > 5000
    require_fitting(backbone, recipe.student, {"digits"})
    student = build_student(recipe.student, 10, recipe.data.size, two_heads=True)
    start_from(student, backbone)
    for name in ("caltech101", "ncaltech101"):
        words = "photos-v1", "was taught on photos of Caltech101"
        refused(lambda name=name: require_fitting(backbone, recipe.student, {name}), *words)


# Leaks --------------------------------------------------------------------------------------------


def test_a_backbone_that_saw_a_held_out_photo_is_refused_and_audited(
    make_config, root, teach, tmp_path
):
    config = make_config()
    data = prepare(config.data, 0)
    tested = next(e for e in data.manifest.held_photos if e.split == "test")
    shutil.copytree(root / "pool", tmp_path / "pool")
    shutil.copy(tested.file, tmp_path / "pool/one/renamed.png")
    own = {"photos": [str(tmp_path / "pool")]}
    teach(tmp_path / "leaking", backbone=own)
    leaking = make_config(student={"weights": str(tmp_path / "leaking")})
    act = lambda: train_student(leaking, data, tmp_path / "run", teacher_folder=tmp_path / "t")  # noqa: E731
    refused(act, "renamed.png", tested.file, "spikebridge backbone")
    assert not (tmp_path / "run").exists()

    # The same pool, which now leaves out what the split holds out.
    teach(tmp_path / "legal", backbone=own, held=data.manifest)
    assert "renamed.png" in (tmp_path / "legal/left-out.txt").read_text()
    legal = make_config(student={"weights": str(tmp_path / "legal")})
    train_student(legal, data, tmp_path / "run", teacher_folder=tmp_path / "t")
    assert audit(tmp_path / "run", root / "cache").verdict == "clean"

    # A run that did not refuse it is found out, also when the pool's files are gone.
    shutil.copy(tmp_path / "leaking/pool.csv", tmp_path / "run/pool.csv")
    shutil.rmtree(tmp_path / "pool")
    found = audit(tmp_path / "run", root / "cache")
    assert found.verdict == "leak"
    assert any("renamed.png" in leak.seen for leak in found.leaks)


def test_data_that_a_backbone_has_seen_whole_are_refused_by_name(make_config, teach, tmp_path):
    teach(tmp_path / "seen", backbone={"sets": ["Photos"]})
    config = make_config(student={"weights": str(tmp_path / "seen")})
    data = prepare(config.data, 0)
    data = dataclasses.replace(data, name="N-Photos 101")
    refused(
        lambda: train_student(config, data, tmp_path / "run", teacher_folder=tmp_path / "t"),
        "photos of Photos", "N-Photos 101",
    )  # fmt: skip
    assert {p.pair for p in load_backbone(str(tmp_path / "seen")).pool.photos} == {""}


# The command --------------------------------------------------------------------------------------


def test_the_command(root, tmp_path, capsys):
    settings = tiny_recipe(root)
    file = tmp_path / "recipe.yaml"
    file.write_text(yaml.safe_dump(settings))
    (tmp_path / "pool/cup").mkdir(parents=True)
    shutil.copytree(root / "pool", tmp_path / "pool", dirs_exist_ok=True)
    (tmp_path / "pool/cup/broken.jpg").write_bytes(b"no photo")
    data = prepare(config_from(settings, "recipe").data, 0)
    held = data.manifest.held_photos[0]
    shutil.copy(held.file, tmp_path / "pool/cup/held.png")
    words = ["backbone", "--photos", str(tmp_path / "pool"), "--out", str(tmp_path / "run"),
             "--recipe", str(file), "--train", json.dumps(SHORT)]  # fmt: skip
    assert main(words) == 0
    said = capsys.readouterr()
    assert "k nearest neighbours" in said.out
    assert str(tmp_path / "pool/cup/broken.jpg") in said.err
    assert str(tmp_path / "pool/cup/held.png") in said.err
    used = RunFolder(tmp_path / "run").settings()
    assert used["student"]["width"] == 0.1
    assert used["data"]["photo_views"]["mixup"]
    assert used["train"]["epochs"] == 3
    assert main(words) == 0
    assert "taught already" in capsys.readouterr().out

    data.manifest.write(tmp_path / "manifest.csv")
    words[words.index("--recipe")], words[words.index(str(file))] = (
        "--manifest", str(tmp_path / "manifest.csv"))  # fmt: skip
    words[words.index(str(tmp_path / "run"))] = str(tmp_path / "other")
    words += ["--student.width", "0.1", "--data.cache", str(root / "cache")]
    words += ["--data.size", "[8, 8]", "--data.time_steps", "2"]
    assert main(words) == 0
    assert str(tmp_path / "pool/cup/held.png") in (tmp_path / "other/left-out.txt").read_text()
    assert main(["backbone", "--out", str(tmp_path / "x")]) == 2
    assert "--photos" in capsys.readouterr().err
