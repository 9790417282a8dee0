"""The cache: the right values, whatever happens to the process, the disk or the files."""

import hashlib
import mmap
import os
import pickle
import subprocess
import sys
import time
import tracemalloc
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from factories import photo_folder, refused
from spikebridge.base.errors import UserError
from spikebridge.data.feed import cache, shards
from spikebridge.data.feed.cache import ArrayCache, CachedArrays
from spikebridge.data.prepared import prepare
from spikebridge.runs.train import train_student
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import read_recipe

SHAPE = (3, 2, 6, 5)


def key_of(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def counts(number: int) -> np.ndarray:
    """An array that differs for each number: sparse or dense, small or large counts."""
    random = np.random.default_rng(number)
    top = (2, 9, 300, 70_000)[number % 4]
    return random.integers(0, top, SHAPE) * (random.random(SHAPE) < (0.1, 0.9)[number % 2])


def by_key(numbers: range) -> dict[str, int]:
    return {key_of(n): n for n in numbers}


def filled(folder: Path, numbers: range) -> tuple[ArrayCache, CachedArrays]:
    store = ArrayCache(folder, "frames", ["settings"], SHAPE)
    store.fill(counts, by_key(numbers), "making", 1)
    return store, store.select([key_of(n) for n in numbers])


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_SHARD_CELLS", 4 * int(np.prod(SHAPE)))


def test_every_kind_of_rows_is_read_as_it_was_made(tmp_path: Path, small_shards: None) -> None:
    store, rows = filled(tmp_path, range(14))
    expected = np.stack([counts(n) for n in range(14)])
    assert len(list(store.folder.glob("*.shard"))) == 4
    assert rows.shape == (14, *SHAPE)
    assert len(rows) == 14
    assert rows.dtype == np.uint32
    np.testing.assert_array_equal(rows, expected)
    np.testing.assert_array_equal(rows[np.array([9, 0, 9, 13])], expected[[9, 0, 9, 13]])
    np.testing.assert_array_equal(rows[3:8], expected[3:8])
    np.testing.assert_array_equal(rows[20:30], expected[20:30])
    np.testing.assert_array_equal(rows[-1], expected[-1])
    np.testing.assert_array_equal(np.stack(list(rows)), expected)
    with pytest.raises(IndexError):
        rows[14]


@given(
    array=arrays(st.sampled_from([np.uint8, np.int32, np.uint32]), (2, 3, 4),
                 elements=st.integers(0, 255) | st.integers(0, 3))
)  # fmt: skip
def test_any_array_survives(tmp_path_factory: pytest.TempPathFactory, array: np.ndarray) -> None:
    store = ArrayCache(tmp_path_factory.mktemp("any"), "frames", 1, (2, 3, 4))
    store.fill(np.asarray, {key_of(0): array}, "making", 1)
    np.testing.assert_array_equal(store.select([key_of(0)])[0], array)


def test_it_takes_the_smaller_of_two_ways(tmp_path: Path) -> None:
    few, many = np.zeros((10, 100), int), np.ones((10, 100), int)
    few[0, :5] = 200
    wide = few * 100
    for number, (array, payload) in enumerate([(few, 125 + 5), (many, 1000), (wide, 125 + 10)]):
        store = ArrayCache(tmp_path, "frames", number, (10, 100))
        store.fill(np.asarray, {key_of(number): array}, "making", 1)
        assert store.select([key_of(number)]).stored_bytes == payload + shards.RECORD.itemsize


def test_only_what_is_missing_is_made(tmp_path: Path) -> None:
    store, _ = filled(tmp_path, range(5))
    again = ArrayCache(tmp_path, "frames", ["settings"], SHAPE)
    assert again.fill(counts, by_key(range(5)), "making", 1) == 0
    assert again.fill(counts, by_key(range(3, 9)), "making", 1) == 4
    np.testing.assert_array_equal(again.select([key_of(8), key_of(0)])[0], counts(8))
    other = ArrayCache(tmp_path, "frames", ["other"], SHAPE)
    assert other.fill(counts, by_key(range(5)), "making", 1) == 5


def test_processes_share_the_work(tmp_path: Path, small_shards: None) -> None:
    store = ArrayCache(tmp_path, "frames", 0, SHAPE)
    store.fill(counts, by_key(range(16)), "making", 2)
    np.testing.assert_array_equal(
        store.select([key_of(n) for n in range(16)]), [counts(n) for n in range(16)]
    )


def test_a_failure_in_one_process_leaves_no_litter_of_the_others(
    tmp_path: Path, small_shards: None
) -> None:
    store = ArrayCache(tmp_path, "frames", 0, SHAPE)
    refused(lambda: store.fill(_failing, by_key(range(24)), "making", 2), "number 0 is bad")
    left = sorted(file.name for file in store.folder.iterdir())
    assert not any(name.startswith(".") for name in left)
    assert len(left) < 6
    assert store.fill(counts, by_key(range(24)), "making", 2) == 24 - 4 * len(left)


def _failing(number: int) -> np.ndarray:
    if number:
        time.sleep(0.05)
        return counts(number)
    time.sleep(0.1)
    raise UserError(f"number {number} is bad; mend it")


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:20],
        lambda data: data[:60],
        lambda data: data[:-1],
        lambda data: data + b"\0",
        lambda data: bytes(len(data)),
        lambda data: data[:8] + b"\x07" + data[9:],
        lambda data: data[:16] + b"\xff" * 8 + data[24:],
        lambda data: data[:40] + b"\xff" + data[41:],
    ],
    ids=["empty", "header cut", "index cut", "byte missing", "byte more", "zeros", "version",
         "count", "index"],
)  # fmt: skip
def test_a_damaged_shard_is_made_again(
    tmp_path: Path, damage, capfd: pytest.CaptureFixture[str]
) -> None:
    store, _ = filled(tmp_path, range(4))
    (file,) = store.folder.iterdir()
    good = file.read_bytes()
    file.write_bytes(damage(good))
    _, rows = filled(tmp_path, range(4))
    np.testing.assert_array_equal(rows, [counts(n) for n in range(4)])
    assert file.read_bytes() == good
    assert str(file) in capfd.readouterr().err


def test_a_rotten_byte_is_found_when_it_is_read(tmp_path: Path) -> None:
    store, rows = filled(tmp_path, range(4))
    (file,) = store.folder.iterdir()
    data = bytearray(file.read_bytes())
    data[-3] ^= 0x10
    file.write_bytes(data)
    np.testing.assert_array_equal(rows[:3], [counts(n) for n in range(3)])
    refused(lambda: rows[3], file, "checksum", "delete this file and repeat")
    file.unlink()
    _, rows = filled(tmp_path, range(4))
    np.testing.assert_array_equal(rows[3], counts(3))


def test_a_thread_does_not_close_the_shard_that_another_is_about_to_map(
    tmp_path: Path, small_shards: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, rows = filled(tmp_path, range(8))
    monkeypatch.setattr(cache, "_OPEN_FILES", 1)
    real, others = mmap.mmap, ThreadPoolExecutor(1)
    beside = []

    def interrupted(*arguments: Any, **options: Any) -> mmap.mmap:
        """Between looking a file up and mapping it, another thread reads another shard."""
        if not beside:
            beside.append(others.submit(lambda: rows[7]))
            wait(beside, 0.3)  # It ends, or waits for us.
        return real(*arguments, **options)

    monkeypatch.setattr(mmap, "mmap", interrupted)
    with others:
        np.testing.assert_array_equal(rows[0], counts(0))
        np.testing.assert_array_equal(beside[0].result(), counts(7))


def test_a_copy_for_another_process_opens_its_own_files(tmp_path: Path) -> None:
    _, rows = filled(tmp_path, range(3))
    np.testing.assert_array_equal(rows[1], counts(1))
    copy = pickle.loads(pickle.dumps(rows))
    del rows
    np.testing.assert_array_equal(copy[2], counts(2))


def test_a_vanished_shard_is_one_line(tmp_path: Path) -> None:
    store, rows = filled(tmp_path, range(2))
    for file in store.folder.iterdir():
        file.unlink()
    refused(lambda: rows[0], store.folder, "No such file", "repeat the command")


def test_a_full_disk_is_one_line_and_leaves_nothing(tiny_disk: Path) -> None:
    store = ArrayCache(tiny_disk, "frames", 0, (200, 200))
    keys = by_key(range(3))
    refused(
        lambda: store.fill(_noise, keys, "making", 1), store.folder, "No space left", "free some"
    )
    assert list(store.folder.iterdir()) == []


def _noise(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(1, 255, (200, 200))


def test_a_finished_cache_on_a_read_only_disk_is_enough(tiny_disk: Path) -> None:
    filled(tiny_disk, range(3))
    subprocess.run(["mount", "-o", "remount,ro", str(tiny_disk)], check=True)
    try:
        np.testing.assert_array_equal(filled(tiny_disk, range(3))[1][2], counts(2))
        refused(lambda: filled(tiny_disk, range(4)), tiny_disk, "Read-only", "choose a folder")
    finally:
        subprocess.run(["mount", "-o", "remount,rw", str(tiny_disk)], check=True)


SLOWLY = """
import sys, time
from pathlib import Path
sys.path[:0] = [{tests!r}, {here!r}]
import test_cache
from spikebridge.data.feed import cache
cache._SHARD_CELLS = 4 * 180
def slowly(number):
    if number == {stop}:
        print("amid a shard", flush=True)
        time.sleep(1e6)
    return test_cache.counts(number)
store = cache.ArrayCache(Path(sys.argv[1]), "frames", ["settings"], test_cache.SHAPE)
store.fill(slowly, test_cache.by_key(range(24)), "making", 1)
"""


def _preparing(folder: Path, stop: int | None = None) -> subprocess.Popen:
    here = Path(__file__).parent
    script = SLOWLY.format(tests=str(here.parent), here=str(here), stop=stop)
    command = [sys.executable, "-c", script, str(folder)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


def test_a_killed_preparation_goes_on_to_the_same_files(tmp_path: Path, small_shards: None) -> None:
    filled(tmp_path / "whole", range(24))
    with _preparing(tmp_path / "killed", stop=10) as process:
        assert process.stdout
        assert process.stdout.readline() == b"amid a shard\n"
        process.kill()
    begun = {f.name for f in (tmp_path / "killed").glob("*/*.shard")}
    assert len(begun) == 2
    litter = list((tmp_path / "killed").glob("*/.*"))
    for file in litter:
        os.utime(file, (0, 0))
    store, rows = filled(tmp_path / "killed", range(24))
    np.testing.assert_array_equal(rows, [counts(n) for n in range(24)])
    whole, killed = (
        {f.name: f.read_bytes() for f in (tmp_path / name).glob("*/*")}
        for name in ("whole", "killed")
    )
    assert killed == whole


def test_two_processes_may_prepare_the_same_at_once(tmp_path: Path, small_shards: None) -> None:
    both = [_preparing(tmp_path) for _ in range(2)]
    assert [process.communicate()[0] for process in both] == [b"", b""]
    assert [process.returncode for process in both] == [0, 0]
    store, rows = filled(tmp_path, range(24))
    np.testing.assert_array_equal(rows, [counts(n) for n in range(24)])
    assert len(list(store.folder.iterdir())) == 6


def test_two_that_need_the_same_arrays_make_each_once(tmp_path: Path) -> None:
    made: list[int] = []

    def slowly(number: int) -> np.ndarray:
        made.append(number)
        time.sleep(0.05)
        return counts(number)

    def fill(numbers: range) -> int:
        store = ArrayCache(tmp_path, "frames", ["settings"], SHAPE)
        return store.fill(slowly, by_key(numbers), "making", 1)

    with ThreadPoolExecutor(2) as pool:
        both = list(pool.map(fill, [range(8), range(2, 10)]))
    assert sorted(made) == list(range(10))
    assert sum(both) == 10


def test_training_reads_ten_times_what_it_keeps(tmp_path: Path) -> None:
    photo_folder(tmp_path / "photos", count=100)
    for name in ("cup", "saw"):
        (tmp_path / "events" / name).mkdir(parents=True)
        for index in range(4):
            random = np.random.default_rng([index, ord(name[0])])
            rows_N5 = np.zeros((300, 5), np.uint8)
            rows_N5[:, :2] = random.integers(0, 16, (300, 2))
            rows_N5[:, 4] = np.sort(random.integers(0, 256, 300))
            (tmp_path / "events" / name / f"r{index}.bin").write_bytes(rows_N5.tobytes())
    settings = read_recipe("digits", "kt") | {
        "data": {
            "name": "folders",
            "photos": str(tmp_path / "photos"),
            "events": str(tmp_path / "events"),
            "sensor": [16, 16],
            "size": [16, 16],
            "photo_size": 256,
            "time_steps": 2,
            "cache": str(tmp_path / "cache"),
            "split": {"labelled_per_class": 2, "validation_per_class": 1, "test_per_class": 1},
        },
        "student": {"width": 0.05},
        "train": {"epochs": 1, "batches_per_epoch": 3, "batch_size": 4, "warmup_epochs": 0},
    }
    config = config_from(settings, "test")
    data = prepare(config.data, 0, processes=1)
    photos = data.photos["train"].photos_N3HW
    assert isinstance(photos, CachedArrays)
    teacher = tmp_path / "teacher"
    train_student(config, data, tmp_path / "warm", teacher_folder=teacher)  # And all is imported.
    config = replace(config, train=replace(config.train, batches_per_epoch=len(photos) // 4))

    def kept(act: Callable[[], object]) -> int:
        """Most bytes at a time that Python and NumPy hold for a call."""
        tracemalloc.start()
        try:
            act()
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert kept(lambda: np.asarray(photos)) > photos.stored_bytes
    run = tmp_path / "run"
    training = kept(lambda: train_student(config, data, run, teacher_folder=teacher))
    assert 10 * training < photos.stored_bytes
