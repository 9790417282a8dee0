"""Photos without labels: a folder that nobody has sorted, and labels that a study hides."""

import os
import shutil
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from factories import photo_folder, picture, png_bytes, refused
from spikebridge.cli import main
from spikebridge.data.manifest import UNKNOWN, Manifest
from spikebridge.data.prepared import open_split, prepare
from spikebridge.data.settings import DataConfig, SourceConfig, SplitConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.splits.given import given_split
from spikebridge.results.audit import audit


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    """Photos of two classes, large enough to be compared by likeness."""
    root = tmp_path_factory.mktemp("unlabelled")
    photo_folder(root / "photos", count=16, side=40)
    return root


@pytest.fixture
def config(root) -> DataConfig:
    return DataConfig(
        name="folders",
        photos=str(root / "photos"),
        size=(8, 8),
        photo_size=16,
        time_steps=2,
        simulator=Simulator(width=16, height=16, frames=12, amplitude=3.0),
        split=SplitConfig(labelled_per_class=3, validation_per_class=2, test_per_class=3),
        cache=str(root / "cache"),
    )


@pytest.fixture
def pool(tmp_path) -> Path:
    """A nested folder of photos of mixed sizes and formats, and of files that are none."""
    folder = tmp_path / "pool"
    files = {
        "a.png": png_bytes(901, side=40),
        "deep/er/b.jpg": png_bytes(902, "jpeg", side=77),
        "deep/c.bmp": png_bytes(903, "bmp", side=33),
        "deep/notes.txt": b"no photo",
        ".hidden/d.png": png_bytes(904),
        "deep/broken.png": png_bytes(905)[:-30],
        "empty.jpg": b"",
    }
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def hiding(config: DataConfig, labelled: int, **changes) -> DataConfig:
    split = replace(config.split, labelled_photos_per_class=labelled, **changes)
    return replace(config, split=split)


@pytest.mark.parametrize(("labelled", "selecting"), [(1, 0), (2, 1), (5, 1), (8, 2)])
def test_so_many_photos_of_a_class_keep_their_label(config, labelled, selecting):
    _, before = open_split(config, 0)
    config = hiding(config, labelled, photo_validation=0.25)
    _, manifest = open_split(config, 0)
    count = Counter((e.class_name, e.split) for e in manifest.entries if e.kind == "photo")
    legal = len(before.seen_photos) // 2
    for name in ("cup", "saw"):
        assert count[name, "train"] == labelled - selecting
        assert count[name, "validation"] == selecting
        assert count[name, "unlabelled"] == legal - labelled
    for old, new in zip(before.entries, manifest.entries, strict=True):
        seen = old.kind == "photo" and old.split in ("train", "validation")
        assert replace(new, split=old.split) == old
        assert seen or new.split == old.split
    assert {e.file for e in manifest.seen_photos} == {e.file for e in before.seen_photos}
    assert open_split(config, 0)[1] == manifest
    assert open_split(config, 1)[1].select("photo", "train") != manifest.select("photo", "train")


def test_what_one_label_trains_is_among_what_five_train(config):
    one, five = (
        {e.file for e in open_split(hiding(config, n), 3)[1].select("photo", "train")}
        for n in (1, 5)
    )
    assert one < five


def test_too_few_photos_for_the_labels_are_refused(config):
    words = "'cup'", "11 photos", "labelled_photos_per_class 12"
    refused(lambda: open_split(hiding(config, 12), 0), *words)
    with pytest.raises(ValueError, match="labelled_photos_per_class must be at least 1"):
        SplitConfig(labelled_photos_per_class=0)


def test_a_nested_folder_of_mixed_photos_is_taken_and_broken_files_are_named(config, pool, capsys):
    _, before = open_split(config, 0)
    config = replace(config, unlabelled=str(pool))
    _, manifest = open_split(config, 0)
    assert manifest.entries[: len(before.entries)] == before.entries
    found = {e.number: (e.class_name, e.label) for e in manifest.select("photo", "unlabelled")}
    assert found == dict.fromkeys(["a", "deep/c", "deep/er/b"], ("", UNKNOWN))
    line = " ".join(capsys.readouterr().err.split())
    assert "data.unlabelled: 3 photos; left out: 2 cannot be read" in line
    assert "broken.png" in line
    assert "empty.jpg" in line
    # Broken files are remembered, and named again.
    assert open_split(config, 0)[1] == manifest
    assert "broken.png" in capsys.readouterr().err


def odd_files(folder: Path) -> None:
    """What an old disk holds: a link to the folder above, a pipe, a name of other encoding."""
    (folder / "deep/link").symlink_to(folder, target_is_directory=True)
    os.mkfifo(folder / "deep/pipe.png")
    Path(os.fsdecode(os.fsencode(folder) + b"/caf\xe9.png")).write_bytes(png_bytes(907, side=40))


def test_links_pipes_and_names_of_other_encodings_stop_nothing(config, pool, capsys):
    odd_files(pool)
    _, manifest = open_split(replace(config, unlabelled=str(pool)), 0)
    found = sorted(e.number for e in manifest.select("photo", "unlabelled"))
    assert found == ["a", "deep/c", "deep/er/b"]
    line = " ".join(capsys.readouterr().err.split())
    assert "data.unlabelled: 3 photos; left out: 3 cannot be read" in line
    assert "caf\\xe9.png" in line
    assert "copies" not in line


@pytest.mark.parametrize("kind", ["photo", "class"])
def test_a_labelled_photo_whose_name_no_manifest_can_hold_is_refused(
    config, root, tmp_path, kind, capsys
):
    photos = tmp_path / "photos"
    shutil.copytree(root / "photos", photos)
    name = {"photo": b"0/caf\xe9.png", "class": b"caf\xe9/a.png"}[kind]
    file = Path(os.fsdecode(os.fsencode(photos) + b"/" + name))
    file.parent.mkdir(exist_ok=True)
    file.write_bytes(png_bytes(907, side=40))
    told = refused(lambda: open_split(replace(config, photos=str(photos)), 0))
    assert "caf\\xe9" in told
    assert "the name is not UTF-8; rename it" in told
    assert main(["data", "check", "folders", "--photos", str(photos)]) == 2
    assert "the name is not UTF-8; rename it" in capsys.readouterr().out


def test_a_manifest_with_unknown_classes_survives_its_file(config, pool, tmp_path):
    _, manifest = open_split(hiding(replace(config, unlabelled=str(pool)), 2), 0)
    manifest.write(tmp_path / "manifest.csv")
    text = (tmp_path / "manifest.csv").read_text()
    assert ",,,a,,few-shot,unlabelled," in text
    assert Manifest.read(tmp_path / "manifest.csv") == manifest
    again = open_split(replace(config, unlabelled=str(pool)), 0, manifest)[1]
    assert again == manifest
    given = replace(config.split, manifest=str(tmp_path / "manifest.csv"))
    assert open_split(replace(config, unlabelled=str(pool), split=given), 0)[1] == manifest
    (pool / "a.png").write_bytes(png_bytes(77, side=40))
    refused(lambda: open_split(replace(config, unlabelled=str(pool)), 0, manifest), "a.png", "not")
    (pool / "a.png").unlink()
    refused(
        lambda: open_split(replace(config, unlabelled=str(pool)), 0, manifest), "data.unlabelled"
    )
    (tmp_path / "manifest.csv").write_text(text.replace(",,,a,,", ",,-1,a,,"))
    refused(lambda: Manifest.read(tmp_path / "manifest.csv"), "not a manifest")


def planted(config: DataConfig, pool: Path) -> Manifest:
    """Puts into the pool what shows held-out recordings, and copies; the split before."""
    _, before = open_split(config, 0)
    tested, validated = before.select("photo", "test"), before.select("photo", "held-out")
    trained = before.select("photo", "train")
    picture = Image.open(tested[0].file)
    picture.resize((60, 50)).save(pool / "holiday.jpg", quality=60)
    (pool / "copy.png").write_bytes(Path(validated[0].file).read_bytes())
    named = pool / "export" / tested[1].class_name / f"{tested[1].number.upper()}.png"
    named.parent.mkdir(parents=True)
    named.write_bytes(png_bytes(990, side=40))
    (pool / "known.png").write_bytes(Path(trained[0].file).read_bytes())
    (pool / "zwice.png").write_bytes((pool / "a.png").read_bytes())
    return before


def test_what_shows_a_held_out_recording_is_left_out_and_the_audit_proves_it(
    config, pool, root, tmp_path, capsys
):
    before = planted(config, pool)
    capsys.readouterr()
    _, manifest = open_split(replace(config, unlabelled=str(pool)), 0)
    line = " ".join(capsys.readouterr().err.split())
    assert "3 photos; left out: 3 show what validates or tests, 2 are copies of others" in line
    left = {e.number for e in manifest.select("photo", "unlabelled")}
    assert left == {"a", "deep/c", "deep/er/b"}
    held = [e for e in manifest.select("photo", "held-out") if e.label == UNKNOWN]
    assert {e.number.lower().rpartition("/")[2] for e in held} == {
        "holiday", "copy", before.select("photo", "test")[1].number
    }  # fmt: skip
    manifest.write(tmp_path / "manifest.csv")
    found = audit(tmp_path / "manifest.csv", root / "cache")
    assert found.verdict == "clean"
    assert any("unlabelled photos: 3 seen" in check for check in found.checks)
    assert sum("holiday.jpg" in line for line in found.left_out) == 1
    for entry in held:  # Each is a leak where it is not left out.
        loose = tuple(replace(e, split="unlabelled") if e == entry else e for e in manifest.entries)
        replace(manifest, entries=loose).write(tmp_path / "manifest.csv")
        (leak,) = audit(tmp_path / "manifest.csv", root / "cache").leaks
        assert entry.file in leak.seen
        assert "unlabelled" in leak.where


def test_small_photos_of_the_same_pixels_are_held_out_whatever_their_file(config, pool, tmp_path):
    photo_folder(tmp_path / "small", count=16, side=12)
    config = replace(config, photos=str(tmp_path / "small"))
    _, before = open_split(config, 0)
    tested, trained = before.select("photo", "test")[0], before.select("photo", "train")[0]
    for name, entry in (("one", tested), ("other", trained)):
        Image.open(entry.file).save(pool / f"{name}.bmp")
    _, manifest = open_split(replace(config, unlabelled=str(pool)), 0)
    splits = {e.number: e.split for e in manifest.entries if e.label == UNKNOWN}
    assert (splits["one"], splits["other"]) == ("held-out", "unlabelled")
    loose = [replace(e, split="unlabelled") if e.number == "one" else e for e in manifest.entries]
    replace(manifest, entries=tuple(loose)).write(tmp_path / "manifest.csv")
    (leak,) = audit(tmp_path / "manifest.csv", tmp_path / "cache").leaks
    assert (leak.kind, leak.held) == ("likeness", tested.file)


@pytest.mark.parametrize("folder", ["CUP", "Faces", "export/faces"])
def test_a_held_out_photos_name_is_known_in_any_letter_case_and_by_its_crops(
    config, pool, root, tmp_path, folder
):
    own = tmp_path / "photos"
    shutil.copytree(root / "photos", own)
    (own / "saw").rename(own / "Faces_easy")
    config = replace(config, photos=str(own))
    _, before = open_split(config, 0)
    name = "cup" if folder == "CUP" else "Faces_easy"
    tested = {e.number for e in before.held_photos if e.class_name == name}
    for index in range(1, 17):
        crop = pool / folder / f"image_{index:04d}.png"
        crop.parent.mkdir(parents=True, exist_ok=True)
        crop.write_bytes(png_bytes(800 + index, side=40))
    _, manifest = open_split(replace(config, unlabelled=str(pool)), 0)
    held = {e.number for e in manifest.select("photo", "held-out") if e.label == UNKNOWN}
    assert held == {f"{folder}/{number}" for number in tested}
    assert held


def test_what_shows_a_held_out_session_is_left_out(root, tmp_path, config, pool):
    photos = tmp_path / "photos"
    for name in ("cup", "saw"):
        (photos / name).mkdir(parents=True)
        for index in range(16):
            file = photos / name / f"day{index // 4}_{index:02d}.png"
            Image.fromarray(picture(5000 + index + 100 * (name == "saw"), 40)).save(file)
    config = replace(
        config,
        photos=str(photos),
        unlabelled=str(pool),
        split=SplitConfig(validation_per_class=2, test_per_class=2, group=r"(day\d)_"),
    )
    names = {f"day{day}_x.png" for day in range(4)}
    for index, name in enumerate(sorted(names)):
        (pool / "trip").mkdir(exist_ok=True)
        (pool / "trip" / name).write_bytes(png_bytes(700 + index, side=40))
    _, manifest = open_split(config, 0)
    held = {e.group for e in manifest.held_recordings}
    left = {Path(e.file).name for e in manifest.select("photo", "unlabelled")} & names
    assert left == {name for name in names if name.partition("_")[0] not in held}
    assert 0 < len(left) < 4


def test_recordings_whose_photos_are_elsewhere_make_an_unsorted_folder_doubtful(config, pool):
    _, manifest = open_split(replace(config, unlabelled=str(pool)), 0)
    assert manifest.doubts == []
    tested = manifest.select("photo", "test")[0]
    entries = tuple(e for e in manifest.entries if e != tested)
    (doubt,) = replace(manifest, entries=entries).doubts
    assert doubt.startswith("1 recordings")
    assert "data.unlabelled" in doubt
    sorted_ones = tuple(e for e in entries if e.label != UNKNOWN)
    assert replace(manifest, entries=sorted_ones).doubts == []
    without = [
        replace(e, pair="" if e.class_name == "saw" else e.pair)
        for e in entries
        if (e.kind, e.class_name) != ("photo", "saw")
    ]
    assert "unknown of 5" in Manifest(tuple(without)).doubts[0]


def test_a_missing_or_empty_folder_is_refused(config, tmp_path, pool):
    def split(folder):
        return lambda: open_split(replace(config, unlabelled=str(folder)), 0)

    refused(split(tmp_path / "none"), "none", "no such folder", "data.unlabelled")
    (tmp_path / "bare").mkdir()
    (tmp_path / "bare" / "notes.txt").write_text("x")
    refused(split(tmp_path / "bare"), "bare", "no photo found", "data.unlabelled")
    (tmp_path / "bare" / "broken.png").write_bytes(b"x")
    refused(split(tmp_path / "bare"), "no photo is left", "1 cannot be read", "broken.png")


def test_a_split_that_a_person_names_gets_photos_without_labels(config, pool, tmp_path):
    _, drawn = open_split(config, 0)
    rows = [f"{e.file},{e.split}" for e in drawn.entries if e.kind == "recording"]
    file = tmp_path / "split.csv"
    file.write_text("\n".join(["file,split", *rows]) + "\n")
    split = replace(config.split, manifest=str(file), labelled_photos_per_class=1)
    _, manifest = open_split(replace(config, split=split, unlabelled=str(pool)), 0)
    assert len(manifest.select("photo", "train")) == 2
    assert manifest.has_strangers
    tested = drawn.select("photo", "test")[0]
    file.write_text("\n".join(["file,split", *rows, f"{tested.file},unlabelled"]) + "\n")
    refused(
        lambda: given_split(file, open_split(config, 0)[0], config.split, 0, tmp_path),
        tested.file,
        "unlabelled",
        "held-out",
    )


@pytest.mark.parametrize("views", [1, 2])
def test_photos_without_labels_are_simulated_like_training_photos(config, pool, views):
    Image.fromarray(np.full((40, 40, 3), 255, np.uint8)).save(pool / "white.png")
    quiet = {"shot_noise_hz": 0.0, "leak_rate_hz": 0.0, "background_hz": 0.0}
    source = SourceConfig(views=views, simulator=quiet)
    config = hiding(replace(config, unlabelled=str(pool), source=source), 2)
    data = prepare(config, 0, simulated_source=True)
    assert data.unlabelled is not None
    train, others = data.photos["train"], data.unlabelled
    assert others.views == views
    entries = data.manifest.select("photo", "unlabelled")
    assert others.files == tuple(e.file for e in entries)
    assert others.simulated_NTCHW is not None
    white = [Path(file).name for file in others.files].index("white.png")
    assert not others.simulated_NTCHW[white].any()  # Nothing to see is no error.
    rows_K = np.array([3, 0, len(entries) - 1])
    both = train.with_answers(others, rows_K, np.array([1, 0, 1]))
    assert both.answered_N is not None
    assert both.simulated_NTCHW is not None
    assert train.simulated_NTCHW is not None
    own = len(train.files)
    assert both.label_N.tolist() == [*train.label_N, 1, 0, 1]
    assert both.answered_N.tolist() == [False] * own + [True] * 3
    assert both.files[own:] == tuple(others.files[row] for row in rows_K)
    for view in range(views):
        for place, row in enumerate(rows_K):
            np.testing.assert_array_equal(
                both.simulated_NTCHW[view * len(both.files) + own + place],
                others.simulated_NTCHW[view * len(others.files) + row],
            )
        np.testing.assert_array_equal(
            both.simulated_NTCHW[view * len(both.files)], train.simulated_NTCHW[view * own]
        )
    np.testing.assert_array_equal(both.photos_N3HW[own:], others.photos_N3HW[rows_K])
    plain = data.labelled
    assert plain.unlabelled is None
    assert not plain.manifest.has_strangers
    assert plain.manifest.select("photo", "unlabelled") == [e for e in entries if e.class_name]


# The check ----------------------------------------------------------------------------------------


def test_the_check_counts_the_folder_and_names_its_broken_files(config, pool, root, capsys):
    data = prepare(config, 0)
    events = Path(data.events["train"].files[0]).parents[1]
    (pool / "zwice.png").write_bytes((pool / "a.png").read_bytes())
    words = ["data", "check", "folders", "--events", str(events), "--photos", config.photos]
    assert main([*words, "--sensor", "16", "16", "--unlabelled", str(pool)]) == 0
    page = capsys.readouterr().out
    assert f"photos without labels in {pool}: 6 found, 1 empty, 1 bad, 1 twice" in page
    assert "warning: photos that cannot be read\n" in page
    assert f"  {pool / 'deep/broken.png'}: " in page
    assert "zwice.png: the same content as" in page
    assert "32 pairs; 3 photos without labels; 2 warnings" in page
    assert f"{pool}: no photo, left out: deep/notes.txt (1 file)" in page
    odd_files(pool)
    labelled = next(file for file in sorted(Path(config.photos).rglob("*.png")))
    shutil.copy(labelled, pool / "copy.png")
    assert main([*words, "--sensor", "16", "16", "--unlabelled", str(pool)]) == 0
    page = capsys.readouterr().out
    assert f"photos without labels in {pool}: 8 found, 1 empty, 2 bad, 2 twice" in page
    assert "caf\\xe9.png: the name is not UTF-8; rename it" in page
    assert f"copy.png: the same content as {labelled}" in page
    assert "deep/notes.txt, deep/pipe.png (2 files)" in page
    assert "32 pairs; 3 photos without labels; 3 warnings" in page
    assert main([*words, "--sensor", "16", "16", "--unlabelled", str(pool / "none")]) == 2
    error = capsys.readouterr().err
    assert "no such folder of photos; set --unlabelled" in error
    assert main([*words, "--sensor", "16", "16"]) == 0
    assert "without labels" not in capsys.readouterr().out


def test_prepare_writes_the_split_with_them(config, pool, root, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = {
        "data": {
            "name": "folders",
            "photos": config.photos,
            "unlabelled": str(pool),
            "size": [8, 8],
            "time_steps": 2,
            "simulator": {"width": 16, "height": 16, "frames": 12, "amplitude": 3.0},
            "split": {"labelled_per_class": 3, "validation_per_class": 2, "test_per_class": 3},
            "cache": config.cache,
        }
    }
    Path("mine.yaml").write_text(yaml.safe_dump(settings))
    assert main(["prepare", "mine.yaml", "--data.split.labelled_photos_per_class", "2"]) == 0
    out = capsys.readouterr().out
    manifest = Manifest.read(Path("runs/mine/manifest-seed0.csv"))
    unlabelled = manifest.select("photo", "unlabelled")
    assert f"photos without labels: {len(unlabelled)}\n" in out
    assert sum(e.label == UNKNOWN for e in unlabelled) == 3
    assert len(unlabelled) > 3
