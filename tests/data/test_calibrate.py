"""Calibration: a known camera is found again, from training recordings alone, without labels."""

import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from factories import as_events, photo_folder, refused
from spikebridge.cli import main
from spikebridge.data import calibrate as module
from spikebridge.data.calibrate import Calibration, calibrate
from spikebridge.data.prepared import open_split, prepare
from spikebridge.data.settings import DataConfig, SourceConfig, SplitConfig
from spikebridge.data.simulation.event_statistics import event_statistics, largest_sensor
from spikebridge.data.simulation.motion import Motion
from spikebridge.data.simulation.simulate import Simulator
from spikebridge.data.simulation.twins import simulate_folder

TRUTH = Simulator(
    width=24,
    height=20,
    aspect="stretch",
    frames=20,
    margin=0.1,
    amplitude=5.0,
    saccade_height=0.8,
    speed="smooth",
    negative=True,
    offset_y=0.8,
    duration_ms=250.0,
    pos_threshold=0.5,
    neg_threshold=0.35,
    shot_noise_hz=0.3,
    background_hz=0.5,
)
START = Simulator(width=30, height=30, aspect="stretch", frames=20)


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> DataConfig:
    root = tmp_path_factory.mktemp("calibrate")
    photos = photo_folder(root / "photos", count=15)
    simulate_folder(photos, root / "events", TRUTH, seed=0)
    return DataConfig(
        name="folders",
        photos=str(photos),
        events=str(root / "events"),
        sensor=(24, 20),
        size=(20, 20),
        time_steps=3,
        photo_margin=0.1,
        simulator=START,
        source=SourceConfig(calibrate=True),
        split=SplitConfig(labelled_per_class=9, validation_per_class=1, test_per_class=4),
        cache=str(root / "cache"),
    )


@pytest.fixture(scope="module")
def found(config: DataConfig) -> Calibration:
    collection, manifest = open_split(config, 0)
    return calibrate(config, manifest, collection.sensor)


def test_the_recordings_camera_is_found_again(found: Calibration) -> None:
    camera = found.simulator
    assert (camera.width, camera.height, camera.margin) == (24, 20, 0.1)
    assert (camera.negative, camera.speed) == (True, "smooth")
    assert camera.duration_ms == pytest.approx(250, rel=0.05)
    assert camera.pos_threshold == pytest.approx(0.5, rel=0.2)
    assert camera.neg_threshold == pytest.approx(0.35, rel=0.2)
    assert camera.pos_threshold / camera.neg_threshold == pytest.approx(0.5 / 0.35, rel=0.1)
    assert camera.amplitude == pytest.approx(5.0, rel=0.25)
    assert camera.offset_y == pytest.approx(0.8, abs=0.6)


@pytest.mark.parametrize(("recorded", "start"), [("saccade", "random"), ("random", "saccade")])
def test_the_kind_of_motion_is_found(
    config: DataConfig, recorded: Motion, start: Motion, tmp_path: Path
) -> None:
    truth = replace(TRUTH, motion=recorded, speed="constant", negative=False)
    simulate_folder(Path(str(config.photos)), tmp_path / "events", truth, seed=0)
    other = replace(
        config,
        events=str(tmp_path / "events"),
        simulator=replace(START, motion=start),
        cache=str(tmp_path / "cache"),
    )
    collection, manifest = open_split(other, 0)
    camera = calibrate(other, manifest, collection.sensor).simulator
    assert (camera.motion, camera.negative) == (recorded, False)
    assert camera.pos_threshold / camera.neg_threshold == pytest.approx(0.5 / 0.35, rel=0.15)


def test_photos_that_fill_the_picture_tell_the_camera_one_by_one(tmp_path: Path) -> None:
    """The mean of few such recordings differs from that of other photos' by chance."""
    camera = replace(
        TRUTH, width=32, height=32, margin=0.0, speed="constant", negative=False,
        saccade_height=0.5, offset_x=1.5, offset_y=-2.0,
    )  # fmt: skip
    wrong = {"motion": "random", "amplitude": 3.0, "pos_threshold": 0.7, "neg_threshold": 0.2,
        "shot_noise_hz": 3.0, "cutoff_hz": 400.0}  # fmt: skip
    photos = photo_folder(tmp_path / "photos", count=24, side=32)
    simulate_folder(photos, tmp_path / "events", camera, seed=0)
    config = DataConfig(
        name="folders",
        photos=str(photos),
        events=str(tmp_path / "events"),
        sensor=(32, 32),
        size=(16, 16),
        simulator=replace(START, width=32, height=32),
        source=SourceConfig(wrong, calibrate=True),
        split=SplitConfig(labelled_per_class=4, validation_per_class=1, test_per_class=1),
        cache=str(tmp_path / "cache"),
    )
    collection, manifest = open_split(config, 0)
    found = calibrate(config, manifest, collection.sensor)
    for name, within in {"offset_x": 0.32, "offset_y": 0.32, "saccade_height": 0.05}.items():
        truth = getattr(camera, name)
        assert getattr(found.simulator, name) == pytest.approx(truth, abs=within), name
    for name in ("amplitude", "pos_threshold", "neg_threshold"):
        truth = getattr(camera, name)
        assert getattr(found.simulator, name) == pytest.approx(truth, rel=0.1), name


@pytest.mark.parametrize("names", ["of no photo", "of another photo"])
def test_without_true_pairs_the_means_are_compared(
    names: str, config: DataConfig, tmp_path: Path
) -> None:
    for folder in filter(Path.is_dir, Path(str(config.events)).iterdir()):
        (tmp_path / "events" / folder.name).mkdir(parents=True)
        files = sorted(folder.glob("*.bin"))
        for file, other in zip(files, files[1:] + files[:1], strict=True):
            name = f"x{file.name}" if names == "of no photo" else other.name
            shutil.copy(file, tmp_path / "events" / folder.name / name)
    other = replace(config, events=str(tmp_path / "events"), cache=str(tmp_path / "cache"))
    collection, manifest = open_split(other, 0)
    assert collection.paired == (names == "of another photo")
    found = calibrate(other, manifest, collection.sensor)
    assert found.likeness > 0.95  # as only means are: of single recordings chance has its share
    camera = found.simulator
    assert (camera.motion, camera.negative, camera.speed) == ("saccade", True, "smooth")
    assert camera.pos_threshold == pytest.approx(0.5, rel=0.25)
    assert camera.pos_threshold / camera.neg_threshold == pytest.approx(0.5 / 0.35, rel=0.15)
    assert camera.offset_y == pytest.approx(0.8, abs=0.6)


def test_a_right_start_stays_where_other_scenes_were_recorded(
    config: DataConfig, tmp_path: Path
) -> None:
    """What the mean of few other scenes tells of the camera is chance."""
    photos = photo_folder(tmp_path / "photos", count=20)
    scenes = tmp_path / "scenes"
    for file in sorted(photos.glob("*/*.png")):
        if int(file.stem[-4:]) > 10:
            (scenes / file.parent.name).mkdir(parents=True, exist_ok=True)
            file.rename(scenes / file.parent.name / file.name)
    simulate_folder(scenes, tmp_path / "events", TRUTH, seed=0)
    other = replace(
        config,
        photos=str(photos),
        events=str(tmp_path / "events"),
        simulator=TRUTH,
        split=SplitConfig(labelled_per_class=6, validation_per_class=1, test_per_class=1),
        cache=str(tmp_path / "cache"),
    )
    collection, manifest = open_split(other, 0)
    camera = calibrate(other, manifest, collection.sensor).simulator
    for name in ("amplitude", "saccade_height", "offset_x", "offset_y", "pos_threshold"):
        assert getattr(camera, name) == getattr(TRUTH, name), name


def test_it_sees_what_was_recorded(found: Calibration) -> None:
    recorded, simulated = found.recorded, found.simulated
    assert simulated.on == pytest.approx(recorded.on, rel=0.06)
    assert simulated.off == pytest.approx(recorded.off, rel=0.06)
    assert simulated.active == pytest.approx(recorded.active, rel=0.1)
    np.testing.assert_allclose(simulated.rate, recorded.rate, atol=0.04)
    assert found.before.on != pytest.approx(recorded.on, rel=0.3)
    assert found.likeness > 0.9 > found.likeness_before + 0.1


def test_only_training_files_are_read_and_their_labels_do_not_matter(
    config: DataConfig, found: Calibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, manifest = open_split(config, 0)
    read: dict[str, set[str]] = {"recording": set(), "photo": set()}
    read_recording, read_listed_photo = module.read_recording, module.read_listed_photo

    def spy_recording(file, *rest):
        read["recording"].add(file)
        return read_recording(file, *rest)

    def spy_source(entry):
        read["photo"].add(entry.file)
        return read_listed_photo(entry)

    monkeypatch.setattr(module, "read_recording", spy_recording)
    monkeypatch.setattr(module, "read_listed_photo", spy_source)
    other = replace(
        manifest,
        entries=tuple(replace(e, label=0, class_name="?") for e in reversed(manifest.entries)),
    )
    again = calibrate(replace(config, cache=str(tmp_path)), other, collection.sensor)
    for kind, files in read.items():
        assert files <= {e.file for e in manifest.select(kind, "train")}
    names = {kind: {Path(f).with_suffix("").parts[-2:] for f in read[kind]} for kind in read}
    assert names["recording"] == names["photo"]  # each with its own
    assert len(read["recording"]) > 10
    assert again == found  # and it is deterministic


def test_what_was_found_is_kept_by_content(
    config: DataConfig, found: Calibration, monkeypatch: pytest.MonkeyPatch
) -> None:
    collection, manifest = open_split(config, 0)
    searched: list[str] = []

    class Search:
        def __init__(self, *_: object) -> None:
            searched.append("again")

        def pairs_hold(self) -> bool:
            return True

    monkeypatch.setattr(module, "_search", Search)
    monkeypatch.setattr(module, "_found_by", lambda _: found)
    assert calibrate(config, manifest, collection.sensor) == found
    assert not searched
    for change in (
        {"source": SourceConfig({"amplitude": 4.0}, calibrate=True)},
        {"photo_margin": 0.05},
        {"split": replace(config.split, labelled_per_class=8)},
    ):
        other = replace(config, **change)
        collection, manifest = open_split(other, 0)
        calibrate(other, manifest, collection.sensor)
        assert len(searched) == 1, change
        searched.clear()
    kept = next(Path(str(config.cache)).glob("calibration-*.json"))
    kept.write_text(kept.read_text()[:100])  # damaged: found again
    collection, manifest = open_split(config, 0)
    for path in Path(str(config.cache)).glob("calibration-*.json"):
        path.write_text("{")
    assert calibrate(config, manifest, collection.sensor) == found
    assert searched


def test_prepare_simulates_with_what_was_found(config: DataConfig, found: Calibration) -> None:
    data = prepare(config, 0, simulated_source=True)
    assert data.source_camera == found.simulator
    fixed = replace(config, source=SourceConfig(found.simulator.settings()))
    again = prepare(fixed, 0, simulated_source=True)
    for some in (data, again):
        assert some.photos["train"].simulated_NTCHW is not None
    np.testing.assert_array_equal(
        np.array(data.photos["train"].simulated_NTCHW),
        np.array(again.photos["train"].simulated_NTCHW),
    )
    assert prepare(config, 0).source_camera is None


def test_the_command_prints_settings_to_paste(
    config: DataConfig, found: Calibration, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    import json

    import yaml

    recipe = tmp_path / "mine.yaml"
    data = json.loads(json.dumps(asdict(config)))
    recipe.write_text(yaml.safe_dump({"data": data}))
    assert main(["calibrate", str(recipe)]) == 0
    table, _, pasted = capsys.readouterr().out.partition("\n\n")
    assert f"{found.recorded.events:,.0f}" in table
    changes = yaml.safe_load(pasted)["data"]["source"]["simulator"]
    assert START.changed(changes) == found.simulator
    assert main(["calibrate", str(recipe), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["likeness"] == found.likeness


def test_photos_that_show_nothing_are_refused(config: DataConfig, tmp_path: Path) -> None:
    blind = {"pos_threshold": 5.0, "neg_threshold": 5.0, "shot_noise_hz": 0.0, "leak_rate_hz": 0.0}
    other = replace(config, source=SourceConfig(blind, calibrate=True), cache=str(tmp_path))
    refused(lambda: prepare(other, 0, simulated_source=True), "nothing", "pos_threshold")


def test_statistics_of_recordings_made_by_hand() -> None:
    first = as_events([(0, 0, 0, 1), (0, 0, 50, 1), (1, 0, 999, 0)], (4, 5))
    second = as_events([(3, 4, 10, 1)] * 4 + [(2, 4, 1009, 0)], (4, 5))
    seen = event_statistics([first, second])
    assert (seen.recordings, seen.events, seen.on, seen.off) == (2, 4, 3, 1)
    assert seen.on_share == 0.75
    assert seen.active == 2 / 20
    assert seen.duration_ms == 0.999
    assert seen.spread == 1 / 4
    assert seen.rate == pytest.approx((0.5 * (2 / 3 + 4 / 5), *[0] * 8, 0.5 * (1 / 3 + 1 / 5)))
    assert seen.quiet_on == seen.quiet_off == 0
    wide = as_events([(7, 0, 0, 1), (0, 0, 5, 0)], (8, 2))  # files need not agree on the sensor
    assert largest_sensor([first, wide]) == (8, 5)
    assert event_statistics([first, wide]).recordings == 2
    noisy = as_events([(x, y, 10 * x + y, (x + y) % 2) for x in range(4) for y in range(4)], (4, 4))
    assert event_statistics([noisy]).quiet_on == 0.5
    assert event_statistics([noisy]).quiet_off == 0.5
