"""N-Caltech101 and Caltech101, laid out as they are published."""

from pathlib import Path

import pytest

from factories import as_rows, files_in, packed, png_bytes, real_data, refused
from spikebridge.data.datasets.catalog import Collection, Item, open_collection
from spikebridge.data.datasets.ncaltech101 import PUBLISHED
from spikebridge.data.events import read_events
from spikebridge.data.settings import DataConfig

ROWS = [(1, 2, 3, 1), (4, 5, 6, 0)]
CLASSES = ("BACKGROUND_Google", "Faces_easy", "accordion")


def _recordings(root: Path, classes: tuple[str, ...] = CLASSES, count: int = 2) -> Path:
    files = {f"{c}/image_{i + 1:04d}.bin": packed(ROWS) for c in classes for i in range(count)}
    return files_in(root, files)


def _photos(root: Path, classes: tuple[str, ...] = (*CLASSES, "Faces", "yin_yang")) -> Path:
    files = {f"{c}/image_{i:04d}.jpg": png_bytes(i, "jpeg") for c in classes for i in (1, 2, 3)}
    return files_in(root, {**files, "BACKGROUND_Google/tmp": b"stray"})


def _open(events: Path, photos: Path, **changes: object) -> Collection:
    config = DataConfig(name="ncaltech101", events=str(events), photos=str(photos), **changes)  # pyright: ignore[reportArgumentType]
    return open_collection(config)


def test_the_published_classes_are_101_with_8709_recordings() -> None:
    assert len(PUBLISHED) == 101
    assert sum(PUBLISHED.values()) == 8709
    assert "Faces" not in PUBLISHED
    assert PUBLISHED["Faces_easy"] == 435
    assert PUBLISHED["BACKGROUND_Google"] == 467
    assert list(PUBLISHED) == sorted(PUBLISHED)


CALTECH, needs_caltech = real_data("caltech101")


@needs_caltech
def test_the_published_numbers_are_those_of_real_folders() -> None:
    # The development copy holds the first 80 photos of each class.
    counts = {c.name: len(list(c.glob("*.jpg"))) for c in CALTECH.iterdir() if c.name != "Faces"}
    assert len(counts) == 25
    assert counts == {name: min(80, PUBLISHED[name]) for name in counts}


def test_zeros_and_letter_case_are_no_part_of_a_number(tmp_path: Path) -> None:
    events, photos = _recordings(tmp_path / "n", ("accordion",), 3), _photos(tmp_path / "c")
    (events / "accordion/image_0001.bin").rename(events / "accordion/image_1.bin")
    (events / "accordion/image_0002.bin").rename(events / "accordion/Image_00002.bin")
    (events / "accordion/image_0003.bin").rename(events / "accordion/take 3.bin")
    collection = _open(events, photos)
    assert {i.number: i.pair for i in collection.recordings} == {
        "image_1": "accordion/image_0001",
        "Image_00002": "accordion/image_0002",
        "take 3": "",
    }


def test_recordings_pair_with_the_photo_of_their_class_and_number(tmp_path: Path) -> None:
    events, photos = _recordings(tmp_path / "n"), _photos(tmp_path / "c")
    collection = _open(events, photos)
    assert collection.name == "ncaltech101"
    assert collection.classes == CLASSES
    assert collection.sensor == (240, 180)
    assert collection.paired
    assert collection.recordings[4] == Item(
        str(events / "accordion/image_0001.bin"), 2, "image_0001", "accordion/image_0001"
    )
    assert as_rows(read_events(collection.recordings[4].file, collection.sensor)) == ROWS
    # Faces and classes without recordings are left out, and the stray file with them.
    assert [item.label for item in collection.photos] == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert {i.pair for i in collection.recordings} < {i.pair for i in collection.photos}


@pytest.mark.parametrize("above", ["101_ObjectCategories", "caltech-101/101_ObjectCategories"])
def test_the_folders_above_will_do(tmp_path: Path, above: str) -> None:
    events = _recordings(tmp_path / "N-Caltech101/Caltech101")
    _recordings(tmp_path / "N-Caltech101/Caltech101_annotations", ("nothing",))
    photos = _photos(tmp_path / "photos" / above)
    assert _open(events.parent, tmp_path / "photos") == _open(events, photos)


def test_faces_are_left_out_of_recordings_too(tmp_path: Path) -> None:
    # A simulated twin of Caltech101 has recordings of them.
    events = _recordings(tmp_path / "n", ("Faces", "accordion"))
    assert _open(events, _photos(tmp_path / "c")).classes == ("accordion",)


def test_the_background_can_be_excluded(tmp_path: Path) -> None:
    events, photos = _recordings(tmp_path / "n"), _photos(tmp_path / "c")
    collection = _open(events, photos, exclude=["BACKGROUND_Google"])
    assert collection.classes == ("Faces_easy", "accordion")


def test_a_folder_of_another_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    events, photos = _recordings(tmp_path / "n"), _photos(tmp_path / "c")
    (events / "accordion").rename(events / "Accordion")
    refused(lambda: _open(events, photos), events / "Accordion", "'accordion'", "data.exclude")
    assert _open(events, photos, exclude=["Accordion"]).classes == CLASSES[:2]
    (events / "Accordion").rename(events / "accordion")
    (events / "__MACOSX").mkdir()  # without recordings it is only clutter
    assert _open(events, photos).classes == CLASSES


def test_archives_that_are_not_unpacked_are_named(tmp_path: Path) -> None:
    packed_photos = files_in(tmp_path / "c", {"101_ObjectCategories.tar.gz": b"packed"})
    events = _recordings(tmp_path / "n")
    refused(lambda: _open(events, packed_photos), packed_photos, "tar.gz", "unpack")
    packed_events = files_in(tmp_path / "z", {"Caltech101.zip": b"packed"})
    refused(lambda: _open(packed_events, _photos(tmp_path / "p")), "Caltech101.zip", "unpack")


def test_settings_that_are_missing(tmp_path: Path) -> None:
    for changes in ({}, {"photos": str(_photos(tmp_path / "c"))}):
        config = DataConfig(name="ncaltech101", **changes)  # pyright: ignore[reportArgumentType]
        line = refused(lambda c=config: open_collection(c), "is not set", "CLASS/image_0001")
        assert ("data.events" in line) == bool(changes)
