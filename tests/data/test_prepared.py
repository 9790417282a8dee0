"""Prepared data: what training reads is what the files hold, made once per content."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import as_rows, packed, photo_folder, picture, refused
from spikebridge.config import AugmentConfig, DataConfig, SplitConfig
from spikebridge.data import prepared
from spikebridge.data.events import read_events
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import fit_photo, read_photo
from spikebridge.data.prepared import PreparedData, frame_file, prepare
from spikebridge.data.simulate import Simulator, simulate_folder, simulate_photo

SIMULATOR = Simulator(width=16, height=16, frames=12, amplitude=3.0)
SPLIT = SplitConfig(labelled_per_class=2, validation_per_class=1, test_per_class=1)


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    photos = photo_folder(tmp_path / "photos", count=8)
    simulate_folder(photos, tmp_path / "events", SIMULATOR, seed=0)
    return DataConfig(
        name="folders",
        photos=str(photos),
        events=str(tmp_path / "events"),
        sensor=(16, 16),
        size=(8, 8),
        time_steps=3,
        simulator=SIMULATOR,
        split=SPLIT,
        cache=str(tmp_path / "cache"),
    )


def _cache(config: DataConfig) -> dict[str, int]:
    """Files of the cache and when they were written."""
    return {f.name: f.stat().st_mtime_ns for f in Path(str(config.cache)).iterdir()}


def _same(a: PreparedData, b: PreparedData) -> bool:
    return all(
        np.array_equal(a.events[s].frames_NTCHW, b.events[s].frames_NTCHW)
        and np.array_equal(a.photos[s].photos_N3HW, b.photos[s].photos_N3HW)
        for s in ("train", "validation", "test")
    )


def test_values_are_those_of_the_files(config: DataConfig) -> None:
    config = replace(config, photo_size=12, photo_margin=0.1)
    data = prepare(config, 0)
    assert data.classes == ("cup", "saw")
    assert data.sensor == (16, 16)
    for split, count in (("train", 4), ("validation", 2), ("test", 2)):
        events = data.events[split]
        assert events.files == tuple(e.file for e in data.manifest.select("recording", split))
        assert len(events.files) == count
        for file, label, frames_TCHW in zip(
            events.files, events.label_N, events.frames_NTCHW, strict=True
        ):
            assert data.classes[label] == Path(file).parent.name
            np.testing.assert_array_equal(frames_TCHW, frame_file(file, config, (16, 16)))
            assert frames_TCHW.sum() == len(read_events(file, (16, 16)))
        photos = data.photos[split]
        assert photos.files == tuple(e.file for e in data.manifest.select("photo", split))
        assert photos.simulated_NTCHW is None
        for file, label, photo_3HW in zip(
            photos.files, photos.label_N, photos.photos_N3HW, strict=True
        ):
            assert data.classes[label] == Path(file).parent.name
            fitted = fit_photo(read_photo(file), (12, 12), 0.1)
            np.testing.assert_array_equal(photo_3HW, fitted.transpose(2, 0, 1))


def test_counts_above_255_are_kept(config: DataConfig) -> None:
    for file in Path(str(config.events)).rglob("*.bin"):
        file.write_bytes(packed([(1, 1, t, 1) for t in range(0, 1000, 2)] + [(5, 5, 1000, 0)]))
    frames_NTCHW = prepare(replace(config, time_steps=1), 0).events["train"].frames_NTCHW
    assert frames_NTCHW[:, 0, 1, 0, 0].tolist() == [500] * 4
    assert frames_NTCHW.sum() == 4 * 501


def test_simulated_sources_are_made_of_the_training_photos_alone(config: DataConfig) -> None:
    data = prepare(config, 0, simulated_source=True)
    assert data.photos["validation"].simulated_NTCHW is None
    assert data.photos["test"].simulated_NTCHW is None
    train = data.photos["train"]
    assert train.simulated_NTCHW is not None
    assert len(train.simulated_NTCHW) == len(train.files) > 2
    for entry, frames_TCHW in zip(
        data.manifest.select("photo", "train"), train.simulated_NTCHW, strict=True
    ):
        events = simulate_photo(read_photo(entry.file), SIMULATOR, int(entry.sha256[:8], 16))
        np.testing.assert_array_equal(frames_TCHW, frame_events(events, 3, (8, 8), "time"))


def test_what_is_prepared_is_not_made_again(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config, 0, simulated_source=True)
    files = _cache(config)
    assert len(files) == 3 + 3 + 1
    for name in ("frame_file", "fit_photo", "simulate_many"):
        monkeypatch.setattr(prepared, name, lambda *_, **__: pytest.fail("made again"))
    again = prepare(config, 0, simulated_source=True)
    assert _same(first, again)
    # Settings of other concern, and where the files lie, do not matter.
    other = replace(config, augment=AugmentConfig(crop=2, flip=True))
    assert _same(first, prepare(other, 0, simulated_source=True))
    moved = Path(str(config.photos)).rename(Path(str(config.photos)).with_name("elsewhere"))
    assert _same(first, prepare(replace(config, photos=str(moved)), 0, simulated_source=True))
    assert _cache(config) == files


@pytest.mark.parametrize(
    ("change", "kinds"),
    [
        ({"time_steps": 2}, {"frames": 3, "simulated": 1}),
        ({"bins": "count"}, {"frames": 3, "simulated": 1}),
        ({"size": (8, 6), "photo_size": 8}, {"frames": 3, "simulated": 1}),
        ({"size": (6, 6)}, {"frames": 3, "photos": 3, "simulated": 1}),
        ({"sensor": (17, 16)}, {"frames": 3}),
        ({"photo_size": 9}, {"photos": 3}),
        ({"photo_margin": 0.2}, {"photos": 3}),
        ({"simulator": replace(SIMULATOR, pos_threshold=0.3)}, {"simulated": 1}),
    ],
    ids=str,
)
def test_a_setting_that_matters_gives_new_files(
    config: DataConfig, change: dict, kinds: dict[str, int]
) -> None:
    prepare(config, 0, simulated_source=True)
    before = _cache(config)
    data = prepare(replace(config, **change), 0, simulated_source=True)
    after = _cache(config)
    assert before.items() <= after.items()
    new = [name.split("-")[0] for name in after.keys() - before.keys()]
    assert {kind: new.count(kind) for kind in set(new)} == kinds
    if "size" in change:
        assert data.events["test"].frames_NTCHW.shape[-2:] == change["size"]


def test_one_changed_byte_gives_new_files(config: DataConfig) -> None:
    first = prepare(config, 0)
    file = Path(first.events["test"].files[0])
    before = _cache(config)
    rows = as_rows(read_events(file, (16, 16)))
    x, y, t, polarity = rows[-1]
    data = file.read_bytes()
    file.write_bytes(data[:-3] + packed([(x, y, t, 1 - polarity)])[-3:])
    assert sum(a != b for a, b in zip(data, file.read_bytes(), strict=True)) == 1
    second = prepare(config, 0)
    assert len(_cache(config)) == len(before) + 1
    difference = second.events["test"].frames_NTCHW.astype(int) - first.events["test"].frames_NTCHW
    assert sorted(difference[difference != 0].tolist()) == [-1, 1]

    photo = Path(first.photos["train"].files[0])
    Image.fromarray(picture(77)).save(photo)
    third = prepare(config, 0)
    assert len(_cache(config)) == len(before) + 2
    np.testing.assert_array_equal(
        third.photos["train"].photos_N3HW[0],
        fit_photo(picture(77), (8, 8)).transpose(2, 0, 1),
    )


def test_a_failure_midway_leaves_nothing(
    config: DataConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = Path(str(config.cache))
    made = []

    def failing(*arguments: object) -> np.ndarray:
        made.append(arguments)
        if len(made) == 3:
            raise KeyboardInterrupt
        return np.zeros((3, 2, 8, 8), np.int32)

    with monkeypatch.context() as patch:
        patch.setattr(prepared, "frame_file", failing)
        with pytest.raises(KeyboardInterrupt):
            prepare(config, 0)
    assert not cache.exists() or not list(cache.iterdir())

    def full(stream: object, array: np.ndarray) -> None:
        stream.write(array.tobytes()[:10])
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(prepared.np, "save", full)
        refused(lambda: prepare(config, 0), cache, "No space left", "free some space")
    assert not list(cache.iterdir())
    assert prepare(config, 0).events["train"].frames_NTCHW.any()


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: b"",
        lambda data: data[:50],
        lambda data: data[:-1],
        lambda data: data[: len(data) // 2],
        lambda data: bytes(len(data)),
        lambda data: b"\x93NUMPY" + bytes(200),
        lambda data: data.replace(b"|u1", b"|O8", 1),
    ],
    ids=["empty", "header cut", "byte missing", "half", "zeros", "bad header", "objects"],
)
def test_a_damaged_cache_file_is_made_again(config: DataConfig, damage) -> None:
    first = prepare(config, 0)
    arrays = {s: np.array(first.events[s].frames_NTCHW) for s in first.events}
    photos = {s: np.array(first.photos[s].photos_N3HW) for s in first.photos}
    good = {f.name: f.read_bytes() for f in Path(str(config.cache)).iterdir()}
    del first
    for file in Path(str(config.cache)).iterdir():
        data = file.read_bytes()
        file.unlink()  # not in place: the arrays above are mapped
        file.write_bytes(damage(data))
    again = prepare(config, 0)
    for split in ("train", "validation", "test"):
        np.testing.assert_array_equal(again.events[split].frames_NTCHW, arrays[split])
        np.testing.assert_array_equal(again.photos[split].photos_N3HW, photos[split])
    assert {f.name: f.read_bytes() for f in Path(str(config.cache)).iterdir()} == good


def test_a_bad_recording_or_photo_is_named(config: DataConfig) -> None:
    few = Path(prepare(config, 0).events["train"].files[0])
    few.write_bytes(packed([(1, 1, 1, 1), (2, 2, 2, 1)]))
    refused(lambda: prepare(config, 0), few, "2 events", "3 time steps")
    few.write_bytes(few.read_bytes() + b"\0")
    refused(lambda: prepare(config, 0), few, "truncated")
    few.write_bytes(packed([(1, 1, t, 1) for t in range(9)]))
    photo = Path(prepare(config, 0).photos["validation"].files[0])
    photo.write_bytes(photo.read_bytes()[:60])
    refused(lambda: prepare(config, 0), photo, "does not decode")


def test_a_cache_that_cannot_be_written_is_refused(config: DataConfig, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    blocked = replace(config, cache=str(tmp_path / "file"))
    refused(lambda: prepare(blocked, 0), tmp_path / "file", "cannot be", "choose a")
