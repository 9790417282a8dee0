"""Simulated sources: cameras drawn about a point, and what training reads of them."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from factories import picture, recorded_folders, refused
from spikebridge.data.feed.batches import PairedBatches
from spikebridge.data.feed.source import draw_camera, simulate_source, view_key
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import read_photo
from spikebridge.data.prepared import prepare
from spikebridge.data.settings import AugmentConfig, DataConfig, PhotoViewConfig, SourceConfig
from spikebridge.data.simulation.simulate import Simulator, simulate_photo
from spikebridge.settings.parsing import config_from

SIMULATOR = Simulator(width=16, height=16, frames=12, amplitude=3.0, background_hz=0.2)
KEYS = [f"{i:064x}" for i in range(1, 400)]


@pytest.fixture
def config(tmp_path: Path) -> DataConfig:
    return recorded_folders(tmp_path, SIMULATOR, count=6)


def _simulated(config: DataConfig) -> np.ndarray:
    return np.array(prepare(config, 0, simulated_source=True).photos["train"].simulated_NTCHW)


# The cameras --------------------------------------------------------------------------------------


def test_without_randomising_every_photo_has_the_camera_itself() -> None:
    assert draw_camera(SIMULATOR, 0.0, KEYS[0]) is SIMULATOR


def test_factors_are_log_uniform_about_the_camera_and_of_the_key_alone() -> None:
    width = 0.4
    drawn = [draw_camera(SIMULATOR, width, key) for key in KEYS]
    assert drawn == [draw_camera(SIMULATOR, width, key) for key in KEYS]
    assert len(set(drawn)) == len(KEYS)
    log = {
        name: np.log([getattr(camera, name) / getattr(SIMULATOR, name) for camera in drawn])
        for name in ("amplitude", "shot_noise_hz", "leak_rate_hz", "background_hz", "cutoff_hz")
    }
    pos, neg = (
        np.log([getattr(c, name) for c in drawn]) - np.log(getattr(SIMULATOR, name))
        for name in ("pos_threshold", "neg_threshold")
    )
    log["thresholds"] = (pos + neg) / 2
    for name, values in log.items():
        assert -width <= values.min() < -0.95 * width, name
        assert 0.95 * width < values.max() <= width, name
        assert abs(values.mean()) < 0.04, name  # of a standard deviation of 0.4/√3, over √399
    assert np.abs(pos - neg).max() <= width / 4
    assert np.abs(pos - neg).max() > 0.9 * width / 4
    for name, values in log.items():
        for other, others in log.items():
            assert name == other or abs(np.corrcoef(values, others)[0, 1]) < 0.2
    untouched = {"width", "motion", "margin", "duration_ms", "frames", "threshold_sigma"}
    for camera in drawn:
        assert all(getattr(camera, name) == getattr(SIMULATOR, name) for name in untouched)


def test_a_drawn_camera_that_sees_too_little_gives_way_to_the_one_in_the_middle() -> None:
    blind = replace(
        SIMULATOR,
        pos_threshold=2.0,
        neg_threshold=2.0,
        shot_noise_hz=0.0,
        leak_rate_hz=0.0,
        background_hz=0.0,
    )
    config = DataConfig(time_steps=3, size=(8, 8), source=SourceConfig(randomise=1.0))
    key = max(KEYS, key=lambda k: draw_camera(blind, 1.0, k).pos_threshold)
    photo_HWC = picture(0)
    refused(lambda: simulate_photo(photo_HWC, draw_camera(blind, 1.0, key), 0), "no change")
    wanted = frame_events(simulate_photo(photo_HWC, blind, int(key[:8], 16)), 3, (8, 8))
    np.testing.assert_array_equal(simulate_source(photo_HWC, config, blind, key), wanted)
    darkness = np.zeros((16, 16, 3), np.uint8)
    refused(lambda: simulate_source(darkness, config, blind, key), "no change")


# What training reads ------------------------------------------------------------------------------


def test_settings_are_laid_over_the_recordings_camera(config: DataConfig) -> None:
    other = replace(config, source=SourceConfig({"pos_threshold": 0.7, "motion": "pan"}))
    assert other.source_simulator == replace(SIMULATOR, pos_threshold=0.7, motion="pan")
    assert other.simulator == SIMULATOR
    data = prepare(other, 0, simulated_source=True)
    assert data.source_camera == other.source_simulator
    simulated_NTCHW = np.array(data.photos["train"].simulated_NTCHW)
    for entry, frames_TCHW in zip(
        data.manifest.select("photo", "train"), simulated_NTCHW, strict=True
    ):
        seed = int(entry.sha256[:8], 16)
        events = simulate_photo(read_photo(entry.file), other.source_simulator, seed)
        np.testing.assert_array_equal(frames_TCHW, frame_events(events, 3, (8, 8)))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 1.0}, ("unknown key threshold", "pos_threshold")),
        ({"motion": "sweep"}, ("motion", "saccade, pan, random", "sweep")),
        ({"width": 20.5}, ("width", "a whole number", "20.5")),
        ({"pos_threshold": "low"}, ("pos_threshold", "a number", "low")),
        ({"negative": 1}, ("negative", "true or false")),
        ({"neg_threshold": -1.0}, ("thresholds must be positive",)),
    ],
    ids=str,
)
def test_settings_that_no_camera_has_are_refused(settings: dict, words: tuple[str, ...]) -> None:
    wrong = {"data": {"source": {"simulator": settings}}}
    refused(lambda: config_from(wrong, "mine.yaml"), "mine.yaml", "data.source.simulator", *words)


def test_views_are_rows_after_one_another_and_the_first_is_what_it_is_alone(
    config: DataConfig,
) -> None:
    one = _simulated(config)
    three = prepare(replace(config, source=SourceConfig(views=3)), 0, simulated_source=True)
    train = three.photos["train"]
    assert train.views == 3
    assert train.simulated_NTCHW is not None
    count = len(train.files)
    assert len(train.simulated_NTCHW) == 3 * count
    views = np.array(train.simulated_NTCHW).reshape(3, count, *one.shape[1:])
    np.testing.assert_array_equal(views[0], one)
    for first, second in ((0, 1), (0, 2), (1, 2)):  # noise and thresholds of pixels differ
        assert all((views[first] != views[second]).any(axis=(1, 2, 3, 4)))


def test_randomised_photos_have_their_own_cameras_whatever_the_split(config: DataConfig) -> None:
    source = SourceConfig(randomise=0.5, views=2)
    randomised = replace(config, source=source)
    data = {seed: prepare(randomised, seed, simulated_source=True) for seed in (0, 1)}
    entries = {s: d.manifest.select("photo", "train") for s, d in data.items()}
    row = {e.sha256: i for i, e in enumerate(entries[1])}
    shared = 0
    first, second = (data[s].photos["train"].simulated_NTCHW for s in (0, 1))
    assert first is not None
    assert second is not None
    for index, entry in enumerate(entries[0]):
        camera = draw_camera(SIMULATOR, 0.5, view_key(entry.sha256, 1))
        assert camera != draw_camera(SIMULATOR, 0.5, entry.sha256)
        seed = int(view_key(entry.sha256, 1)[:8], 16)
        wanted = frame_events(simulate_photo(read_photo(entry.file), camera, seed), 3, (8, 8))
        np.testing.assert_array_equal(first[len(entries[0]) + index], wanted)
        if entry.sha256 in row:
            shared += 1
            np.testing.assert_array_equal(first[index], second[row[entry.sha256]])
    assert 0 < shared < len(entries[0])


@pytest.mark.parametrize(
    ("change", "new"),
    [
        (SourceConfig(), 0),
        (SourceConfig(views=2), 1),
        (SourceConfig({"pos_threshold": 0.42}), 0),
        (SourceConfig({"pos_threshold": 0.43}), 1),
        (SourceConfig(randomise=0.1), 1),
    ],
    ids=str,
)
def test_what_determines_the_arrays_and_nothing_else_makes_new_ones(
    config: DataConfig, change: SourceConfig, new: int
) -> None:
    _simulated(config)
    shards = Path(str(config.cache)).glob
    before = len(list(shards("simulated-*/*.shard")))
    _simulated(replace(config, source=change))
    assert len(list(shards("simulated-*/*.shard"))) == before + new


def test_a_batch_draws_one_view_of_each_of_its_photos(config: DataConfig) -> None:
    data = prepare(replace(config, source=SourceConfig(views=3)), 0, simulated_source=True)
    photos = data.photos["train"]
    simulated_NTCHW = np.array(photos.simulated_NTCHW)
    batches = PairedBatches(
        replace(data.events["train"], scale="none"),
        photos,
        batch_size=4,
        batches_per_epoch=None,
        augment=AugmentConfig(),
        views=PhotoViewConfig(),
        seed=0,
        device=torch.device("cpu"),
    )
    drawn: Counter[int] = Counter()
    for step in range(100):
        batch = batches(step)
        assert batch.simulated_TBCHW is not None
        for source, simulated_TCHW in zip(
            batch.source_B, batch.simulated_TBCHW.transpose(0, 1), strict=True
        ):
            rows = range(source, len(simulated_NTCHW), len(photos.files))
            of = [np.array_equal(simulated_NTCHW[row], simulated_TCHW) for row in rows]
            assert sum(of) == 1
            drawn[of.index(True)] += 1
    assert min(drawn.values()) > 90  # of 400 draws, a third each
