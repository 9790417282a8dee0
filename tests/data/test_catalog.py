"""Data sets found on disk: classes, pairs, and what is wrong with them."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from sklearn.datasets import load_digits

from factories import idx_bytes, packed, photo_folder, picture, refused
from spikebridge.config import DataConfig
from spikebridge.data.catalog import Item, PhotoReader, cache_folder, open_collection
from spikebridge.data.events import read_events
from spikebridge.data.simulate import Simulator

ROWS = [(1, 2, 3, 1), (4, 5, 6, 0)]


def _recordings(root: Path, names: dict[str, list[str]]) -> Path:
    for folder, files in names.items():
        (root / folder).mkdir(parents=True)
        for file in files:
            (root / folder / file).write_bytes(packed(ROWS))
    return root


# Folders -----------------------------------------------------------------------------------------


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
        Item(str(events / f"{name}/{stem}{suffix}"), label, stem, f"{name}/{stem}")
        for label, name, stem, suffix in (
            (0, "cup", "image_0001", ".bin"),
            (0, "cup", "image_0009", ".csv"),
            (1, "saw", "image_0001", ".bin"),
            (1, "saw", "image_0003", ".bin"),
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


def test_recordings_define_the_classes(tmp_path: Path) -> None:
    # Caltech101 has a class more (Faces) than N-Caltech101.
    photos = photo_folder(tmp_path / "photos", ("Faces", "Faces_easy", "ant"), 1)
    events = _recordings(
        tmp_path / "events", {"Faces_easy": ["image_0001.bin"], "ant": ["image_0001.bin"]}
    )
    config = DataConfig(name="folders", photos=str(photos), events=str(events))
    collection = open_collection(config)
    assert collection.classes == ("Faces_easy", "ant")
    assert {Path(item.file).parent.name for item in collection.photos} == {"Faces_easy", "ant"}


def test_excluded_classes_are_left_out_even_if_they_are_broken(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", ("cup", "saw"), 2)
    (photos / "empty").mkdir()
    events = _recordings(
        tmp_path / "events", {"cup": ["image_0001.bin"], "clutter": ["image_0001.bin"], "none": []}
    )
    exclude = ["clutter", "empty", "none", "not there at all"]
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
    refused(lambda: open_collection(config), tmp_path / "events", "no recording", "CLASS/RECORDING")


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


# N-MNIST -----------------------------------------------------------------------------------------


def _mnist(root: Path, *, gz: bool = False) -> dict[str, np.ndarray]:
    """IDX files of both parts: photo i of either is of digit i mod 10."""
    root.mkdir()
    arrays = {}
    for seed, (source, count) in enumerate((("train", 30), ("t10k", 20))):
        photos_NHW = np.random.default_rng(seed).integers(0, 256, (count, 28, 28), dtype=np.uint8)
        label_N = (np.arange(count) % 10).astype(np.uint8)
        for name, array in (("images-idx3", photos_NHW), ("labels-idx1", label_N)):
            file = root / f"{source}-{name}-ubyte{'.gz' if gz else ''}"
            file.write_bytes(gzip.compress(idx_bytes(array)) if gz else idx_bytes(array))
        arrays[source] = photos_NHW
    return arrays


def _n_mnist(root: Path, parts: dict[str, list[int]]) -> Path:
    """PART/DIGIT/NNNNN.bin; NNNNN counts photos from 1."""
    for part, numbers in parts.items():
        for number in numbers:
            file = root / part / str((number - 1) % 10) / f"{number:05d}.bin"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(packed(ROWS))
    return root


@pytest.mark.parametrize("gz", [False, True])
def test_n_mnist_pairs_recordings_with_mnists_photos(tmp_path: Path, gz: bool) -> None:
    arrays = _mnist(tmp_path / "mnist", gz=gz)
    events = _n_mnist(
        tmp_path / "events", {"Train": list(range(1, 13)), "Test": list(range(1, 11))}
    )
    collection = open_collection(
        DataConfig(name="nmnist", events=str(events), photos=str(tmp_path / "mnist"))
    )
    assert collection.classes == tuple("0123456789")
    assert collection.sensor == (34, 34)
    assert len(collection.recordings) == 22
    by_file = {i.file: i for i in collection.recordings}
    assert by_file[str(events / "Train/0/00001.bin")].pair == "train/0"
    assert by_file[str(events / "Train/1/00012.bin")].pair == "train/11"
    assert by_file[str(events / "Test/9/00010.bin")].pair == "t10k/9"
    photos = {i.pair: i for i in collection.photos}
    assert len(photos) == len(collection.photos) == 50
    reader = PhotoReader()
    for recording in collection.recordings:
        photo = photos[recording.pair]
        assert photo.label == recording.label == int(Path(recording.file).parent.name)
        source, index = recording.pair.split("/")
        expected_HW = arrays[source][int(index)]
        np.testing.assert_array_equal(reader(photo), np.stack([expected_HW] * 3, -1))
        assert reader.sha256(photo) == hashlib.sha256(expected_HW.tobytes()).hexdigest()


def test_n_mnist_of_one_part_or_without_parts(tmp_path: Path) -> None:
    _mnist(tmp_path / "mnist")
    for name in ("train-images-idx3-ubyte", "train-labels-idx1-ubyte"):
        (tmp_path / "mnist" / name).unlink()
    events = _n_mnist(tmp_path / "events", {"Train": list(range(1, 11))})
    for root in (events, events / "Train"):
        collection = open_collection(
            DataConfig(name="nmnist", events=str(root), photos=str(tmp_path / "mnist"))
        )
        assert {i.pair for i in collection.recordings} == {f"train/{n}" for n in range(10)}
        assert {i.pair for i in collection.photos} == {f"t10k/{n}" for n in range(20)}


def test_n_mnist_that_is_not_whole_is_refused(tmp_path: Path) -> None:
    refused(lambda: open_collection(DataConfig(name="nmnist")), "data.events and data.photos")
    events = _n_mnist(tmp_path / "events", {"Train": list(range(1, 11))})
    _mnist(tmp_path / "mnist")
    config = DataConfig(name="nmnist", events=str(events), photos=str(tmp_path / "mnist"))

    labels = tmp_path / "mnist/t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    refused(lambda: open_collection(config), labels, "another number", "fetch")
    labels.write_bytes((tmp_path / "mnist/t10k-images-idx3-ubyte").read_bytes())
    refused(lambda: open_collection(config), "t10k-images", "fetch")
    labels.write_bytes(whole)

    (events / "Train/3/00004.bin").unlink()
    refused(lambda: open_collection(config), events, "digit 3")
    (events / "Train/3/first.bin").write_bytes(packed(ROWS))
    refused(lambda: open_collection(config), events / "Train/3/first.bin", "named by number")
    (events / "Train/3/first.bin").rename(events / "Train/3/00004.bin")
    for name in ("12", "zero"):
        (events / "Train" / name).mkdir()
        refused(lambda: open_collection(config), f"Train/{name}", "0 to 9")
        (events / "Train" / name).rmdir()
    open_collection(config)

    empty = DataConfig(name="nmnist", events=str(events), photos=str(events))
    refused(lambda: open_collection(empty), events, "t10k-images-idx3-ubyte")


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
