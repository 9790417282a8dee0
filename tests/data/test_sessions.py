"""Recording sessions stay in one split; splits that a person gives; series are said."""

import csv
from collections import Counter, defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pytest
from PIL import Image

from factories import files_in, packed, photo_folder, png_bytes, refused
from spikebridge.cli import main
from spikebridge.data.check import check
from spikebridge.data.manifest import Manifest
from spikebridge.data.prepared import open_split
from spikebridge.data.settings import DataConfig, SplitConfig
from spikebridge.data.splits.sessions import named_like_series
from spikebridge.results.audit import audit

SESSIONS = ("oct06a", "oct06b", "oct07", "nov02", "nov03", "nov11")


def _bin(number: int) -> bytes:
    return packed([(1, 2, 3, 1), (4, 5, 6 + number, 0)])


def _folders(root: Path, name_of: str = "{session}_{take:03d}", takes: int = 4) -> Path:
    """Recordings and photos of cup and saw, takes of each session; photos of others besides."""
    number = 0
    for name in ("cup", "saw"):
        for session in SESSIONS:
            for take in range(takes):
                number += 1
                stem = f"{name}/{name_of.format(session=session, take=take)}"
                files_in(root / "events", {f"{stem}.bin": _bin(number)})
                # Not every recording has a photo: whose session is held out, by name alone.
                if take:
                    files_in(root / "photos", {f"{stem}.png": png_bytes(number)})
        own = {f"{name}/web{n}.png": png_bytes(1000 + number + n) for n in range(12)}
        files_in(root / "photos", own)
    return root


def _config(root: Path, **split: object) -> DataConfig:
    settings = {"validation_per_class": 3, **split}
    return DataConfig(
        name="folders",
        events=str(root / "events"),
        photos=str(root / "photos"),
        sensor=(34, 34),
        split=SplitConfig(**settings),  # pyright: ignore[reportArgumentType]
        cache=str(root / "cache"),
    )


@pytest.mark.parametrize(
    ("name_of", "group"), [("{session}_{take:03d}", "(.+)_"), ("{session}/{take:03d}", "(.+)/")]
)
@pytest.mark.parametrize("labelled", [{}, {"labelled_per_class": 2}], ids=str)
@pytest.mark.parametrize("test", [{}, {"test_per_class": 5}], ids=str)
def test_no_session_is_in_two_splits(
    tmp_path: Path, name_of: str, group: str, labelled: dict[str, int], test: dict[str, int]
) -> None:
    split = labelled | test
    config = _config(_folders(tmp_path, name_of), group=group, **split)
    for seed in range(4):
        _, manifest = open_split(config, seed)
        assert {e.group for e in manifest.entries if e.kind == "recording"} == set(SESSIONS)
        splits = defaultdict(set)
        for entry in manifest.entries:
            if entry.kind == "recording" and entry.split != "unused":
                splits[entry.group].add(entry.split)
        assert all(len(found) == 1 for found in splits.values())
        seen = {e.group for e in manifest.seen_photos}
        assert seen.isdisjoint(manifest.held_groups)
        assert "" in seen
        counts = Counter((e.class_name, e.split) for e in manifest.entries if e.kind == "recording")
        for name in ("cup", "saw"):
            assert counts[name, "validation"] == 3
            assert counts[name, "test"] >= split.get("test_per_class", 24 // 5)
            if "test_per_class" in split:
                assert counts[name, "test"] == 5
            if "labelled_per_class" in split:
                assert counts[name, "train"] == 2
            else:
                assert counts[name, "train"] >= 4
        assert open_split(config, seed)[1] == manifest
        manifest.write(tmp_path / "manifest.csv")
        assert Manifest.read(tmp_path / "manifest.csv") == manifest
        found = audit(tmp_path / "manifest.csv", tmp_path / "cache")
        assert not found.leaks
    assert len({frozenset(open_split(config, s)[1].held_groups) for s in range(6)}) > 1


def test_a_split_that_sessions_cannot_fill_is_refused(tmp_path: Path) -> None:
    config = _config(_folders(tmp_path), group="(.+)_")
    few = replace(config, split=replace(config.split, group="^[a-z]+"))
    refused(lambda: open_split(few, 0), "'cup'", "24 recordings in 2 sessions", "validation 3")
    wrong = replace(config, split=replace(config.split, group="(.+)-"))
    refused(lambda: open_split(wrong, 0), "nov02_000.bin", "finds no session", "'(.+)-'")
    with pytest.raises(ValueError, match=r"no regular expression"):
        SplitConfig(group="(")
    with pytest.raises(ValueError, match=r"clean and few-shot"):
        SplitConfig(group="(.+)_", protocol="published")


def test_a_session_on_both_sides_is_a_leak(tmp_path: Path) -> None:
    _, manifest = open_split(_config(_folders(tmp_path), group="(.+)_"), 0)
    train = manifest.select("recording", "train")[0]
    photo = manifest.select("photo", "train")[0]
    test = manifest.select("recording", "test")[0]
    for kind, moved in (("recording", train), ("photo", photo)):
        entries = [replace(e, group=test.group) if e == moved else e for e in manifest.entries]
        replace(manifest, entries=tuple(entries)).write(tmp_path / "manifest.csv")
        leaks = audit(tmp_path / "manifest.csv", tmp_path / "cache").leaks
        assert {leak.kind for leak in leaks} == {"session"}, kind
        assert moved.file in {leak.seen.split(" (")[0] for leak in leaks}
        given = _config(tmp_path, manifest=str(tmp_path / "manifest.csv"))
        refused(lambda g=given: open_split(g, 0), moved.file, "session", "held out")


# Series ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "runs"),
    [
        (["oct06b_001", "oct06b_002", "oct06b_003"], [("oct06b_001", "oct06b_003", 3)]),
        (["take_1", "take_2", "take_3", "walk_1", "walk_2", "walk_3"],
         [("take_1", "take_3", 3), ("walk_1", "walk_3", 3)]),
        (["image_0001", "image_0002", "image_0003"], []),
        (["1", "2", "3", "4"], []),
        (["oct06b_001", "oct06b_002"], []),
        (["2024-01-07", "2024-03-01", "2023-11-30"], []),
    ],
)  # fmt: skip
def test_names_that_look_like_a_series(names: list[str], runs: list) -> None:
    assert named_like_series(names) == runs


def test_the_check_warns_of_series(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    config = _config(_folders(tmp_path))
    found = [f for f in check(config).findings if f.trouble == "series"]
    assert [f.class_name for f in found] == ["cup", "saw"]
    assert "nov02_000 … nov02_003 (4) and 5 others" in found[0].message
    assert "data.split.group" in found[0].message
    named = _config(tmp_path, group="(.+)_")
    assert [f for f in check(named).findings if f.trouble == "series"] == []
    words = ["data", "check", "folders", "--events", config.events, "--photos", config.photos]
    words = [*map(str, words), "--sensor", "34", "34"]
    assert main(words) == 0
    assert "warning: recordings that look like series (2)" in capsys.readouterr().out
    assert main([*words, "--group", "(.+)_"]) == 0
    assert "look like series" not in capsys.readouterr().out
    assert main([*words, "--group", "("]) == 2
    assert "--group" in capsys.readouterr().err


# Given splits ------------------------------------------------------------------------------------


def _given(root: Path, lines: list[str], columns: str = "file,split", **split: object) -> Manifest:
    (root / "given.csv").write_text("\n".join([columns, *lines]) + "\n")
    return open_split(_config(root, manifest=str(root / "given.csv"), **split), 0)[1]


def _lines(**splits: tuple[str, ...]) -> list[str]:
    return [
        f"{name}/{session}_{take:03d}.bin,{split}"
        for split, sessions in splits.items()
        for session in sessions
        for name in ("cup", "saw")
        for take in range(4)
    ]


def test_file_and_split_are_completed(tmp_path: Path) -> None:
    _folders(tmp_path)
    lines = _lines(train=("oct06a", "oct06b"), validation=("oct07",), test=("nov02",))
    manifest = _given(tmp_path, lines)
    assert (manifest.protocol, manifest.labelled_recordings) == ("clean", (8, 8))
    assert Counter(e.split for e in manifest.entries if e.kind == "recording") == {
        "train": 16, "validation": 8, "test": 8, "unused": 16
    }  # fmt: skip
    held = {e.number for e in manifest.entries if e.kind == "photo" and e.split == "held-out"}
    assert held == {f"oct07_{take:03d}" for take in (1, 2, 3)}
    assert {e.number for e in manifest.held_photos} == held | {
        e.number for e in manifest.select("photo", "test")
    }
    assert len(manifest.select("photo", "train")) > 30
    manifest.write(tmp_path / "whole.csv")
    whole = _config(tmp_path, manifest=str(tmp_path / "whole.csv"))
    assert open_split(whole, 7)[1] == manifest
    # Any spelling of the path will do; the other columns are checked, or taken.
    lines[0] = f"{tmp_path}/events/cup/oct06a_000.bin,train,recording,oct06a,known elsewhere"
    lines[1] = "./CUP/OCT06A_001.bin,train,,,"
    lines[2:] = [f"{line},,," for line in lines[2:]]
    told = _given(tmp_path, lines, "file,split,kind,group,pair")
    assert {(e.group, e.pair) for e in told.entries if e.number == "oct06a_000"} >= {
        ("oct06a", "known elsewhere")
    }


def test_photos_that_are_named_are_all_that_are_seen(tmp_path: Path) -> None:
    _folders(tmp_path)
    lines = _lines(train=("oct06a",), validation=("oct07",), test=("nov02",))
    photos = [f"{c}/web{n}.png,{s}" for c in ("cup", "saw") for n, s in
              enumerate(("train", "train", "validation", "test"))]  # fmt: skip
    manifest = _given(tmp_path, lines + photos)
    assert {e.number for e in manifest.seen_photos} == {"web0", "web1", "web2"}
    seen = "cup/nov02_001.png,train"
    refused(lambda: _given(tmp_path, [*lines, *photos, seen]), "given.csv", "nov02_001.png",
            "nov02_001.bin", "held out")  # fmt: skip


def test_photos_that_a_split_only_holds_out_stay_so_and_the_others_are_drawn(
    tmp_path: Path,
) -> None:
    _folders(tmp_path)
    lines = _lines(train=("oct06a",), validation=("oct07",), test=("nov02",))
    photos = [f"{c}/web{n}.png" for c in ("cup", "saw") for n in range(6)]
    manifest = _given(tmp_path, lines + [f"{photo},held-out" for photo in photos])
    assert {e.split for e in manifest.entries if e.number in {f"web{n}" for n in range(6)}} == {
        "held-out"
    }
    assert {e.number for e in manifest.select("photo", "train")} >= {"oct06a_001"}
    assert manifest.select("photo", "validation")


def test_no_recording_trains_whose_photo_looks_like_one_that_is_held_out(tmp_path: Path) -> None:
    _folders(tmp_path)
    photos = tmp_path / "photos/cup"
    for name in ("nov02_001", "oct06a_001"):
        (photos / f"{name}.png").write_bytes(png_bytes(9, side=40))
    pixels = np.asarray(Image.open(photos / "nov02_001.png")).copy()
    pixels[0, 0] ^= 64
    Image.fromarray(pixels).save(photos / "oct06a_001.png")
    lines = _lines(train=("oct06a",), validation=("oct07",), test=("nov02",))
    seen = [f"{c}/web{n}.png,train" for c in ("cup", "saw") for n in range(3)]
    manifest = _given(tmp_path, lines + seen)  # All other photos are held out.
    split_of = {
        (e.class_name, e.number): e.split for e in manifest.entries if e.kind == "recording"
    }
    assert split_of["cup", "oct06a_001"] == "unused"
    assert split_of["saw", "oct06a_001"] == split_of["cup", "oct06a_002"] == "train"


def test_given_splits_that_are_refused(tmp_path: Path) -> None:
    _folders(tmp_path)
    lines = _lines(train=("oct06a",), validation=("oct07",), test=("nov02",))
    for more, columns, words in (
        (["cup/none.bin,train"], "file,split", ("line 26", "cup/none.bin is not among the data")),
        (["oct06b_000.bin,train"], "file,split", ("names several files", "CLASS/NAME")),
        (["cup/oct06a_000.bin,test"], "file,split", ("line 26", "again")),
        (
            ["cup/oct06b_000.bin,dinner"],
            "file,split",
            ("dinner", "use train, validation"),
        ),
        (["cup/web0.png,unused"], "file,split", ("of a photo", "held-out")),
        (["cup/oct06b_000.bin"], "file,split", ("line 26", "fewer values")),
        ([], "file,part", ("expected file and split",)),
        ([], "file,split,weather", ("expected file and split", "group")),
    ):
        rows = [f"{line},fine" for line in lines] if columns.count(",") == 2 else lines
        refused(lambda r=rows + more, c=columns: _given(tmp_path, r, c), "given.csv", *words)
    for missing in ("train", "validation", "test"):
        kept = [line for line in lines if not line.endswith(f",{missing}")]
        refused(lambda k=kept: _given(tmp_path, k), f"no recording of split {missing}")
        kept = [line for line in lines if not (line.endswith(f",{missing}") and "cup" in line)]
        line = refused(lambda k=kept: _given(tmp_path, k), f"no recording of split {missing}")
        assert "class 'cup'" in line
    wrong = [f"{line},saw" for line in lines]
    refused(lambda: _given(tmp_path, wrong, "file,split,class"), "line 2", "class 'saw'")
    mixed = [f"{line},{'a' if 'cup' in line else 'b'}" for line in lines]
    refused(lambda: _given(tmp_path, mixed, "file,split,group"), "session", "held out")


@pytest.mark.parametrize("protocol", ["published", "leaked"])
def test_a_split_that_lets_training_see_what_tests_is_given_whole(
    tmp_path: Path, protocol: Literal["published", "leaked"]
) -> None:
    _folders(tmp_path)
    config = _config(tmp_path)
    own = replace(config, split=SplitConfig(protocol=protocol, validation_per_class=1))
    _, manifest = open_split(own, 1)
    assert manifest.leaked_recordings
    manifest.write(tmp_path / "whole.csv")
    whole = _config(tmp_path, manifest=str(tmp_path / "whole.csv"))
    assert open_split(whole, 7)[1] == manifest
    lines = _lines(train=("oct06a",), validation=("oct07",), test=("nov02",))
    rows = [f"{line},{protocol}" for line in lines]
    refused(lambda: _given(tmp_path, rows, "file,split,protocol"), "clean, few-shot", "sha256")
    if protocol == "leaked":  # What it leaks to nobody stays held out.
        photo = next(e for e in manifest.held_photos if e.split == "held-out")
        entries = [replace(e, split="train") if e == photo else e for e in manifest.entries]
        replace(manifest, entries=tuple(entries)).write(tmp_path / "whole.csv")
        refused(lambda: open_split(whole, 7), photo.file, "make it held-out")


def test_a_given_split_in_which_training_sees_what_tests_is_refused(tmp_path: Path) -> None:
    _, manifest = open_split(_config(_folders(tmp_path)), 0)
    held = next(e for e in manifest.held_photos if e.split == "test")
    entries = [replace(e, split="train") if e.file == held.file else e for e in manifest.entries]
    replace(manifest, entries=tuple(entries)).write(tmp_path / "leak.csv")
    given = _config(tmp_path, manifest=str(tmp_path / "leak.csv"))
    refused(lambda: open_split(given, 0), "leak.csv", held.file, "make it held-out")


def test_prepare_writes_the_split(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture
) -> None:
    photo_folder(tmp_path / "photos", count=12)
    (tmp_path / "mine.yaml").write_text(
        "data: {name: folders, photos: photos, cache: cache, size: [8, 8], time_steps: 2,\n"
        "  simulator: {width: 16, height: 16, amplitude: 3.0, frames: 30},\n"
        "  split: {validation_per_class: 2, test_per_class: 2}}\n"
    )
    monkeypatch.chdir(tmp_path)
    assert main(["prepare", "mine.yaml"]) == 0
    file = tmp_path / "runs/mine/manifest-seed0.csv"
    assert "runs/mine/manifest-seed0.csv: the split" in capsys.readouterr().out
    written = Manifest.read(file)
    assert len(written.select("recording", "test")) == 4
    # What a person edits stays, and is taken.
    rows = list(csv.DictReader(file.read_text().splitlines()))
    train = next(r for r in rows if (r["kind"], r["split"]) == ("recording", "train"))
    file.write_text(file.read_text().replace(f"{train['split']},labelled,{train['sha256']}",
                                             f"unused,unused,{train['sha256']}"))  # fmt: skip
    edited = file.read_text()
    assert main(["prepare", "mine.yaml"]) == 0
    assert "holds another split and stays as it is" in capsys.readouterr().out
    assert main(["prepare", "mine.yaml", "--data.split.manifest", str(file)]) == 0
    assert "15 train" in capsys.readouterr().out
    assert file.read_text() == edited
    assert main(["prepare", "mine.yaml", "--out", "other.csv"]) == 0
    assert Manifest.read(tmp_path / "other.csv") == written
