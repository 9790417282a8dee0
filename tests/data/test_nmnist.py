"""N-MNIST and MNIST, laid out as they are published, and 500 real recordings."""

import gzip
import hashlib
from pathlib import Path

import numpy as np
import pytest

from factories import idx_bytes, packed, real_data, refused
from spikebridge.data.datasets.catalog import PhotoReader, open_collection
from spikebridge.data.datasets.nmnist import PUBLISHED
from spikebridge.data.events import read_events
from spikebridge.data.frames import frame_events
from spikebridge.data.settings import DataConfig

ROWS = [(1, 2, 3, 1), (4, 5, 6, 0)]


def test_the_published_numbers() -> None:
    assert list(PUBLISHED) == list("0123456789")
    assert sum(PUBLISHED.values()) == 70_000
    assert PUBLISHED["5"] == 5421 + 892  # MNIST's rarest digit


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
    refused(lambda: open_collection(DataConfig(name="nmnist")), "data.photos is not set")
    only = DataConfig(name="nmnist", photos=str(tmp_path / "mnist"))
    _mnist(tmp_path / "mnist")
    refused(lambda: open_collection(only), "data.events is not set", "Train/DIGIT")
    events = _n_mnist(tmp_path / "events", {"Train": list(range(1, 11))})
    config = DataConfig(name="nmnist", events=str(events), photos=str(tmp_path / "mnist"))

    labels = tmp_path / "mnist/t10k-labels-idx1-ubyte"
    whole = labels.read_bytes()
    labels.write_bytes(idx_bytes(np.zeros(19, np.uint8)))
    refused(lambda: open_collection(config), labels, "another number", "fetch")
    labels.write_bytes((tmp_path / "mnist/t10k-images-idx3-ubyte").read_bytes())
    refused(lambda: open_collection(config), "t10k-images", "fetch")
    labels.write_bytes(whole)

    (events / "Train/3/00004.bin").unlink()
    refused(lambda: open_collection(config), events, "/3: class without a recording", "exclude")
    (events / "Train/3/first.bin").write_bytes(packed(ROWS))
    refused(lambda: open_collection(config), events / "Train/3/first.bin", "named by number")
    (events / "Train/3/first.bin").rename(events / "Train/3/00004.bin")
    for name in ("12", "zero"):
        (events / "Train/3").rename(events / "Train" / name)
        refused(lambda: open_collection(config), f"Train/{name}", "10 published classes")
        (events / "Train" / name).rename(events / "Train/3")
    open_collection(config)
    (events / "Train/3/4.bin").write_bytes(packed(ROWS))
    refused(lambda: open_collection(config), "3/4.bin", "same photo", "keep one")
    (events / "Train/3/4.bin").unlink()

    empty = DataConfig(name="nmnist", events=str(events), photos=str(events))
    refused(lambda: open_collection(empty), events, "t10k-images-idx3-ubyte")


def test_in_a_folder_of_another_name_no_photo_is_known(tmp_path: Path) -> None:
    _mnist(tmp_path / "mnist")
    events = _n_mnist(tmp_path / "events", {"heldout500": [1, 11], "test": [1, 11]})
    photos = str(tmp_path / "mnist")
    for part, pairs in (("heldout500", ["", ""]), ("test", ["t10k/0", "t10k/10"])):
        config = DataConfig(name="nmnist", events=str(events / part), photos=photos)
        assert [i.pair for i in open_collection(config).recordings] == pairs


def test_some_digits_will_do(tmp_path: Path) -> None:
    _mnist(tmp_path / "mnist")
    events = _n_mnist(tmp_path / "events", {"Train": [1, 4, 8], "Test": [1, 4]})
    config = DataConfig(
        name="nmnist", events=str(events), photos=str(tmp_path / "mnist"), exclude=["7"]
    )
    collection = open_collection(config)
    assert collection.classes == ("0", "3")
    assert [i.pair for i in collection.recordings] == ["train/0", "t10k/0", "train/3", "t10k/3"]
    assert {i.label for i in collection.photos} == {0, 1}


def test_names_and_folders_of_other_mirrors(tmp_path: Path) -> None:
    _mnist(tmp_path / "mnist")
    raw = tmp_path / "torchvision/MNIST/raw"
    raw.mkdir(parents=True)
    for file in (tmp_path / "mnist").iterdir():
        file.rename(raw / file.name.replace("-idx", ".idx"))
    events = _n_mnist(tmp_path / "events", {"Test": list(range(1, 11))})
    config = DataConfig(name="nmnist", events=str(events), photos=str(tmp_path / "torchvision"))
    collection = open_collection(config)
    assert len(collection.photos) == 50
    assert collection.photos[0].file == f"{raw}/train-images.idx3-ubyte#0"


# Real recordings ----------------------------------------------------------------------------------

REAL, real = real_data("nmnist")


@real
def test_real_recordings_show_the_digits_that_their_labels_say() -> None:
    config = DataConfig(name="nmnist", events=str(REAL / "events"), photos=str(REAL / "photos"))
    collection = open_collection(config)
    assert collection.classes == tuple("0123456789")
    numbers = sorted(int(item.number) for item in collection.recordings)
    assert numbers == list(range(1, 501))
    assert {i.pair for i in collection.recordings} == {f"train/{n}" for n in range(500)}
    assert {i.pair for i in collection.photos} == {f"t10k/{n}" for n in range(10_000)}
    # MNIST's training labels begin with 5, 0, 4, 1, 9, 2, 1, 3, 1, 4.
    by_number = {int(i.number): i.label for i in collection.recordings}
    assert [by_number[n] for n in range(1, 11)] == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    # And the test labels with 7, 2, 1, 0, 4.
    photos = {i.pair: i for i in collection.photos}
    assert [photos[f"t10k/{n}"].label for n in range(5)] == [7, 2, 1, 0, 4]


@real
def test_real_recordings_look_like_the_photos_of_their_class() -> None:
    config = DataConfig(name="nmnist", events=str(REAL / "events"), photos=str(REAL / "photos"))
    collection = open_collection(config)
    reader = PhotoReader()
    photos_NHW = np.stack([reader(item)[..., 0] for item in collection.photos[::5]])
    label_N = np.array([item.label for item in collection.photos[::5]])
    means_CHW = np.stack([np.pad(photos_NHW[label_N == c].mean(0), 3) for c in range(10)])
    events_NHW = np.stack(
        [
            frame_events(read_events(item.file, collection.sensor), 1, (34, 34))[0].sum(0)
            for item in collection.recordings
        ]
    )
    labels = np.array([item.label for item in collection.recordings])

    def right(means_CHW: np.ndarray) -> float:
        """Share of recordings that correlate best with the mean photo of their own class."""
        first, second = (_normalised(a) for a in (events_NHW, means_CHW))
        return float(((first @ second.T).argmax(1) == labels).mean())

    assert right(means_CHW) > 0.65
    for turned in (means_CHW[:, ::-1], means_CHW[:, :, ::-1], means_CHW.transpose(0, 2, 1)):
        assert right(turned) < 0.5


def _normalised(x_NHW: np.ndarray) -> np.ndarray:
    x_NP = x_NHW.reshape(len(x_NHW), -1) - x_NHW.mean((1, 2))[:, None]
    return x_NP / np.linalg.norm(x_NP, axis=1, keepdims=True)
