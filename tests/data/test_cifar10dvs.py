"""CIFAR10-DVS and CIFAR-10, in the bytes of their publishers."""

import pickle
import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from factories import (
    AEDAT2_HEADER,
    aedat2_bytes,
    as_rows,
    cifar10_pickle,
    cifar10_records,
    files_in,
    png_bytes,
    refused,
)
from spikebridge.data.datasets.catalog import Item, PhotoReader, open_collection
from spikebridge.data.events import read_events
from spikebridge.data.formats.aedat2 import is_dvs128
from spikebridge.data.formats.cifar10 import CLASSES, read_batch
from spikebridge.data.prepared import frame_file
from spikebridge.data.settings import DataConfig

ROWS = [(0, 0, 5, 1), (127, 3, 5, 0), (64, 127, 900, 1), (1, 2, 70_000, 0)]


# AEDAT 2.0 ----------------------------------------------------------------------------------------


def _file(tmp_path: Path, data: bytes) -> Path:
    file = tmp_path / "cifar10_cat_0.aedat"
    file.write_bytes(data)
    return file


def test_addresses_by_hand(tmp_path: Path) -> None:
    # Bits 14 to 8 are y, 7 to 1 are x, bit 0 is OFF; the picture is turned.
    raw = struct.pack(">IIII", 3 << 8 | 10 << 1 | 1, 7, 3 << 8 | 10 << 1, 9)
    events = read_events(_file(tmp_path, AEDAT2_HEADER + raw))
    assert as_rows(events) == [(117, 124, 7, 0), (117, 124, 9, 1)]
    assert events.sensor == (128, 128)


def test_the_published_readers_give_the_same(tmp_path: Path) -> None:
    # SpikingJelly 2.0: x and y by its masks, then {"x": 127 - y, "y": 127 - x, "p": 1 - p}.
    data = np.random.default_rng(0).integers(0, 1 << 15, (50, 2)).astype(">u4")
    data[:, 1] = np.arange(50) * 10
    file = _file(tmp_path, AEDAT2_HEADER + data.tobytes())
    address_N = data[:, 0].astype(int)
    column_N, row_N = 127 - ((address_N & 0x7F00) >> 8), 127 - ((address_N & 0xFE) >> 1)
    polarity_N = 1 - (address_N & 1)
    events = read_events(file).transposed()
    np.testing.assert_array_equal(events.x_N, column_N)
    np.testing.assert_array_equal(events.y_N, row_N)
    np.testing.assert_array_equal(events.polarity_N, polarity_N)
    np.testing.assert_array_equal(events.t_N, data[:, 1])
    # Of the data set, and of it alone, rows and columns are exchanged.
    config = DataConfig(name="cifar10-dvs", time_steps=1, size=(128, 128))
    frames_TCHW = frame_file(file, config, (128, 128))
    expected_TCHW = np.zeros((1, 2, 128, 128), int)
    np.add.at(expected_TCHW[0], (polarity_N, row_N, column_N), 1)
    np.testing.assert_array_equal(frames_TCHW, expected_TCHW)
    own_TCHW = frame_file(file, replace(config, name="folders"), (128, 128))
    np.testing.assert_array_equal(own_TCHW, expected_TCHW.swapaxes(2, 3))


@given(st.lists(st.tuples(st.integers(0, 127), st.integers(0, 127), st.integers(0, 1)), min_size=1))
def test_any_recording_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, pixels: list[tuple[int, int, int]]
) -> None:
    rows = [(x, y, 17 * i, p) for i, (x, y, p) in enumerate(pixels)]
    file = tmp_path_factory.getbasetemp() / "any.aedat"
    file.write_bytes(aedat2_bytes(rows))
    assert as_rows(read_events(file)) == rows


CHIP = b"# AEChip: ch.unizh.ini.jaer.chip.retina.DVS128\r\n"
END = b"#End Of ASCII Header\r\n"


@pytest.mark.parametrize(
    "header",
    [
        b"#!AER-DAT2.0\r\n",
        b"#!AER-DAT2.0\n# one line\n",
        AEDAT2_HEADER,
        AEDAT2_HEADER + CHIP,
        AEDAT2_HEADER + CHIP + b'#\t<entry key="DVS128.bias" value="\xd0\xc7"/>\r\n' + END,
    ],
    ids=["bare", "unix", "2016", "chip", "jAER of today"],
)
def test_headers_of_several_years(tmp_path: Path, header: bytes) -> None:
    file = _file(tmp_path, aedat2_bytes(ROWS, header))
    assert is_dvs128(file)
    assert as_rows(read_events(file)) == ROWS


def test_an_event_that_begins_like_a_header_line_is_data(tmp_path: Path) -> None:
    # 0x23 is '#': a special event here, which is dropped, and nothing behind it is lost.
    hash_first = struct.pack(">II", 0x23000000, 1)
    for header in (AEDAT2_HEADER + CHIP, AEDAT2_HEADER + CHIP + END):
        file = _file(tmp_path, aedat2_bytes([], header) + hash_first + aedat2_bytes(ROWS, b""))
        assert as_rows(read_events(file)) == ROWS
    # Behind the end of the header even printable bytes are data.
    printable = b"#abcdefg"
    file = _file(tmp_path, AEDAT2_HEADER + CHIP + END + printable + aedat2_bytes([], b""))
    refused(lambda: read_events(file), file, "no event")


def test_special_events_are_left_out(tmp_path: Path) -> None:
    trigger = struct.pack(">II", 0x8000 | 5 << 8 | 5 << 1, 6)
    data = aedat2_bytes(ROWS[:2]) + trigger + aedat2_bytes(ROWS[2:], b"")
    assert as_rows(read_events(_file(tmp_path, data))) == ROWS


def test_time_stamps_that_start_late_and_wrap_go_on(tmp_path: Path) -> None:
    late = [(1, 1, (1 << 32) - 20, 1), (2, 2, (1 << 32) - 1, 0)]
    events = read_events(_file(tmp_path, aedat2_bytes([*late, (3, 3, 4, 1), (4, 4, 9, 1)])))
    assert [int(t) for t in events.t_N - events.t_N[0]] == [0, 19, 24, 29]


def test_what_is_wrong_with_an_aedat(tmp_path: Path) -> None:
    whole = aedat2_bytes(ROWS)
    refused(lambda: read_events(_file(tmp_path, whole[:-3])), "cifar10_cat_0.aedat", "truncated")
    refused(lambda: read_events(_file(tmp_path, AEDAT2_HEADER)), "no event")
    backwards = aedat2_bytes([(1, 1, 5000, 1), (1, 1, 10, 1)])
    refused(lambda: read_events(_file(tmp_path, backwards)), "run backwards")
    refused(lambda: read_events(_file(tmp_path, whole), (64, 64)), "outside the 64×64")


def test_other_cameras_and_versions_are_left_to_the_general_reader(tmp_path: Path) -> None:
    davis = b"# AEChip: eu.seebetter.ini.chips.davis.DAVIS240C\r\n"
    assert not is_dvs128(_file(tmp_path, aedat2_bytes(ROWS, AEDAT2_HEADER + davis)))
    wide = struct.pack(">II", 77 << 22 | 5 << 12 | 1 << 11, 3)
    assert not is_dvs128(_file(tmp_path, AEDAT2_HEADER + wide))
    assert not is_dvs128(_file(tmp_path, b"#!AER-DAT3.1\r\n" + wide))
    assert not is_dvs128(_file(tmp_path, wide))


# CIFAR-10 -----------------------------------------------------------------------------------------

LABELS = [6, 9, 9, 4, 0, 0]


def _photos(seed: int = 0, count: int = len(LABELS)) -> np.ndarray:
    shape = (count, 32, 32, 3)
    return np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)


@pytest.mark.filterwarnings("ignore")
def test_the_pickle_of_the_tests_is_one(tmp_path: Path) -> None:
    batch = pickle.loads(cifar10_pickle(LABELS, _photos()), encoding="bytes")
    assert batch[b"labels"] == LABELS
    assert batch[b"data"].shape == (6, 3072)
    np.testing.assert_array_equal(batch[b"data"][2, 1024:1056], _photos()[2, 0, :, 1])


@pytest.mark.parametrize("form", ["pickle", "records"])
def test_a_batch_gives_labels_and_photos(tmp_path: Path, form: str) -> None:
    file = tmp_path / ("data_batch_1" if form == "pickle" else "data_batch_1.bin")
    write = cifar10_pickle if form == "pickle" else cifar10_records
    file.write_bytes(write(LABELS, _photos()))
    label_N, photos_NHWC = read_batch(file)
    assert label_N.tolist() == LABELS
    np.testing.assert_array_equal(photos_NHWC, _photos())


def test_a_batch_that_python_3_pickled_again(tmp_path: Path) -> None:
    file = tmp_path / "test_batch"
    rows_NP = _photos().transpose(0, 3, 1, 2).reshape(6, 3072)
    file.write_bytes(pickle.dumps({"labels": LABELS, "data": rows_NP}, protocol=4))
    np.testing.assert_array_equal(read_batch(file)[1], _photos())


class _Malice:
    def __init__(self, target: Path) -> None:
        self.target = target

    def __reduce__(self) -> tuple:
        return (Path.touch, (self.target,))


def test_a_pickle_of_code_is_refused_and_not_run(tmp_path: Path) -> None:
    file, target = tmp_path / "data_batch_1", tmp_path / "owned"
    file.write_bytes(pickle.dumps({"data": _Malice(target), "labels": []}))
    refused(lambda: read_batch(file), file, "does not need", "fetch")
    file.write_bytes(pickle.dumps({"data": np.array([print]), "labels": []}))
    refused(lambda: read_batch(file), file, "fetch")
    assert not target.exists()


def test_what_is_wrong_with_a_batch(tmp_path: Path) -> None:
    file, binary = tmp_path / "data_batch_1", tmp_path / "data_batch_1.bin"
    refused(lambda: read_batch(file), file, "cannot be read")
    for data in (b"", b"\x80", cifar10_pickle(LABELS, _photos())[:-4000], pickle.dumps([1])):
        file.write_bytes(data)
        refused(lambda: read_batch(file), file, "fetch it again")
    for wrong in (
        {"labels": LABELS, "data": np.zeros((5, 3072), np.uint8)},
        {"labels": LABELS, "data": np.zeros((6, 3072), np.float32)},
        {"fine_labels": LABELS, "data": np.zeros((6, 3072), np.uint8)},
    ):
        file.write_bytes(pickle.dumps(wrong))
        refused(lambda: read_batch(file), file, "batch of CIFAR-10", "fetch it again")
    file.write_bytes(cifar10_pickle([*LABELS[:5], 57], _photos()))
    refused(lambda: read_batch(file), file, "labels beyond", "CIFAR-100")
    binary.write_bytes(cifar10_records(LABELS, _photos())[:-1])
    refused(lambda: read_batch(binary), binary, "truncated", "3073")


# The data set -------------------------------------------------------------------------------------


def _recordings(root: Path, count: int = 3) -> Path:
    return files_in(
        root,
        {
            f"{name}/cifar10_{name}_{i}.aedat": aedat2_bytes(ROWS)
            for name in CLASSES
            for i in (*range(count - 1), 10)
        },
    )


def _batches(root: Path, suffix: str = "") -> Path:
    write = cifar10_records if suffix else cifar10_pickle
    names = [f"data_batch_{i}" for i in range(1, 6)] + ["test_batch"]
    labels = list(range(10))
    return files_in(
        root, {name + suffix: write(labels, _photos(i, 10)) for i, name in enumerate(names)}
    )


def _config(events: Path, photos: Path, **changes: object) -> DataConfig:
    return DataConfig(name="cifar10-dvs", events=str(events), photos=str(photos), **changes)  # pyright: ignore[reportArgumentType]


@pytest.mark.parametrize("suffix", ["", ".bin"])
@pytest.mark.parametrize("above", [False, True])
def test_recordings_join_cifar_10s_photos_by_class_only(
    tmp_path: Path, suffix: str, above: bool
) -> None:
    events = _recordings(tmp_path / "dvs")
    folder = tmp_path / "c10" / f"cifar-10-batches-{'bin' if suffix else 'py'}"
    _batches(folder, suffix)
    collection = open_collection(_config(events, folder.parent if above else folder))
    assert collection.name == "cifar10-dvs"
    assert collection.classes == CLASSES
    assert collection.sensor == (128, 128)
    assert not collection.paired
    assert {item.pair for item in (*collection.recordings, *collection.photos)} == {""}
    # In order of number, as published work cuts them: 0, 1, 10.
    cats = [i.number for i in collection.recordings if i.label == 3]
    assert cats == ["cifar10_cat_0", "cifar10_cat_1", "cifar10_cat_10"]
    assert len(collection.photos) == 60
    assert collection.photos[0] == Item(f"{folder}/data_batch_1{suffix}#0", 0, "data_batch_1/0", "")
    reader = PhotoReader()
    for seed, item in enumerate(i for i in collection.photos if i.label == 7):
        np.testing.assert_array_equal(reader(item), _photos(seed, 10)[7])
    numbers = [(i.label, i.number) for i in collection.photos]
    assert len(set(numbers)) == 60


def test_both_forms_have_the_same_hashes(tmp_path: Path) -> None:
    events = _recordings(tmp_path / "dvs")
    hashes = []
    for name, suffix in (("py", ""), ("bin", ".bin")):
        photos = open_collection(_config(events, _batches(tmp_path / name, suffix))).photos
        reader = PhotoReader()
        hashes.append([reader.sha256(item) for item in photos])
    assert hashes[0] == hashes[1]
    assert len(set(hashes[0])) == 60


def test_photos_in_class_folders(tmp_path: Path) -> None:
    events = _recordings(tmp_path / "CIFAR10-DVS/extract").parent
    photos = files_in(
        tmp_path / "photos",
        {f"{name}/{i:04d}.png": png_bytes(i) for name in CLASSES for i in (1, 2)},
    )
    collection = open_collection(_config(events, photos, exclude=["frog"]))
    assert collection.classes == tuple(name for name in CLASSES if name != "frog")
    assert len(collection.photos) == 18
    assert not collection.paired
    assert {item.pair for item in collection.photos} == {""}


def test_class_names_beside_the_batches_are_compared(tmp_path: Path) -> None:
    events = _recordings(tmp_path / "dvs")
    photos = _batches(tmp_path / "bin", ".bin")
    (photos / "batches.meta.txt").write_text("\n".join(CLASSES) + "\n\n", "utf-8-sig")
    open_collection(_config(events, photos))
    (photos / "batches.meta.txt").write_text("beaver\ndolphin\n")
    refused(lambda: open_collection(_config(events, photos)), photos, "beaver", "fetch CIFAR-10")
    photos = _batches(tmp_path / "py")
    (photos / "batches.meta").write_bytes(pickle.dumps({"label_names": list(CLASSES)}, protocol=2))
    open_collection(_config(events, photos))
    for held in (b"nonsense", {}, {"label_names": 3}, {"label_names": [3]}):
        damage = held if isinstance(held, bytes) else pickle.dumps(held, protocol=2)
        (photos / "batches.meta").write_bytes(damage)
        refused(lambda: open_collection(_config(events, photos)), photos / "batches.meta", "fetch")


def test_what_is_not_unpacked_or_not_there(tmp_path: Path) -> None:
    events = _recordings(tmp_path / "dvs")
    photos = files_in(tmp_path / "c10", {"cifar-10-python.tar.gz": b"packed"})
    refused(
        lambda: open_collection(_config(events, photos)), photos, "cifar-10-python.tar.gz", "unpack"
    )
    packed = files_in(tmp_path / "zips", {"airplane.zip": b"packed"})
    photos = _batches(tmp_path / "py")
    refused(lambda: open_collection(_config(packed, photos)), packed, "airplane.zip", "unpack")
    (photos / "data_batch_3").write_bytes(b"\x80\x02")
    refused(lambda: open_collection(_config(events, photos)), photos / "data_batch_3", "fetch")
    photos = _batches(tmp_path / "py")
    (events / "cat").rename(events / "cats")
    refused(lambda: open_collection(_config(events, photos)), events / "cats", "'cat'", "rename")
