"""A person's own folders, the embedded digits, and where prepared data are kept."""

import hashlib
from dataclasses import replace
from pathlib import Path

import eventcv
import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from factories import files_in, packed, photo_folder, picture, refused
from spikebridge.data.datasets.catalog import Item, PhotoReader, cache_folder, open_collection
from spikebridge.data.events import read_events
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.simulate import Simulator

ROWS = [(1, 2, 3, 1), (4, 5, 6, 0)]


def _recordings(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            (root / folder / file).write_bytes(packed(ROWS))
    return root


# Folders -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("events", "photos", "name"),
    [
        ("robot/events", "robot/photos", "robot"),
        ("robot/dvs-346", "photos", "dvs-346"),
        (None, "robot/Photos", "robot"),
        (None, "caltech101", "caltech101"),
    ],
)
def test_folders_are_called_by_a_name_that_tells_them_from_others(
    tmp_path: Path, events: str | None, photos: str, name: str
) -> None:
    photo_folder(tmp_path / photos, ("saw", "cup"), 2)
    if events:
        stems = ["image_0001.bin", "image_0002.bin"]
        _recordings(tmp_path / events, {"saw": stems, "cup": stems})
    config = DataConfig(
        name="folders",
        photos=str(tmp_path / photos),
        events=events and str(tmp_path / events),
        simulator=Simulator(width=16, height=16, frames=5),
        cache=str(tmp_path / "cache"),
    )
    assert open_collection(config).name == name


def test_folders_pair_by_class_and_stem(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("saw", "cup"), 3)
    events = _recordings(
        tmp_path / "events",
        {"saw": ["image_0003.bin", "image_0001.bin"], "cup": ["image_0001.bin", "image_0009.csv"]},
    )
    collection = open_collection(
        DataConfig(name="folders", photos=str(photos), events=str(events), sensor=(34, 34))
    )
    assert collection.classes == ("cup", "saw")
    assert collection.sensor == (34, 34)
    assert collection.paired
    assert collection.recordings == [
        Item(str(events / f"{name}/{stem}{suffix}"), label, stem, pair)
        for label, name, stem, suffix, pair in (
            (0, "cup", "image_0001", ".bin", "cup/image_0001"),
            (0, "cup", "image_0009", ".csv", ""),
            (1, "saw", "image_0001", ".bin", "saw/image_0001"),
            (1, "saw", "image_0003", ".bin", "saw/image_0003"),
        )
    ]
    assert collection.photos == [
        Item(
            str(photos / f"{name}/image_000{i}.png"),
            label,
            f"image_000{i}",
            f"{name}/image_000{i}",
        )
        for label, name in enumerate(("cup", "saw"))
        for i in (1, 2, 3)
    ]


def test_the_sensor_of_folders_is_n_caltech101s_unless_told(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup",), 1)
    events = _recordings(tmp_path / "events", {"cup": ["image_0001.bin"]})
    config = DataConfig(name="folders", photos=str(photos), events=str(events))
    assert open_collection(config).sensor == (240, 180)


def test_a_photo_class_without_recordings_is_refused(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("Faces", "Faces_easy", "ant"), 1)
    events = _recordings(
        tmp_path / "events", {"Faces_easy": ["image_0001.bin"], "ant": ["image_0001.bin"]}
    )
    config = DataConfig(name="folders", photos=str(photos), events=str(events))
    line = refused(lambda: open_collection(config), events, "'Faces'", "'Faces_easy'")
    assert "data.exclude" in line
    collection = open_collection(replace(config, exclude=["Faces"]))
    assert collection.classes == ("Faces_easy", "ant")
    assert {Path(item.file).parent.name for item in collection.photos} == {"Faces_easy", "ant"}


def test_names_that_match_nowhere_join_by_class_only(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "saw"), 2)
    names = {"cup": ["take1.bin", "take2.bin"], "saw": ["take1.bin"]}
    events = _recordings(tmp_path / "events", names)
    collection = open_collection(_config(tmp_path))
    assert not collection.paired
    assert {i.pair for i in (*collection.recordings, *collection.photos)} == {""}
    assert [i.number for i in collection.recordings] == ["take1", "take2", "take1"]
    # One name that matches, and in its own class, and all go by name.
    (events / "saw/image_0002.bin").write_bytes(packed(ROWS))
    collection = open_collection(_config(tmp_path))
    assert collection.paired
    assert [i.pair for i in collection.recordings if i.label == 1] == [
        "saw/image_0002",
        "",
    ]
    (events / "saw/image_0002.bin").unlink()
    (photos / "saw/image_0002.png").rename(photos / "saw/take2.png")
    assert not open_collection(_config(tmp_path)).paired


NFC, NFD = "caf\u00e9", "cafe\u0301"


@pytest.mark.parametrize(
    ("recording", "photo"),
    [("img_0005", "IMG_0005"), ("Img_0005", "img_0005"), (NFC, NFD), (NFD.upper(), NFC)],
)
def test_letter_case_and_unicode_form_of_names_do_not_matter(
    tmp_path: Path, recording: str, photo: str
) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup",), 2)
    (photos / "cup/image_0001.png").rename(photos / f"cup/{photo}.png")
    _recordings(tmp_path / "events", {"cup": [f"{recording}.bin", "image_0002.bin"]})
    collection = open_collection(_config(tmp_path))
    by_number = {i.number: i.pair for i in (*collection.recordings, *collection.photos)}
    assert by_number[recording] == by_number[photo] != ""
    # Nor do they make two recordings of what one file name is elsewhere.
    (tmp_path / f"events/cup/{photo}.csv").write_text("1 2 3 1")
    config = _config(tmp_path, sensor=(34, 34))
    refused(lambda: open_collection(config), recording, photo, "same photo")


def test_the_unicode_form_of_a_class_does_not_matter(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", (NFC, "cup"), 2)
    names = {NFD: ["image_0001.bin"], "cup": ["image_0001.bin"]}
    events = _recordings(tmp_path / "events", names)
    collection = open_collection(_config(tmp_path))
    assert collection.classes == (NFC, "cup")
    assert collection.recordings[0].pair == f"{NFC}/image_0001"
    assert open_collection(_config(tmp_path, exclude=[NFD])).classes == ("cup",)
    (events / NFC).mkdir()
    (events / NFC / "image_0002.bin").write_bytes(packed(ROWS))
    refused(lambda: open_collection(_config(tmp_path)), events, "Unicode form", "into one")


def test_the_sensor_must_be_set_where_files_need_not_tell_it(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", ("cup",), 1)
    events = files_in(tmp_path / "events", {"cup/image_0001.csv": b"1 2 3 1\n2 4 5 0\n"})
    refused(lambda: open_collection(_config(tmp_path)), events, ".csv", "data.sensor")
    assert open_collection(_config(tmp_path, sensor=(50, 60))).sensor == (50, 60)
    assert open_collection(_config(tmp_path, extent="recording")).sensor is None
    # Formats that tell it are not overruled.
    stream = eventcv.from_numpy(np.array([(1, 2, 3, 1), (4, 5, 6, 0)]), sensor_size=(50, 60))
    eventcv.save(stream, str(events / "cup/image_0001.aedat4"))
    (events / "cup/image_0001.csv").unlink()
    collection = open_collection(_config(tmp_path))
    assert collection.sensor is None
    assert read_events(collection.recordings[0].file, collection.sensor).sensor == (50, 60)


def test_excluded_classes_are_left_out_even_if_they_are_broken(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "saw"), 2)
    (photos / "empty").mkdir()
    events = _recordings(
        tmp_path / "events", {"cup": ["image_0001.bin"], "clutter": ["image_0001.bin"], "none": []}
    )
    exclude = ["clutter", "empty", "none", "saw", "not there at all"]
    config = DataConfig(name="folders", photos=str(photos), events=str(events), exclude=exclude)
    assert open_collection(config).classes == ("cup",)


def test_simulated_recordings_are_made_of_every_photo_but_the_excluded(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "dog", "saw"), 2)
    (photos / "empty").mkdir()
    config = DataConfig(
        name="folders",
        photos=str(photos),
        exclude=["dog", "empty"],
        cache=str(tmp_path / "cache"),
        simulator=Simulator(width=16, height=12, frames=10),
    )
    collection = open_collection(config)
    assert collection.classes == ("cup", "saw")
    assert collection.sensor == (16, 12)
    pairs = [f"{name}/image_000{i}" for name in ("cup", "saw") for i in (1, 2)]
    assert [item.pair for item in collection.recordings] == pairs
    assert [item.pair for item in collection.photos] == pairs
    for item in collection.recordings:
        assert Path(item.file).is_relative_to(tmp_path / "cache")
        assert len(read_events(item.file, collection.sensor)) > 20
    # They are made once, and made again when a photo changes.
    times = [Path(item.file).stat().st_mtime_ns for item in collection.recordings]
    again = open_collection(config)
    assert again == collection
    assert [Path(item.file).stat().st_mtime_ns for item in again.recordings] == times
    Image.fromarray(picture(99)).save(photos / "cup/image_0001.png")
    changed = open_collection(config).recordings
    assert {i.file for i in changed}.isdisjoint(i.file for i in collection.recordings)


def _config(tmp_path: Path, **changes: object) -> DataConfig:
    folders = {"photos": str(tmp_path / "photos"), "events": str(tmp_path / "events")}
    return DataConfig(**{"name": "folders", **folders, **changes})


def test_missing_folders_are_refused(tmp_path: Path) -> None:
    refused(lambda: open_collection(DataConfig(name="folders")), "data.photos is not set")
    config = _config(tmp_path)
    refused(lambda: open_collection(config), tmp_path / "photos", "no such folder", "data.photos")
    photo_folder(tmp_path / "photos", count=1)
    refused(lambda: open_collection(config), tmp_path / "events", "no such folder", "data.events")
    (tmp_path / "events/cup").mkdir(parents=True)
    (tmp_path / "events/cup/notes.md").touch()
    refused(lambda: open_collection(config), tmp_path / "events", "no recording", "CLASS/*.bin")


def test_a_class_without_a_recording_is_refused(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", count=1)
    _recordings(tmp_path / "events", {"cup": ["image_0001.bin"], "saw": []})
    refused(
        lambda: open_collection(_config(tmp_path)),
        tmp_path / "events/saw",
        "class without a recording",
        "exclude",
    )


def test_a_class_without_a_photo_is_refused(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "saw"), 1)
    _recordings(tmp_path / "events", {"cup": ["image_0001.bin"], "saw": ["image_0001.bin"]})
    (photos / "saw/image_0001.png").unlink()
    for config in (_config(tmp_path), _config(tmp_path, events=None)):
        line = refused(lambda c=config: open_collection(c), photos, "saw", "photo")
        assert "exclude" in line


def test_a_class_of_another_name_is_refused_with_the_nearest(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", ("airplanes", "cup"), 1)
    _recordings(tmp_path / "events", {"airplane": ["image_0001.bin"], "cup": ["image_0001.bin"]})
    line = refused(lambda: open_collection(_config(tmp_path)), "'airplane'", "'airplanes'")
    assert "data.exclude" in line


def test_two_recordings_of_one_photo_are_refused(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", ("cup",), 1)
    _recordings(tmp_path / "events", {"cup": ["image_0001.bin", "image_0001.csv"]})
    refused(
        lambda: open_collection(_config(tmp_path)),
        tmp_path / "events/cup",
        "image_0001.bin",
        "image_0001.csv",
        "keep one",
    )


def test_a_class_name_with_a_hash_is_a_folder_like_any_other(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("c#",), 1)
    _recordings(tmp_path / "events", {"c#": ["image_0001.bin"]})
    [item] = open_collection(_config(tmp_path)).photos
    reader = PhotoReader()
    np.testing.assert_array_equal(reader(item), picture(0))
    file = photos / "c#/image_0001.png"
    assert reader.sha256(item) == hashlib.sha256(file.read_bytes()).hexdigest()


# Digits ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    return DataConfig(
        name="digits",
        cache=str(tmp_path_factory.mktemp("digits")),
        simulator=Simulator(width=8, height=8, frames=6, amplitude=2.0, pos_threshold=0.3),
    )


def test_the_embedded_digits_are_scikit_learns(digits: DataConfig) -> None:
    collection = open_collection(digits)
    source = load_digits()
    assert collection.classes == tuple("0123456789")
    assert len(collection.photos) == len(collection.recordings) == 1797
    assert [i.pair for i in collection.photos] == [i.pair for i in collection.recordings]
    reader = PhotoReader()
    for item in collection.photos[::100]:
        index = int(item.number.removeprefix("image_"))
        assert item.label == source.target[index]
        expected_HW = np.round(source.images[index] * 255 / 16)
        np.testing.assert_array_equal(reader(item)[..., 0], expected_HW)
    assert [i.label for i in collection.photos].count(8) == (source.target == 8).sum()
    assert open_collection(digits) == collection


# The cache ---------------------------------------------------------------------------------------


def test_the_cache_is_where_it_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cache_home: Path
) -> None:
    assert cache_folder(DataConfig(cache=str(tmp_path))) == tmp_path
    assert cache_folder(DataConfig()) == cache_home / "spikebridge"
    monkeypatch.delenv("XDG_CACHE_HOME")
    assert cache_folder(DataConfig()) == Path.home() / ".cache/spikebridge"
