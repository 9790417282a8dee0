"""The clean protocol: nobody who tests has trained, whatever the collection."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from PIL import Image

from factories import collection_in, photo_folder, picture, refused
from spikebridge.base.errors import UserError
from spikebridge.base.files import file_sha256
from spikebridge.data.datasets.catalog import Collection, Item
from spikebridge.data.manifest import ROLES, Entry, Manifest
from spikebridge.data.prepared import open_split
from spikebridge.data.settings import DataConfig, LeakConfig, SplitConfig
from spikebridge.data.splits import draw as splits
from spikebridge.data.splits.draw import adopt_split
from spikebridge.runs.train import refuse_leaking_teacher


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder whose files never change."""
    return tmp_path_factory.mktemp("collections")


def make_split(collection: Collection, config: SplitConfig, seed: int) -> Manifest:
    """Of files that are no pictures: nothing can look alike."""
    where = Path(collection.photos[0].file).parents[2] / "cache"
    return splits.make_split(collection, replace(config, near_duplicates="keep"), seed, where)


@st.composite
def collections(draw: st.DrawFn) -> SimpleNamespace:
    """Counts of a collection and a configuration that it can fill."""
    names = draw(st.lists(st.sampled_from(["ant", "bee", "cup", "dog"]), min_size=1, unique=True))
    config = SplitConfig(
        labelled_per_class=draw(st.none() | st.integers(1, 3)),
        validation_per_class=draw(st.integers(1, 3)),
        test_per_class=draw(st.none() | st.integers(1, 3)),
        photo_validation=draw(st.sampled_from([0.0, 0.1, 0.4])),
        photo_test=draw(st.sampled_from([0.0, 0.1, 0.4])),
        seed=draw(st.none() | st.integers(0, 3)),
    )
    needed = (config.labelled_per_class or 1) + config.validation_per_class
    needed += config.test_per_class or 1
    recordings = {name: draw(st.integers(needed, 16)) for name in names}
    # More photos than recordings, and fewer: photos without a recording and recordings without.
    photos = {name: draw(st.integers(4, 25)) for name in names}
    return SimpleNamespace(recordings=recordings, photos=photos, config=config)


@given(made=collections(), seed=st.integers(0, 5))
def test_the_protocol_holds_on_any_collection(root: Path, made: SimpleNamespace, seed: int) -> None:
    collection = collection_in(root, made.recordings, made.photos)
    config: SplitConfig = made.config
    try:
        manifest = make_split(collection, config, seed)
    except UserError as error:
        assume("too few to train on" not in str(error))
        raise

    # Every item once, as it is.
    assert {
        (e.kind, e.file, e.class_name, e.label, e.number, e.pair) for e in manifest.entries
    } == {
        (kind, i.file, collection.classes[i.label], i.label, i.number, i.pair)
        for kind, items in (("recording", collection.recordings), ("photo", collection.photos))
        for i in items
    }
    assert len(manifest.entries) == len(collection.recordings) + len(collection.photos)
    assert all((e.kind, e.split) in ROLES for e in manifest.entries)
    assert all(e.sha256 == file_sha256(e.file) for e in manifest.entries[::5])

    # Exact numbers in each class.
    for label, name in enumerate(collection.classes):
        count = Counter((e.kind, e.split) for e in manifest.entries if e.label == label)
        total, labelled = made.recordings[name], config.labelled_per_class
        validation, test = config.validation_per_class, config.test_per_class
        if test is None:
            test = total - validation - labelled if labelled else max(1, total // 5)
        train = labelled or total - validation - test
        assert count["recording", "validation"] == validation
        assert count["recording", "test"] == test >= 1
        assert count["recording", "train"] == train >= 1
        assert count["recording", "unused"] == total - validation - test - train
        assert count["photo", "train"] >= 1
        assert count["photo", "validation"] >= 1
        assert count["photo", "test"] >= 1

    # No photo whose recording validates or tests is trained on or selects.
    held = {e.pair for split in ("validation", "test") for e in manifest.select("recording", split)}
    for split in ("train", "validation"):
        assert held.isdisjoint(e.pair for e in manifest.select("photo", split))
    tested = {e.pair for e in manifest.select("recording", "test")}
    validated = {e.pair for e in manifest.select("recording", "validation")}
    photos = {e.pair for e in manifest.entries if e.kind == "photo"}
    assert {e.pair for e in manifest.select("photo", "held-out")} == validated & photos
    assert {e.pair for e in manifest.select("photo", "test")} >= tested & photos

    # The seed determines it, the split's own before the run's.
    assert make_split(collection, config, seed) == manifest
    if config.seed is not None:
        assert make_split(collection, config, seed + 1) == manifest
        assert make_split(collection, replace(config, seed=None), config.seed) == manifest


@given(seed=st.integers(0, 1000))
def test_another_seed_gives_another_split(root: Path, seed: int) -> None:
    collection = collection_in(root, {"ant": 16, "bee": 16}, {"ant": 16, "bee": 16})
    config = SplitConfig(labelled_per_class=2)

    def test_set(seed: int) -> set[str]:
        return {e.file for e in make_split(collection, config, seed).select("recording", "test")}

    assert test_set(seed) != test_set(seed + 1)


def test_every_recording_can_be_drawn_for_every_role(root: Path) -> None:
    collection = collection_in(root, {"ant": 8}, {"ant": 20})
    config = SplitConfig(labelled_per_class=2, validation_per_class=2, test_per_class=2)
    seen = Counter(
        (e.number, e.split)
        for seed in range(80)
        for e in make_split(collection, config, seed).entries
        if e.kind == "recording"
    )
    assert len(seen) == 8 * 4
    assert 5 <= min(seen.values()) <= max(seen.values()) <= 45  # 20 expected


def test_unpaired_photos_are_held_back_to_test_the_teacher(root: Path) -> None:
    collection = collection_in(root, {"ant": 8}, {"ant": 20})
    photos = [replace(i, pair=f"other/{i.number}") for i in collection.photos]
    collection = replace(collection, photos=photos)
    config = SplitConfig(validation_per_class=2, photo_test=0.25, photo_validation=0.2)
    count = Counter(e.split for e in make_split(collection, config, 0).entries if e.kind == "photo")
    assert count == {"train": 11, "validation": 4, "test": 5}


@pytest.mark.parametrize(
    ("recordings", "config", "words"),
    [
        (5, SplitConfig(), ("5 recordings", "needs 7", "validation 5, test 1, labelled 1")),
        (9, SplitConfig(labelled_per_class=4), ("needs 10", "labelled 4")),
        (9, SplitConfig(test_per_class=6), ("needs 12", "test 6")),
    ],
)
def test_too_few_recordings_are_refused(
    root: Path, recordings: int, config: SplitConfig, words: tuple[str, ...]
) -> None:
    collection = collection_in(root, {"ant": 20, "bee": recordings}, {"ant": 40, "bee": 40})
    refused(lambda: make_split(collection, config, 0), "'bee'", *words, "lower data.split")


def test_too_few_legal_photos_are_refused(root: Path) -> None:
    collection = collection_in(root, {"ant": 10}, {"ant": 10})
    config = SplitConfig(labelled_per_class=1, validation_per_class=5)
    refused(lambda: make_split(collection, config, 0), "'ant'", "1 photos", "add photos")


# The manifest ------------------------------------------------------------------------------------


def _manifest(root: Path) -> Manifest:
    collection = collection_in(root, {"ant": 10, "bee": 10}, {"ant": 20, "bee": 20})
    return make_split(collection, SplitConfig(labelled_per_class=2), 0)


def test_a_manifest_survives_its_file(root: Path, tmp_path: Path) -> None:
    manifest = _manifest(root)
    manifest.write(tmp_path / "manifest.csv")
    assert Manifest.read(tmp_path / "manifest.csv") == manifest
    (tmp_path / "saved.csv").write_text((tmp_path / "manifest.csv").read_text(), "utf-8-sig")
    assert Manifest.read(tmp_path / "saved.csv") == manifest
    lines = (tmp_path / "manifest.csv").read_text().splitlines()
    assert lines[0] == "kind,file,class,label,number,pair,protocol,split,role,sha256"
    assert len(lines) == 1 + 60
    first = manifest.entries[0]
    assert lines[1] == (
        f"recording,{first.file},{first.class_name},{first.label},{first.number},{first.pair},"
        f"few-shot,{first.split},{manifest.role(first)},{first.sha256}"
    )


@given(name=st.text(st.characters(exclude_categories=["Cs"]), min_size=1))
def test_a_manifest_keeps_odd_names(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    file = tmp_path_factory.getbasetemp() / "odd.csv"
    manifest = Manifest(
        (Entry("photo", name, name, 3, name, f"{name}/{name}", "train", "0f" * 32),)
    )
    manifest.write(file)
    assert Manifest.read(file) == manifest


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: "",
        lambda text: "one,two\n1,2\n",
        lambda text: text.splitlines()[0] + "\n",
        lambda text: text[: len(text) // 2 - 70],
        lambda text: text[:-30],
        lambda text: text.replace(",sha256", ""),
        lambda text: text.replace("recording,", "film,", 1),
        lambda text: text.replace(",train,", ",dinner,", 1),
        lambda text: text.replace(",0,", ",zero,", 1),
        lambda text: text + "x,y\n",
        lambda text: text.replace("\n", ",more\n").replace(",more", "", 1),
    ],
    ids=range(11),
)
def test_a_damaged_manifest_is_refused(root: Path, tmp_path: Path, damage) -> None:
    file = tmp_path / "manifest.csv"
    _manifest(root).write(file)
    file.write_text(damage(file.read_text()))
    refused(lambda: Manifest.read(file), file, "not a manifest", "expected")


def test_no_manifest_and_no_text_are_refused(tmp_path: Path) -> None:
    refused(lambda: Manifest.read(tmp_path / "none.csv"), "none.csv", "no such manifest")
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe\x00kind")
    refused(lambda: Manifest.read(tmp_path / "a.csv"), "a.csv", "not a manifest")


def test_a_copy_of_a_held_out_photo_is_held_out_too(tmp_path: Path) -> None:
    counts = {"ant": 12, "bee": 12}, {"ant": 30, "bee": 30}
    config = SplitConfig(labelled_per_class=3, test_per_class=4)
    before = make_split(collection_in(tmp_path / "before", *counts), config, 0)
    tested, validated = before.select("photo", "test")[0], before.select("photo", "held-out")[0]
    trained = before.select("photo", "train")
    copies = {trained[0].pair: tested, trained[-1].pair: validated}
    copies[before.select("photo", "validation")[0].pair] = tested
    collection = collection_in(tmp_path / "after", *counts)
    for photo in collection.photos:
        if photo.pair in copies:
            Path(photo.file).write_bytes(Path(copies[photo.pair].file).read_bytes())
    after = make_split(collection, config, 0)
    for old, new in zip(before.entries, after.entries, strict=True):
        assert (old.kind, old.pair) == (new.kind, new.pair)
        copied = old.kind == "photo" and old.pair in copies
        assert new.split == ("held-out" if copied else old.split)
    refuse_leaking_teacher(tmp_path, after, after)


@pytest.mark.parametrize("labelled", [None, 3])
def test_a_recording_made_of_a_copy_of_a_held_out_photo_does_not_train(
    tmp_path: Path, labelled: int | None
) -> None:
    collection = collection_in(tmp_path, {"ant": 12, "bee": 12}, {"ant": 24, "bee": 24})
    for photo in collection.photos:  # Each odd photo is the one before it.
        number = int(photo.number)
        original = Path(photo.file).with_stem(f"{number - number % 2:04d}")
        Path(photo.file).write_bytes(original.read_bytes())
    config = SplitConfig(labelled_per_class=labelled, validation_per_class=1, test_per_class=3)
    for seed in range(6):
        manifest = make_split(collection, config, seed)
        held = {e.sha256 for e in manifest.held_photos}
        assert not held & {e.sha256 for e in manifest.labelled_photos}
        assert not held & {e.sha256 for e in manifest.seen_photos}
        assert labelled is None or manifest.labelled_recordings == (3, 3)


def test_a_copy_of_a_recording_has_its_originals_photo(tmp_path: Path) -> None:
    counts = {"ant": 14, "bee": 14}, {"ant": 30, "bee": 30}
    collection = collection_in(tmp_path, *counts)
    copies = []
    for item in collection.recordings:
        # Of every recording a copy that no photo is named as, and half of them in another class.
        name = collection.classes[item.label if int(item.number) % 2 else 1 - item.label]
        copy = tmp_path / "bin" / name / f"{item.pair.replace('/', ' ')} (1).bin"
        copy.write_bytes(Path(item.file).read_bytes())
        copies.append(Item(str(copy), collection.classes.index(name), copy.stem, ""))
    collection = replace(collection, recordings=[*collection.recordings, *copies])
    for seed in range(5):
        manifest = make_split(collection, SplitConfig(validation_per_class=3), seed)
        originals = {e.sha256: e.pair for e in manifest.entries if e.kind == "recording"}
        assert len(originals) == 28
        shown = {Path(e.file).read_text().partition(" ")[2] for e in manifest.held_recordings}
        seen = {Path(e.file).read_text().partition(" ")[2] for e in manifest.seen_photos}
        assert shown.isdisjoint(seen)
        assert adopt_split(manifest, collection, tmp_path) == manifest
        assert manifest.doubts == []


def test_two_recordings_of_equal_bytes_hold_out_both_their_photos(tmp_path: Path) -> None:
    collection = collection_in(tmp_path, {"ant": 12}, {"ant": 30})
    same = [item for item in collection.recordings if int(item.number) < 2]
    for item in same:
        Path(item.file).write_text("the same")
    held = 0
    for seed in range(12):
        manifest = make_split(collection, SplitConfig(validation_per_class=3), seed)
        if {e.number for e in manifest.held_recordings} & {i.number for i in same}:
            held += 1
            assert {e.number for e in manifest.held_photos} >= {i.number for i in same}
            assert not {e.number for e in manifest.seen_photos} & {i.number for i in same}
    assert held > 3


def test_the_copy_of_a_held_out_recording_takes_no_unfit_ones_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counts = {"ant": 12}, {"ant": 30}
    config = SplitConfig(labelled_per_class=1, validation_per_class=3, test_per_class=3)
    before = make_split(collection_in(tmp_path, *counts), config, 0)
    (train,), unused = before.select("recording", "train"), before.select("recording", "unused")
    test = before.select("recording", "test")[0]
    for spare in unused[:-1]:
        Path(spare.file).write_bytes(Path(test.file).read_bytes())

    def alike(held: list[Entry], seen: list[Entry], cache: Path) -> list:
        return [(held[0], photo, "") for photo in seen if photo.number == train.number]

    monkeypatch.setattr(splits, "lookalike_photos", alike)
    after = splits.make_split(collection_in(tmp_path, *counts), config, 0, tmp_path / "cache")
    assert [e.number for e in after.select("recording", "train")] == [unused[-1].number]


def test_files_that_share_a_name_are_told_apart_by_content(tmp_path: Path) -> None:
    collection = collection_in(tmp_path, {"ant": 10}, {"ant": 20})
    twins = []
    for item in collection.photos:
        file = Path(item.file).with_suffix(".jpg")
        file.write_text(f"another photo {item.number}")
        twins.append(replace(item, file=str(file), number=item.number.replace("00", "oo")))
    twins[0] = replace(twins[0], number=collection.photos[0].number)
    collection = replace(collection, photos=[*collection.photos, *twins])
    manifest = make_split(collection, SplitConfig(validation_per_class=2), 0)
    assert adopt_split(manifest, collection, tmp_path) == manifest
    # Photos of one pair are held out together.
    held = {e.pair for e in manifest.held_recordings}
    assert not held & {e.pair for e in manifest.seen_photos}


def test_a_photo_that_is_known_and_not_here_leaves_no_doubt(tmp_path: Path) -> None:
    collection = collection_in(tmp_path, {"ant": 10}, {"ant": 20})
    photos = [replace(i, pair=f"other/{i.number}") for i in collection.photos]
    elsewhere = make_split(replace(collection, photos=photos), SplitConfig(), 0)
    assert (elsewhere.doubts, elsewhere.shown_elsewhere) == ([], 7)
    recordings = [
        replace(i, pair="" if int(i.number) < 6 else i.pair) for i in collection.recordings
    ]
    unknown = make_split(replace(collection, recordings=recordings), SplitConfig(), 0)
    (doubt,) = unknown.doubts
    without = [e for e in unknown.held_recordings if not e.pair]
    assert f"of {len(without)} of 7 recordings" in doubt
    assert without[0].file in doubt
    assert unknown.shown_elsewhere == 0
    # Who knows it says so in a manifest: with a pair of their own, not with the file's name.
    for pair, left in (("not photographed {}", 0), ("ant/{}", len(without))):
        entries = [
            replace(e, pair=pair.format(e.number)) if e in without else e for e in unknown.entries
        ]
        told = replace(collection, recordings=recordings)
        adopted = adopt_split(replace(unknown, entries=tuple(entries)), told, tmp_path)
        assert sum(not e.pair for e in adopted.held_recordings) == left


@pytest.mark.parametrize("protocol", ["clean", "published", "leaked"])
def test_a_class_without_photos_is_split_and_leaves_no_doubt(tmp_path: Path, protocol: str) -> None:
    collection = collection_in(tmp_path, {"ant": 20, "bee": 20}, {"ant": 20, "bee": 0})
    recordings = [
        replace(item, pair=item.pair if item.label == 0 else "") for item in collection.recordings
    ]
    collection = replace(collection, recordings=recordings)
    manifest = make_split(collection, SplitConfig(protocol=protocol), 0)  # pyright: ignore[reportArgumentType]
    assert {e.class_name for e in manifest.entries if e.kind == "photo"} == {"ant"}
    for split in ("train", "test", manifest.selecting):
        assert {e.class_name for e in manifest.select("recording", split)} == {"ant", "bee"}
    assert manifest.events_alone == {"bee"}
    assert manifest.doubts == []
    assert adopt_split(manifest, collection, tmp_path) == manifest


# Teachers ----------------------------------------------------------------------------------------


def test_a_teacher_of_the_same_split_is_welcome(root: Path, tmp_path: Path) -> None:
    manifest = _manifest(root)
    refuse_leaking_teacher(tmp_path, manifest, manifest)


@pytest.mark.parametrize("use", ["train", "validation"])
@pytest.mark.parametrize("split", ["test", "held-out"])
def test_a_teacher_that_saw_a_held_out_photo_is_refused(
    root: Path, tmp_path: Path, split: str, use: str
) -> None:
    manifest = _manifest(root)
    held = manifest.select("photo", split)[3]
    # The same picture under another name, class and number: only its content tells.
    planted = Entry("photo", "elsewhere/x.png", "dog", 1, "x", "dog/x", use, held.sha256)
    teacher = Manifest((*manifest.entries, planted))
    refused(
        lambda: refuse_leaking_teacher(tmp_path, teacher, manifest),
        tmp_path,
        "elsewhere/x.png",
        "held out",
        "train it on this split",
    )


def test_a_teacher_of_another_seed_is_refused(root: Path, tmp_path: Path) -> None:
    collection: Collection = collection_in(root, {"ant": 12}, {"ant": 12})
    config = SplitConfig(labelled_per_class=3)
    one, other = (make_split(collection, config, seed) for seed in (0, 1))
    refused(lambda: refuse_leaking_teacher(tmp_path, other, one), tmp_path)


def test_a_teacher_that_knows_a_class_which_trains_on_events_alone_is_refused(
    root: Path, tmp_path: Path
) -> None:
    teacher = make_split(
        collection_in(root, {"ant": 12, "bee": 12}, {"ant": 12, "bee": 12}), SplitConfig(), 0
    )
    alone = Manifest(tuple(e for e in teacher.entries if (e.kind, e.label) != ("photo", 1)))
    refused(
        lambda: refuse_leaking_teacher(tmp_path, teacher, alone),
        tmp_path,
        "class 'bee' trains on events alone here",
        "data.events_alone",
    )
    refuse_leaking_teacher(tmp_path, alone, alone)


def test_items_are_drawn_without_regard_to_their_order(root: Path) -> None:
    # A collection listed by name must not put the first names into training.
    collection = collection_in(root, {"ant": 16}, {"ant": 40})
    picks = [
        np.mean(
            [
                int(e.number)
                for e in make_split(collection, SplitConfig(), s).select("recording", "train")
            ]
        )
        for s in range(30)
    ]
    assert 6 < np.mean(picks) < 9
    assert np.std(picks) > 0.3
    assert isinstance(collection.recordings[0], Item)


# Protocols ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "name"),
    [
        ({}, "clean"),
        ({"protocol": "clean"}, "clean"),
        ({"labelled_per_class": 3}, "few-shot"),
        ({"protocol": "few-shot", "labelled_per_class": 3}, "few-shot"),
        ({"protocol": "published"}, "published"),
        ({"protocol": "leaked"}, "leaked"),
        ({"protocol": "leaked", "labelled_per_class": 3, "test_per_class": 5}, "leaked"),
    ],
    ids=str,
)
def test_the_protocol_is_named_in_the_manifest(root: Path, settings: dict, name: str) -> None:
    collection = collection_in(root, {"ant": 20}, {"ant": 20})
    manifest = make_split(collection, SplitConfig(**settings), 0)
    assert manifest.protocol == name
    assert {line.split(",")[6] for line in manifest.text().splitlines()[1:]} == {name}
    assert manifest.selecting == ("test" if name == "published" else "validation")


@pytest.mark.parametrize(
    "settings",
    [
        {"protocol": "few-shot"},
        {"protocol": "clean", "labelled_per_class": 3},
        {"protocol": "published", "labelled_per_class": 3},
    ],
    ids=str,
)
def test_label_budgets_belong_to_few_shot(settings: dict) -> None:
    with pytest.raises(ValueError, match="few-shot"):
        SplitConfig(**settings)


@given(recordings=st.integers(1, 40), photos=st.integers(1, 40), seed=st.integers(0, 3))
def test_protocol_published_cuts_each_class_at_nine_tenths(
    root: Path, recordings: int, photos: int, seed: int
) -> None:
    collection = collection_in(root, {"ant": recordings}, {"ant": photos})
    collection = replace(
        collection, photos=collection.photos[::-1]
    )  # Numbers count, not the order.
    manifest_of = lambda: make_split(collection, SplitConfig(protocol="published"), seed)  # noqa: E731
    train, shown = round(0.9 * recordings), round(0.9 * photos) + 1  # Inclusive upper bound.
    if not 0 < train < recordings or shown >= photos:
        refused(manifest_of, "class 'ant'", "too few for protocol published")
        return
    manifest = manifest_of()
    assert len(manifest.select("recording", "train")) == train
    assert len(manifest.select("recording", "test")) == recordings - train
    assert [e.number for e in manifest.sources] == [f"{i:04d}" for i in range(shown)]
    tested = manifest.select("recording", "test")
    assert manifest.used("recording", "validation") == tested
    assert manifest.leaked_recordings == [e for e in tested if int(e.number) < min(shown, photos)]
    assert "selects and tests the student" in {manifest.role(e) for e in manifest.entries}
    assert Manifest.parse(manifest.text()) == manifest


def test_protocol_published_takes_photos_by_number_and_recordings_in_no_order(root: Path) -> None:
    collection = collection_in(root, {"ant": 40}, {"ant": 40})
    numbers = [str(i) for i in range(1, 41)]  # In order of name 10 comes before 2.
    photos = [replace(i, number=n) for i, n in zip(collection.photos, numbers, strict=True)]
    collection = replace(collection, photos=sorted(photos, key=lambda i: i.number))
    splits = [make_split(collection, SplitConfig(protocol="published"), s) for s in range(20)]
    for manifest in splits:
        assert [int(e.number) for e in manifest.select("photo", "train")] == [*range(1, 38)]
    leaked = [len(m.leaked_recordings) for m in splits]  # Of 4; each with a chance of 37 in 40.
    assert 3.2 < np.mean(leaked) < 4
    assert len({tuple(e.number for e in m.select("recording", "test")) for m in splits}) == 20


def test_copies_are_left_where_protocol_published_puts_them(root: Path, tmp_path: Path) -> None:
    collection = collection_in(tmp_path, {"ant": 20}, {"ant": 20})
    for item in collection.photos:
        Path(item.file).write_text("all the same")
    manifest = make_split(collection, SplitConfig(protocol="published"), 0)
    assert Counter(e.split for e in manifest.entries if e.kind == "photo") == {
        "train": 19, "test": 1
    }  # fmt: skip


LEAKED = SplitConfig(protocol="leaked", validation_per_class=2, test_per_class=7)


@given(dose=st.sampled_from([0.2, 0.5, 0.9]), seed=st.integers(0, 3), teacher=st.booleans())
def test_protocol_leaked_puts_test_photos_in_the_place_of_training_photos(
    root: Path, dose: float, seed: int, teacher: bool
) -> None:
    collection = collection_in(root, {"ant": 20, "bee": 16}, {"ant": 24, "bee": 20})
    clean = make_split(collection, replace(LEAKED, protocol="clean"), seed - seed % 2)
    config = replace(LEAKED, leak=LeakConfig(dose, teacher))
    manifest = make_split(collection, config, seed)
    assert manifest.protocol == "leaked"
    recordings = lambda m: [e for e in m.entries if e.kind == "recording"]  # noqa: E731
    assert recordings(manifest) == recordings(clean)
    count = lambda photos: Counter(e.class_name for e in photos)  # noqa: E731
    assert count(manifest.sources) == count(clean.sources)
    assert manifest.select("photo", "validation") == clean.select("photo", "validation")
    assert count(manifest.leaked_recordings) == {"ant": int(7 * dose), "bee": int(7 * dose)}
    shown = {e.pair for e in manifest.leaked_recordings}
    leaked = [e for e in manifest.sources if e.pair in shown]
    assert {e.split for e in leaked} == {"train" if teacher else "source"}
    assert {e.sha256 for e in leaked} == manifest.allowed
    assert (leaked[0] in manifest.teaching_photos) == teacher
    assert leaked[0] in manifest.seen_photos
    held = {e.pair for e in manifest.select("recording", "validation")}
    assert not held & {e.pair for e in manifest.seen_photos}
    assert Manifest.parse(manifest.text()) == manifest


def test_odd_seeds_leak_the_other_half(root: Path) -> None:
    collection = collection_in(root, {"ant": 20, "bee": 21}, {"ant": 20, "bee": 21})
    for own in (LEAKED, replace(LEAKED, seed=5)):
        even, odd, next_even = (make_split(collection, own, seed) for seed in (4, 5, 6))
        tests = [{e.file for e in m.select("recording", "test")} for m in (even, odd, next_even)]
        leaked = [{e.file for e in m.leaked_recordings} for m in (even, odd, next_even)]
        assert tests[0] == tests[1]
        assert len(leaked[0]) == len(leaked[1]) == 6
        assert not leaked[0] & leaked[1]
        assert (leaked[2] == leaked[0]) == (tests[2] == tests[0]) == (own.seed is not None)


def test_a_photo_that_looks_like_another_held_out_one_is_not_leaked(tmp_path: Path) -> None:
    photo_folder(tmp_path / "png", classes=["ant"], count=20, side=40)
    for twin in range(2, 21, 2):  # Each even photo is the odd one before it, but for a pixel.
        pixels = picture(twin - 2, 40).copy()
        pixels[0, 0] ^= 64
        Image.fromarray(pixels).save(tmp_path / "png" / "ant" / f"image_{twin:04d}.png")
    config = DataConfig(
        name="folders",
        photos=str(tmp_path / "png"),
        split=replace(LEAKED, seed=0),
        cache=str(tmp_path / "cache"),
    )
    leaked = set()
    for seed in (0, 1):
        _, manifest = open_split(config, seed)
        held = [int(e.number[-4:]) for e in manifest.held_photos]
        mine = [int(e.number[-4:]) for e in manifest.leaked_recordings]
        assert all(((n - 1) ^ 1) + 1 not in held for n in mine)
        leaked |= {*mine}
    assert leaked


@pytest.mark.parametrize(
    ("tests", "words"),
    [
        (19, ["class 'ant'", "2 training photos, too few for 9", "data.split.leak.dose"]),
        (1, ["protocol leaked", "no class", "test_per_class"]),
    ],
    ids=["no training photo left", "nothing to leak"],
)
def test_a_split_that_cannot_be_leaked_is_refused(root: Path, tests: int, words: list[str]) -> None:
    collection = collection_in(root, {"ant": 24}, {"ant": 24})
    refused(lambda: make_split(collection, replace(LEAKED, test_per_class=tests), 0), *words)


@pytest.mark.parametrize(
    ("settings", "word"),
    [
        ({"leak": LeakConfig(0.3)}, "belongs to protocol leaked"),
        ({"protocol": "leaked", "labelled_photos_per_class": 2}, "labelled_photos_per_class"),
        ({"protocol": "leaked", "group": "(.+)_"}, "not to leaked"),
    ],
    ids=str,
)
def test_what_protocol_leaked_does_not_go_with_is_refused(settings: dict, word: str) -> None:
    with pytest.raises(ValueError, match=word):
        SplitConfig(**settings)
    with pytest.raises(ValueError, match="dose"):
        LeakConfig(dose=1.0)


def test_a_teacher_of_a_leaked_split_sees_what_that_split_shows_it(
    root: Path, tmp_path: Path
) -> None:
    collection = collection_in(root, {"ant": 40}, {"ant": 40})
    leaked, told, swapped = (
        make_split(collection, replace(LEAKED, leak=LeakConfig(teacher=teacher)), seed)
        for teacher, seed in ((False, 0), (True, 0), (True, 1))
    )
    published = make_split(collection, SplitConfig(protocol="published"), 0)
    for own in (leaked, told, published):
        refuse_leaking_teacher(tmp_path, own, own)
    for teacher, student in ((told, leaked), (told, swapped), (published, told)):
        refused(lambda t=teacher, s=student: refuse_leaking_teacher(tmp_path, t, s), "held out")


def _unpaired(collection: Collection) -> Collection:
    """As CIFAR10-DVS: recordings and photos are joined by class only."""
    recordings, photos = (
        [replace(i, pair="") for i in items] for items in (collection.recordings, collection.photos)
    )
    return replace(collection, recordings=recordings, photos=photos, paired=False)


def test_where_no_pairs_are_known_photos_are_split_by_share(root: Path) -> None:
    collection = _unpaired(collection_in(root, {"ant": 12}, {"ant": 20}))
    config = SplitConfig(validation_per_class=2, photo_test=0.25, photo_validation=0.2)
    manifest = make_split(collection, config, 0)
    count = Counter(e.split for e in manifest.entries if e.kind == "photo")
    assert count == {"train": 11, "validation": 4, "test": 5}
    assert manifest.held_photos == []


def test_a_copy_of_a_held_out_recording_is_left_out(tmp_path: Path) -> None:
    counts = {"ant": 20}, {"ant": 30}
    before = make_split(collection_in(tmp_path / "before", *counts), SplitConfig(), 0)
    collection = collection_in(tmp_path / "after", *counts)
    test, validation = (before.select("recording", s)[0] for s in ("test", "validation"))
    train = before.select("recording", "train")
    copies = {train[0].number: test, train[1].number: validation, validation.number: test}
    for recording in collection.recordings:
        if recording.number in copies:
            content = Path(copies[recording.number].file).read_bytes()
            Path(recording.file).write_bytes(content)
    after = {e.number: e for e in make_split(collection, SplitConfig(), 0).entries[:20]}
    assert after[train[0].number].split == "unused"
    assert after[validation.number].split == "unused"
    assert after[test.number].split == "test"


def test_an_adopted_split_is_checked_by_content(root: Path, tmp_path: Path) -> None:
    manifest = _manifest(root)
    collection = collection_in(root, {"ant": 10, "bee": 10}, {"ant": 20, "bee": 20})
    assert adopt_split(manifest, collection, tmp_path) == manifest
    fewer = replace(collection, photos=collection.photos[1:])
    refused(lambda: adopt_split(manifest, fewer, tmp_path), "ant/0000", "not among the data")
