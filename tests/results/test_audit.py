"""The audit: every kind of leak, planted, is caught; a clean run is proved clean."""

import json
import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from factories import photo_folder, picture, refused
from spikebridge.base.files import write_json
from spikebridge.cli import main
from spikebridge.data.datasets.catalog import open_collection
from spikebridge.data.manifest import Manifest
from spikebridge.data.prepared import prepare
from spikebridge.results.audit import Audit, audit
from spikebridge.results.export.card import _accuracy
from spikebridge.results.tables import marks_of
from spikebridge.results.trained import load_run
from spikebridge.run_folder import RunFolder
from spikebridge.runs.train import train_student
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import read_recipe
from spikebridge.settings.recorded import plain_settings
from spikebridge.training.checkpoint import load_model, save_model


def _config(root: Path, **split: object) -> Config:
    settings = read_recipe("digits", "ckd") | {
        "data": {
            "name": "folders",
            "photos": str(root / "photos"),
            "size": [8, 8],
            "photo_size": 16,
            "time_steps": 2,
            "simulator": {"width": 16, "height": 16, "frames": 12, "amplitude": 3.0},
            "split": {"validation_per_class": 2, "test_per_class": 2} | split,
            "cache": str(root / "cache"),
        },
        "student": {"width": 0.05},
        "teacher": {"width": 0.1, "epochs": 2, "batch_size": 8},
        "train": {"epochs": 2, "batches_per_epoch": 2, "batch_size": 4, "warmup_epochs": 0},
    }
    return config_from(settings, "test")


def _train(root: Path, **split: object) -> Path:
    config = _config(root, **split)
    data = prepare(config.data, 0)
    train_student(config, data, root / "ckd", teacher_folder=root / "teacher")
    return root / "ckd"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on photos large enough to be compared by likeness."""
    root = tmp_path_factory.mktemp("audited")
    photo_folder(root / "photos", count=12, side=40)
    return _train(root)


@pytest.fixture
def run(trained: Path, tmp_path: Path) -> Path:
    """A copy of the run's folder that a test may tamper with."""
    for name in (
        "manifest.csv",
        "teacher-manifest.csv",
        "result.json",
        "metrics.jsonl",
        "config.yaml",
    ):
        (tmp_path / "run" / name).parent.mkdir(exist_ok=True)
        (tmp_path / "run" / name).write_bytes((trained / name).read_bytes())
    return tmp_path / "run"


def _recordings_of(root: Path, name_of: Callable[[str], str]) -> Path:
    """Simulated recordings of all photos, under names of one's own."""
    config = _config(root)
    for item in open_collection(config.data).recordings:
        file = root / "events" / Path(item.file).parent.name / f"{name_of(item.number)}.bin"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(Path(item.file).read_bytes())
    return root / "events"


def _look(run: Path, trained: Path) -> Audit:
    return audit(run, trained.parent / "cache")


def _move(manifest: Manifest, file: str, split: str) -> Manifest:
    return replace(
        manifest,
        entries=tuple(replace(e, split=split) if e.file == file else e for e in manifest.entries),
    )


def _edit(run: Path, manifest: Manifest) -> None:
    """A run that was trained with another split."""
    manifest.write(run / "manifest.csv")
    result = json.loads((run / "result.json").read_text())
    write_json(run / "result.json", result | {"manifest_sha256": manifest.sha256})


def test_a_clean_run_is_proved_clean(run: Path, trained: Path) -> None:
    found = _look(run, trained)
    assert (found.verdict, found.leaks, found.unproved) == ("clean", (), ())
    assert found.protocol == "clean"
    assert sum("by pair, content and likeness" in check for check in found.checks) == 3
    assert audit(run / "manifest.csv", trained.parent / "cache").verdict == "clean"
    assert audit(trained.parent / "teacher", trained.parent / "cache").verdict == "clean"


def test_a_class_without_photos_is_clean_if_the_teacher_never_saw_it(
    run: Path, trained: Path
) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    without = [
        replace(e, pair="" if e.class_name == "saw" else e.pair)
        for e in manifest.entries
        if (e.kind, e.class_name) != ("photo", "saw")
    ]
    alone = Manifest(tuple(without), manifest.protocol)
    _edit(run, alone)
    found = _look(run, trained)
    assert found.verdict == "unproved"
    (doubt,) = found.unproved
    assert "the teacher was trained on photos of saw" in doubt
    alone.write(run / "teacher-manifest.csv")
    found = _look(run, trained)
    assert (found.verdict, found.unproved) == ("clean", ())
    assert "classes without photos: saw" in found.checks
    config, result = _config(trained.parent), json.loads((run / "result.json").read_text())
    assert "without photos: saw" in _accuracy("made", config, result, alone)
    assert "without photos" not in _accuracy("made", config, result, manifest)


@pytest.mark.parametrize("split", ["train", "validation"])
@pytest.mark.parametrize("held", ["test", "held-out"])
@pytest.mark.parametrize("who", ["manifest.csv", "teacher-manifest.csv"])
def test_a_photo_of_a_held_out_recording_is_caught_by_its_pair(
    run: Path, trained: Path, held: str, split: str, who: str
) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    photo = manifest.select("photo", held)[1]
    planted = _move(Manifest.read(run / who), photo.file, split)
    if who == "manifest.csv":
        _edit(run, planted)
    else:
        planted.write(run / who)
    (leak,) = _look(run, trained).leaks
    assert (leak.kind, leak.seen) == ("pair", photo.file)
    assert photo.pair in leak.held.replace(".bin", "")
    assert (
        leak.where
        == ("this" if who == "manifest.csv" else "the teacher")
        + leak.where[4 if who == "manifest.csv" else 11 :]
    )
    assert ("teacher" in leak.where) == (who == "teacher-manifest.csv")


def _planted(run: Path, file: Path, sha256: str | None = None) -> None:
    """Put a file among the teacher's training photos under another name and class."""
    from spikebridge.base.files import file_sha256

    teacher = Manifest.read(run / "teacher-manifest.csv")
    entry = replace(
        teacher.select("photo", "train")[0],
        file=str(file),
        pair="other/x",
        number="x",
        sha256=sha256 or file_sha256(file),
    )
    replace(teacher, entries=(*teacher.entries, entry)).write(run / "teacher-manifest.csv")


def test_a_copy_is_caught_by_its_content(run: Path, trained: Path, tmp_path: Path) -> None:
    photo = Manifest.read(run / "manifest.csv").select("photo", "test")[2]
    copy = tmp_path / "holiday.png"
    copy.write_bytes(Path(photo.file).read_bytes())
    _planted(run, copy)
    (leak,) = _look(run, trained).leaks
    assert (leak.kind, leak.held, leak.seen) == ("content", photo.file, str(copy))


def test_a_likeness_is_caught_by_its_looks(run: Path, trained: Path, tmp_path: Path) -> None:
    photo = Manifest.read(run / "manifest.csv").select("photo", "held-out")[0]
    likeness = tmp_path / "holiday.jpg"
    Image.open(photo.file).resize((60, 50)).save(likeness, quality=50)
    _planted(run, likeness)
    (leak,) = _look(run, trained).leaks
    assert (leak.kind, leak.held) == ("likeness", photo.file)
    assert leak.seen.startswith(f"{likeness} (")
    assert "256 bits differ" in leak.seen


def test_a_recording_in_two_splits_is_caught(run: Path, trained: Path) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    test, train = (manifest.select("recording", s)[0] for s in ("test", "train"))
    entries = [
        replace(e, sha256=test.sha256) if e.file == train.file else e for e in manifest.entries
    ]
    _edit(run, replace(manifest, entries=tuple(entries)))
    leak, *shown = _look(run, trained).leaks
    assert leak.kind == "recording"
    assert test.file in leak.held
    assert train.file in leak.seen
    # The photos of both are the photos of what tests.
    assert {one.kind for one in shown} == {"pair"}
    assert {Path(one.seen).stem for one in shown} == {train.number, test.number}


def test_selection_on_test_is_caught(run: Path, trained: Path) -> None:
    file = run / "metrics.jsonl"
    file.write_text(file.read_text().replace('"split": "validation"', '"split": "test"', 1))
    (leak,) = _look(run, trained).leaks
    assert leak.kind == "selection"
    assert "test, validation" in leak.seen


def test_an_epoch_that_validation_did_not_choose_is_caught(run: Path, trained: Path) -> None:
    result = json.loads((run / "result.json").read_text())
    write_json(run / "result.json", result | {"best_epoch": 1 - result["best_epoch"]})
    (leak,) = _look(run, trained).leaks
    assert leak.kind == "selection"
    assert "was kept" in leak.held


def test_what_cannot_be_proved_is_said(run: Path, trained: Path) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    joined_by_class = replace(
        manifest, entries=tuple(replace(e, pair="") for e in manifest.entries)
    )
    joined_by_class.write(run / "manifest.csv")
    (run / "teacher-manifest.csv").unlink()
    found = _look(run, trained)
    assert found.verdict == "unproved"
    doubts = "; ".join(found.unproved)
    assert "which photo they show is unknown of 8 of 8 recordings" in doubts
    assert "not the manifest that the run was trained with" in doubts
    assert "carries no manifest" in doubts


def test_photos_that_are_gone_or_changed_are_said(run: Path, trained: Path, tmp_path: Path) -> None:
    _planted(run, tmp_path / "gone.png", "0" * 64)
    Image.fromarray(picture(5, 40)).save(tmp_path / "changed.png")
    _planted(run, tmp_path / "changed.png", "1" * 64)
    found = _look(run, trained)
    assert found.verdict == "unproved"
    assert any("2 photos are no longer" in doubt for doubt in found.unproved)


@pytest.mark.parametrize(
    ("split", "mark", "told"),
    [
        (
            {"protocol": "published"},
            "selected on test, sources show test recordings (protocol published)",
            "selection: 1 found (the checkpoint)",
        ),
        (
            {"protocol": "leaked"},
            "leaked on purpose (protocol leaked), test read during training",
            "selection: 1 found (the training)",
        ),
        (
            {"protocol": "leaked", "leak": {"teacher": True}},
            "leaked on purpose (protocol leaked), test read during training",
            "pair: 2 found (the teacher's photos)",
        ),
    ],
    ids=["published", "leaked", "leaked to the teacher"],
)
def test_what_a_protocol_lets_training_see_is_counted_and_named_at_every_figure(
    tmp_path: Path, capsys: pytest.CaptureFixture, split: dict, mark: str, told: str
) -> None:
    photo_folder(tmp_path / "photos", count=16, side=40)
    config = _config(tmp_path, **split)
    leaked = split["protocol"] == "leaked"
    config = replace(config, train=replace(config.train, read_test=leaked))
    run, settings = tmp_path / "ckd", tmp_path / "mine.yaml"
    settings.write_text(yaml.safe_dump(plain_settings(config)))
    assert main(["train", str(settings), "--out", str(run)]) == 0
    assert mark in capsys.readouterr().out.splitlines()[-1]
    assert main(["audit", str(run)]) == 3
    page = capsys.readouterr().out
    manifest = Manifest.read(run / "manifest.csv")
    shown, tests = len(manifest.leaked_recordings), len(manifest.select("recording", "test"))
    taught = 0 if leaked and "leak" not in split else shown
    assert 0 < shown <= tests == 4
    assert (
        f"photos of test recordings: of {shown} of {tests} are among the student's sources, of "
        f"{taught} in the teacher's training" in page
    )
    assert f"ALLOWED   {told}" in page
    assert "LEAK  " not in page
    assert main(["compare", str(run)]) == 0
    assert mark in capsys.readouterr().out
    assert main(["evaluate", str(run)]) == 0
    assert mark in capsys.readouterr().out
    marks = marks_of(RunFolder(run).result())
    card = _accuracy("x", config, RunFolder(run).result(), None)
    assert all(f"**{one}**" in card for one in marks)
    # What the protocol does not allow is a leak as before.
    train, test = (manifest.select("recording", s)[0] for s in ("train", "test"))
    entries = [replace(e, sha256=test.sha256) if e == train else e for e in manifest.entries]
    _edit(run, replace(manifest, entries=tuple(entries)))
    assert audit(run, tmp_path / "cache").verdict == "leak"


def test_test_recordings_that_were_read_in_secret_are_a_leak(run: Path, trained: Path) -> None:
    lines = (run / "metrics.jsonl").read_text()
    record = json.dumps({"kind": "test", "split": "test", "epoch": 0, "top1": 50.0})
    (run / "metrics.jsonl").write_text(f"{lines}{record}\n")
    (leak,) = _look(run, trained).leaks
    assert "were read at 1 evaluations" in str(leak)
    settings = yaml.safe_load((run / "config.yaml").read_text())
    settings["train"]["read_test"] = True
    (run / "config.yaml").write_text(yaml.safe_dump(settings))
    assert _look(run, trained).verdict == "allowed"


def test_exit_codes_and_json(
    run: Path, trained: Path, tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    cache = ["--cache", str(trained.parent / "cache")]
    assert main(["audit", str(run), *cache, "--json", str(tmp_path / "found.json")]) == 0
    assert "verdict: clean" in capsys.readouterr().out
    assert json.loads((tmp_path / "found.json").read_text())["verdict"] == "clean"
    photo = Manifest.read(run / "manifest.csv").select("photo", "test")[0]
    _edit(run, _move(Manifest.read(run / "manifest.csv"), photo.file, "train"))
    assert main(["audit", str(run / "manifest.csv"), *cache]) == 1
    assert photo.file in capsys.readouterr().out
    (run / "teacher-manifest.csv").unlink()
    _edit(run, Manifest.read(trained / "manifest.csv"))
    assert main(["audit", str(run), *cache]) == 2
    assert "UNPROVED" in capsys.readouterr().out
    (run / "metrics.jsonl").write_text("{")
    refused(lambda: _look(run, trained), run, "damaged", "audit its manifest.csv alone")
    refused(lambda: _look(tmp_path, trained), "manifest.csv", "no such manifest")


def test_every_figure_of_an_unproved_run_carries_the_mark(
    tmp_path: Path, capsys: pytest.CaptureFixture
) -> None:
    photo_folder(tmp_path / "photos", count=12, side=16)
    events = _recordings_of(tmp_path, lambda name: f"take-{name}")
    settings = tmp_path / "mine.yaml"
    config = _config(tmp_path, labelled_per_class=2)
    config = replace(config, data=replace(config.data, events=str(events), sensor=(16, 16)))
    settings.write_text(yaml.safe_dump(plain_settings(config)))
    assert main(["train", str(settings), "--out", str(tmp_path / "ckd")]) == 0
    last = capsys.readouterr().out.splitlines()[-1]
    assert "test top-1" in last
    assert "unproved: a leak cannot be excluded" in last
    result = json.loads((tmp_path / "ckd/result.json").read_text())
    assert result["proved"] is False
    assert "which photo they show is unknown of 8 of 8" in result["unproved"][0]
    assert "take-image_00" in result["unproved"][0]
    assert json.loads((tmp_path / "teacher-seed0/result.json").read_text())["proved"] is False
    assert main(["evaluate", str(tmp_path / "ckd")]) == 0
    assert "unproved: a leak cannot be excluded" in capsys.readouterr().out
    trained = load_run(tmp_path / "ckd")
    accuracy = _accuracy("Own data", trained.config, result, trained.manifest)
    assert "one seed; **unproved: a leak cannot be excluded**" in accuracy
    assert f"Unproved: {result['unproved'][0]}" in accuracy
    assert main(["audit", str(tmp_path / "ckd"), "--cache", str(tmp_path / "cache")]) == 2
    assert capsys.readouterr().out.count("UNPROVED") == 1


def test_a_proved_run_says_so(trained: Path, capsys: pytest.CaptureFixture) -> None:
    result = json.loads((trained / "result.json").read_text())
    assert (result["proved"], result["unproved"]) == (True, [])
    assert main(["evaluate", str(trained)]) == 0
    assert "unproved" not in capsys.readouterr().out


def test_labelled_recordings_are_counted_in_a_given_split(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", count=12, side=16)
    drawn = prepare(_config(tmp_path).data, 0).manifest
    assert drawn.labelled_recordings == (8, 8)
    for fewer, count, found in (("cup", (3, 8), None), ("saw", (3, 3), 3)):
        train = [e.file for e in drawn.select("recording", "train") if e.class_name == fewer]
        for file in train[3:]:
            drawn = _move(drawn, file, "unused")
        drawn.write(tmp_path / f"{fewer}.csv")
        config = _config(tmp_path, manifest=str(tmp_path / f"{fewer}.csv"))
        result = train_student(
            config,
            prepare(config.data, 0),
            tmp_path / fewer,
            teacher_folder=tmp_path / f"t-{fewer}",
        )
        assert result["labelled_per_class"] == found
        assert result["labelled_recordings"] == {"min": count[0], "max": count[1]}


@pytest.mark.parametrize(
    ("name_of", "verdict"),
    [
        (str.upper, "clean"),
        (lambda name: unicodedata.normalize("NFD", name.replace("image", "caf\u00e9")), "clean"),
        (lambda name: name if int(name[-2:]) % 2 else f"take-{name}", "unproved"),
    ],
    ids=["letter case", "Unicode form", "names of which half match"],
)
def test_recordings_of_own_folders_hold_out_their_photos(
    tmp_path: Path, name_of: Callable[[str], str], verdict: str, capsys: pytest.CaptureFixture
) -> None:
    photo_folder(tmp_path / "photos", count=12, side=16)
    events = _recordings_of(tmp_path, name_of)
    for photo in (tmp_path / "photos").glob("*/*") if "cafe" in name_of("image_01") else ():
        photo.rename(photo.with_stem(photo.stem.replace("image", "caf\u00e9")))
    config = replace(_config(tmp_path).data, events=str(events), sensor=(16, 16))
    for seed in range(3):
        manifest = prepare(config, seed).manifest
        held = {Path(e.file).stem[-2:] + e.class_name for e in manifest.held_recordings if e.pair}
        seen = {Path(e.file).stem[-2:] + e.class_name for e in manifest.seen_photos}
        assert held
        assert not held & seen
        manifest.write(tmp_path / "manifest.csv")
        code = main(["audit", str(tmp_path / "manifest.csv"), "--cache", str(tmp_path / "cache")])
        assert code == {"clean": 0, "unproved": 2}[verdict]
        said = capsys.readouterr().out
        assert ("take-image" in said) == (verdict == "unproved")


def test_pairs_of_older_manifests_are_compared_without_letter_case(
    run: Path, trained: Path
) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    recording, photo = (
        manifest.select("recording", "test")[0],
        manifest.select("photo", "train")[0],
    )
    planted = [
        replace(e, pair=recording.pair.upper()) if e.file == photo.file else e
        for e in manifest.entries
    ]
    _edit(run, replace(manifest, entries=tuple(planted)))
    leak = _look(run, trained).leaks[0]
    assert (leak.kind, leak.seen) == ("pair", photo.file)


def test_photos_that_are_known_and_elsewhere_are_counted(run: Path, trained: Path) -> None:
    manifest = Manifest.read(run / "manifest.csv")
    gone = [e.pair for e in manifest.select("recording", "test")]
    entries = [e for e in manifest.entries if e.kind == "recording" or e.pair not in gone]
    _edit(run, replace(manifest, entries=tuple(entries)))
    found = _look(run / "manifest.csv", trained)
    assert found.verdict == "clean"
    assert f"pairs: {len(gone)} of the recordings that validate or test show" in found.checks[1]


# Splits ------------------------------------------------------------------------------------------


def test_a_likeness_of_a_held_out_photo_is_left_out_of_training(tmp_path: Path) -> None:
    root = tmp_path / "photos"
    photo_folder(root, count=12, side=40)
    before = prepare(_config(tmp_path).data, 0).manifest
    held = before.select("photo", "test")[0]
    trained = [e for e in before.select("photo", "train") if e.label == held.label][0]
    Image.open(held.file).resize((44, 44)).save(trained.file)
    after = prepare(_config(tmp_path).data, 0).manifest
    assert {e.identity for e in after.select("photo", "held-out")} == {
        *(e.identity for e in before.select("photo", "held-out")),
        trained.identity,
    }
    after.write(tmp_path / "manifest.csv")
    found = audit(tmp_path / "manifest.csv", tmp_path / "cache")
    (line,) = found.left_out
    assert found.verdict == "clean"
    assert line.startswith(f"{trained.file} — {held.file} (")
    kept = prepare(_config(tmp_path, near_duplicates="keep").data, 0).manifest
    assert trained.identity in {e.identity for e in kept.select("photo", "train")}
    kept.write(tmp_path / "manifest.csv")
    found = audit(tmp_path / "manifest.csv", tmp_path / "cache")
    assert [leak.kind for leak in found.leaks] == ["likeness", "likeness"]
    assert [leak.where.split()[0] for leak in found.leaks] == ["photos", "this"]


@pytest.mark.parametrize("labelled", [None, 3, 8])
def test_the_recording_of_a_likeness_does_not_train_either(
    tmp_path: Path, labelled: int | None
) -> None:
    photo_folder(tmp_path / "photos", count=12, side=40)
    config = _config(tmp_path, labelled_per_class=labelled)
    before = prepare(config.data, 0).manifest
    held = before.select("photo", "held-out")[0]
    train = [e for e in before.select("recording", "train") if e.label == held.label]
    photo = next(e for e in before.entries if e.kind == "photo" and e.pair == train[0].pair)
    Image.open(held.file).resize((44, 44)).save(photo.file)
    after = prepare(replace(config.data, cache=str(tmp_path / "other")), 0).manifest
    kept = [e.pair for e in after.select("recording", "train") if e.label == held.label]
    assert train[0].pair not in kept
    assert {e.pair for e in train[1:]} <= set(kept)
    # Another takes its place where there is one; test and validation stay as they are.
    assert len(kept) == len(train) - (labelled != 3)
    for split in ("validation", "test"):
        assert [e.identity for e in after.select("recording", split)] == [
            e.identity for e in before.select("recording", split)
        ]
    after.write(tmp_path / "manifest.csv")
    assert audit(tmp_path / "manifest.csv", tmp_path / "cache").verdict == "clean"


def test_a_class_left_without_photos_is_named(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", count=12, side=40)
    for index, file in enumerate(sorted((tmp_path / "photos" / "saw").iterdir())):
        photo_HWC = np.array(picture(7, 40))
        photo_HWC[0, 0] = index  # the same to the eye
        Image.fromarray(photo_HWC).save(file)
    refused(lambda: prepare(_config(tmp_path).data, 0), "'saw'", "likeness", "near_duplicates keep")


# Teachers ----------------------------------------------------------------------------------------


def test_a_teacher_carries_its_manifest(trained: Path) -> None:
    teacher = load_run(trained.parent / "teacher")
    assert teacher.manifest == Manifest.read(trained.parent / "teacher" / "manifest.csv")
    assert Manifest.read(trained / "teacher-manifest.csv") == teacher.manifest


def test_a_teacher_without_a_manifest_is_taken_with_a_warning(
    trained: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("HERE", str(tmp_path))
    weights, description = load_model(trained.parent / "teacher" / "model.safetensors")
    del description["manifest"]
    (tmp_path / "teacher").mkdir()
    save_model(tmp_path / "teacher" / "model.safetensors", weights, description)
    config = _config(trained.parent)
    config = replace(config, teacher=replace(config.teacher, checkpoint="$HERE/teacher"))
    data = prepare(config.data, 0)
    train_student(config, data, tmp_path / "ckd", teacher_folder=tmp_path)
    assert "carries no manifest" in " ".join(capsys.readouterr().err.split())
    found = _look(tmp_path / "ckd", trained)
    assert found.verdict == "unproved"
    assert any("carries no manifest" in doubt for doubt in found.unproved)


def test_a_teacher_of_another_split_is_refused(trained: Path, tmp_path: Path) -> None:
    config = replace(_config(trained.parent), seed=1)
    data = prepare(config.data, 1)
    config = replace(
        config, teacher=replace(config.teacher, checkpoint=str(trained.parent / "teacher"))
    )
    refused(
        lambda: train_student(config, data, tmp_path / "ckd", teacher_folder=tmp_path),
        "held out",
        "train it on this split",
    )
