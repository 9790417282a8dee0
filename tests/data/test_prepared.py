"""Prepared data: what training reads is what the files hold, made once per content."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import as_rows, packed, picture, recorded_folders, refused
from spikebridge.data import prepared
from spikebridge.data.events import read_events
from spikebridge.data.feed.cache import CachedArrays
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import fit_photo, read_photo
from spikebridge.data.prepared import PreparedData, frame_file, prepare
from spikebridge.data.settings import (
    AugmentConfig,
    DataConfig,
    LeakConfig,
    SourceConfig,
    SplitConfig,
)
from spikebridge.data.simulation.simulate import Simulator, simulate_photo

SIMULATOR = Simulator(width=16, height=16, frames=12, amplitude=3.0)


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return recorded_folders(tmp_path, SIMULATOR, count=8)


def _cache(config: DataConfig) -> dict[str, int]:
    """Files of the cache and when they were written."""
    return {str(f): f.stat().st_mtime_ns for f in Path(str(config.cache)).glob("*/*.shard")}


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
    for index, file in enumerate(sorted(Path(str(config.events)).rglob("*.bin"))):
        rows = [(1, 1, t, 1) for t in range(0, 1000, 2)] + [(5, 5, 1000 + index, 0)]
        file.write_bytes(packed(rows))
    frames_NTCHW = prepare(replace(config, time_steps=1), 0).events["train"].frames_NTCHW
    assert frames_NTCHW[:][:, 0, 1, 0, 0].tolist() == [500] * 4
    assert frames_NTCHW[:].sum() == 4 * 501


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
    assert len(files) == 3
    for name in ("frame_file", "fit_photo", "simulate_source"):
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
        ({"time_steps": 2}, ["frames", "simulated"]),
        ({"bins": "count"}, ["frames", "simulated"]),
        ({"extent": "recording"}, ["frames", "simulated"]),
        ({"size": (8, 6), "photo_size": 8}, ["frames", "simulated"]),
        ({"size": (6, 6)}, ["frames", "photos", "simulated"]),
        ({"sensor": (17, 16)}, ["frames"]),
        ({"photo_size": 9}, ["photos"]),
        ({"photo_margin": 0.2}, ["photos"]),
        ({"simulator": replace(SIMULATOR, pos_threshold=0.3)}, ["simulated"]),
    ],
    ids=str,
)
def test_a_setting_that_matters_gives_new_files(
    config: DataConfig, change: dict, kinds: list[str]
) -> None:
    prepare(config, 0, simulated_source=True)
    before = _cache(config)
    data = prepare(replace(config, **change), 0, simulated_source=True)
    after = _cache(config)
    assert before.items() <= after.items()
    new = [Path(name).parent.name.split("-")[0] for name in after.keys() - before.keys()]
    assert sorted(new) == kinds
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
    old, new = (np.array(d.events["test"].frames_NTCHW, int) for d in (first, second))
    difference = new - old
    assert sorted(difference[difference != 0].tolist()) == [-1, 1]

    photo = Path(first.photos["train"].files[0])
    Image.fromarray(picture(77)).save(photo)
    third = prepare(config, 0)
    assert len(_cache(config)) == len(before) + 2
    np.testing.assert_array_equal(
        third.photos["train"].photos_N3HW[0],
        fit_photo(picture(77), (8, 8)).transpose(2, 0, 1),
    )


def test_another_split_makes_only_what_is_missing(config: DataConfig) -> None:
    first = prepare(config, 0)
    before = _cache(config)
    made = [prepare(config, seed) for seed in range(1, 5)]
    assert before.items() <= _cache(config).items()
    files = {f for d in (first, *made) for e in d.events.values() for f in e.files}
    cache = first.events["train"].frames_NTCHW
    assert isinstance(cache, CachedArrays)
    rows = sum(_rows_in(path) for path in Path(str(config.cache)).glob("frames-*/*.shard"))
    assert rows == len(files)


def _rows_in(path: Path) -> int:
    return int.from_bytes(path.read_bytes()[16:24], "little")


def test_a_manifest_is_taken_as_the_split(config: DataConfig, tmp_path: Path) -> None:
    first = prepare(config, 3)
    first.manifest.write(tmp_path / "split.csv")
    split = replace(config.split, manifest=str(tmp_path / "split.csv"))
    again = prepare(replace(config, split=split), 0)
    assert again.manifest == first.manifest
    assert _same(first, again)
    moved = Path(str(config.photos)).rename(tmp_path / "moved")
    assert _same(first, prepare(replace(config, photos=str(moved), split=split), 0))
    photo = next(f for f in sorted(moved.rglob("*.png")))
    Image.fromarray(picture(99)).save(photo)
    there = replace(config, photos=str(moved), split=split)
    refused(lambda: prepare(there, 0), photo, "content differs", "restore it")
    photo.unlink()
    refused(lambda: prepare(there, 0), photo.stem, "not among the data", "data.photos")


def test_paths_with_variables_name_the_same_data(
    config: DataConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = prepare(config, 0)
    first.manifest.write(tmp_path / "split.csv")
    made = _cache(config)
    monkeypatch.setenv("HERE", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    written = replace(
        config,
        events="$HERE/events",
        photos="~/photos",
        cache="${HERE}/cache",
        split=replace(config.split, manifest="$HERE/split.csv"),
    )
    again = prepare(written, 1)
    assert again.manifest == first.manifest
    assert again.photos["train"].files == first.photos["train"].files
    assert _same(first, again)
    assert _cache(config) == made
    monkeypatch.delenv("HERE")
    refused(lambda: prepare(written, 1), "variable HERE is not set")


def test_a_class_whose_photos_no_manifest_lets_train_is_refused(
    config: DataConfig, tmp_path: Path
) -> None:
    recordings = sorted(Path(str(config.events)).rglob("*.bin"))
    splits = {1: "validation", 2: "test"}
    lines = ["file,split"]
    lines += [f"{f},{splits.get(int(f.stem[-1]), 'train')}" for f in recordings]
    lines += [f"{config.photos}/cup/image_000{n}.png,{s}" for n, s in
              ((3, "train"), (4, "validation"), (2, "test"))]  # fmt: skip
    (tmp_path / "split.csv").write_text("\n".join(lines))
    config = replace(config, split=SplitConfig(manifest=str(tmp_path / "split.csv")))
    refused(lambda: prepare(config, 0), "class 'saw'", "no photo of split train", "events_alone")
    data = prepare(replace(config, events_alone=["saw"]), 0)
    assert data.classes == ("cup", "saw")
    assert set(data.events["train"].label_N) == {0, 1}
    assert set(data.photos["train"].label_N) == {0}


def test_protocol_published_selects_on_its_test_recordings(tmp_path: Path) -> None:
    config = recorded_folders(tmp_path, SIMULATOR, count=16)
    data = prepare(replace(config, split=SplitConfig(protocol="published")), 0)
    assert data.manifest.selecting == "test"
    for kind in (data.events, data.photos):
        assert kind["validation"].files == kind["test"].files
    for name in ("cup", "saw"):
        shown, tested = (
            [Path(f).stem for f in data.photos[s].files if Path(f).parent.name == name]
            for s in ("train", "test")
        )
        assert shown == [f"image_{i:04d}" for i in range(1, 16)]
        assert tested == ["image_0016"]
        assert sum(Path(f).parent.name == name for f in data.events["test"].files) == 2


@pytest.mark.parametrize("teacher", [False, True])
def test_leaked_photos_are_the_students_sources_and_the_teachers_where_set(
    tmp_path: Path, teacher: bool
) -> None:
    config = recorded_folders(tmp_path, SIMULATOR, count=12)
    split = SplitConfig(
        protocol="leaked", validation_per_class=1, test_per_class=4, leak=LeakConfig(0.5, teacher)
    )
    data = prepare(replace(config, split=split), 0, simulated_source=True)
    place = lambda file: (Path(file).parent.name, Path(file).stem)  # noqa: E731
    shown = {place(e.file) for e in data.manifest.leaked_recordings}
    leaked = {f for f in data.photos["train"].files if place(f) in shown}
    taught = data.labelled.photos["train"]
    assert len(shown) == len(leaked) == 4
    own = {*data.photos["train"].files} - {*taught.files}
    assert own == (set() if teacher else leaked)
    for row, file in enumerate(taught.files):  # The pixels are still those of the file.
        there = data.photos["train"].files.index(file)
        assert taught.label_N[row] == data.photos["train"].label_N[there]
        np.testing.assert_array_equal(
            taught.photos_N3HW[row], data.photos["train"].photos_N3HW[there]
        )


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


IN_STEP = SourceConfig(in_step=True, randomise=0.2)


def test_sources_made_in_the_step_are_not_simulated_before(config: DataConfig) -> None:
    prepare(config, 0)
    before = _cache(config)
    made = prepare(replace(config, source=IN_STEP), 0, simulated_source=True)
    assert _cache(config) == before
    source = made.photos["train"].step_source
    assert source is not None
    assert made.source_camera == source.simulator == SIMULATOR
    assert source.randomise == 0.2
    assert made.photos["train"].simulated_NTCHW is None
    assert made.photos["test"].step_source is None


def test_a_photo_that_is_kept_with_its_margin_gets_no_second_one(config: DataConfig) -> None:
    camera = replace(SIMULATOR, margin=0.1)
    config = replace(config, simulator=camera, photo_margin=0.1, source=IN_STEP)
    source = prepare(config, 0, simulated_source=True).photos["train"].step_source
    assert source is not None
    assert source.simulator.margin == pytest.approx(0)
    wider = replace(config, simulator=replace(camera, margin=0.2))
    source = prepare(wider, 0, simulated_source=True).photos["train"].step_source
    assert source is not None
    assert 0.8 * (1 - 2 * source.simulator.margin) == pytest.approx(0.6)
    narrower = replace(config, simulator=SIMULATOR)
    refused(lambda: prepare(narrower, 0, simulated_source=True), "margin", "0.1", "in_step")


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"augment": AugmentConfig(event_drop=0.1)}, "event_drop"),
        ({"bins": "count"}, "data.bins"),
    ],
)
def test_what_cannot_be_made_in_the_step_is_refused(
    config: DataConfig, changes: dict, named: str
) -> None:
    with pytest.raises(ValueError, match=named):
        replace(config, source=IN_STEP, **changes)


def test_views_are_for_recordings_that_are_kept() -> None:
    with pytest.raises(ValueError, match=r"data\.source\.views"):
        SourceConfig(in_step=True, views=2)
