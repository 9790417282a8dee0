"""A camera is found again from one of its recordings and the photo, and judged on the rest."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from factories import as_events, photo_folder, refused
from spikebridge.cli import main
from spikebridge.data.events import Events, read_events, write_bin
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.fit import CameraFit, fit_camera
from spikebridge.data.simulation.simulate import hot_places, simulate_photo

TRUTH = Simulator(
    width=40,
    height=32,
    crop=2,
    amplitude=4.5,
    saccade_height=1.3,
    saccade_apex=0.35,
    saccade_times=(0.04, 0.29, 0.36, 0.64, 0.75, 1.0),
    speed="smooth",
    offset_x=0.5,
    offset_y=-0.7,
    pos_threshold=0.25,
    neg_threshold=0.3,
    shot_noise_hz=2.0,
    background_hz=3.0,
    hot_pixels=12,
    hot_hz=600.0,
)


def photo() -> np.ndarray:
    """Fine blobs, which fill the sensor's height."""
    coarse = np.random.default_rng(7).integers(0, 256, (9, 10, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(coarse).resize((35, 32), Image.Resampling.BICUBIC))


@pytest.fixture(scope="module")
def recording() -> Events:
    return simulate_photo(photo(), TRUTH, 5)


@pytest.fixture(scope="module")
def found(recording: Events) -> CameraFit:
    return fit_camera(recording, photo())


def test_the_camera_is_found_again(found: CameraFit) -> None:
    camera = found.simulator
    assert (camera.width, camera.height, camera.crop) == (40, 32, 2)
    assert (camera.motion, camera.speed, camera.negative) == ("saccade", "smooth", False)
    assert camera.saccade_times == pytest.approx(TRUTH.saccade_times, abs=0.03)
    within = {"amplitude": 0.5, "saccade_height": 0.15, "saccade_apex": 0.06, "offset_x": 0.3,
              "offset_y": 0.3, "pos_threshold": 0.04, "neg_threshold": 0.04, "shot_noise_hz": 1.2,
              "background_hz": 1.0, "duration_ms": 2.0}  # fmt: skip
    for name, distance in within.items():
        assert getattr(camera, name) == pytest.approx(getattr(TRUTH, name), abs=distance), name


def test_hot_pixels_are_found_and_as_many_are_simulated(
    recording: Events, found: CameraFit
) -> None:
    real, simulated = (hot_places(camera) for camera in (TRUTH, found.simulator))
    inside = (28, 31)
    assert (simulated < inside).all(1).sum() == (real < inside).all(1).sum() > 5
    assert found.simulator.hot_hz == pytest.approx(TRUTH.hot_hz, rel=0.15)
    cold = fit_camera(simulate_photo(photo(), replace(TRUTH, hot_pixels=0), 5), photo()).simulator
    assert (cold.hot_pixels, cold.hot_hz) == (0, 0.0)


def test_it_is_judged_on_the_third_saccade(recording: Events, found: CameraFit) -> None:
    fitted, judged = found.fitted, found.judged
    assert fitted.recorded_events + judged.recorded_events == pytest.approx(len(recording), abs=1)
    cut_N = recording.t_N > 0.7 * recording.t_N[-1]  # amid the rest
    assert judged.recorded_events == pytest.approx(cut_N.sum(), rel=0.03)
    assert judged.recorded_on == pytest.approx(recording.polarity_N[cut_N].mean(), abs=0.01)
    assert judged.simulated_events == pytest.approx(judged.recorded_events, rel=0.1)
    assert judged.simulated_on == pytest.approx(judged.recorded_on, rel=0.1)
    assert judged.simulated_extent == judged.recorded_extent == (31, 28)
    assert judged.rates_apart < 0.1
    assert min(judged.likeness, fitted.likeness) > 0.85
    for part in (fitted, judged):
        for rate in (part.recorded_rate, part.simulated_rate):
            assert len(rate) == 10
            assert sum(rate) == pytest.approx(1)


def test_what_the_third_saccade_shows_does_not_matter_to_the_fit(
    recording: Events, found: CameraFit
) -> None:
    """But for when its events come: their places and polarities may be any."""
    late_N = recording.t_N > 0.7 * recording.t_N[-1]
    random = np.random.default_rng(0)
    other = replace(
        recording,
        x_N=np.where(late_N, random.permutation(recording.x_N), recording.x_N),
        polarity_N=np.where(late_N, ~recording.polarity_N, recording.polarity_N),
    )
    camera = fit_camera(other, photo()).simulator
    for name, value in found.simulator.settings().items():
        if name != "saccade_times" and not isinstance(value, str):
            assert getattr(camera, name) == pytest.approx(value, rel=0.02, abs=0.02), name


# The command -------------------------------------------------------------------------------------


@pytest.fixture
def pair(recording: Events, tmp_path: Path) -> list[str]:
    write_bin(tmp_path / "real.bin", recording)
    Image.fromarray(photo()).save(tmp_path / "real.png")
    return ["simulate", "--like", str(tmp_path / "real.bin"), "--photo",
            str(tmp_path / "real.png"), "--sensor", "40x32"]  # fmt: skip


def test_the_command_prints_the_fit_and_makes_the_twin(
    pair: list[str], found: CameraFit, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=1), tmp_path / "twin"
    assert main([*pair, "--photos", str(photos), "--out", str(out)]) == 0
    table, _, text = capsys.readouterr().out.partition("\n\n")
    judged = found.judged
    [events] = [line.split() for line in table.splitlines() if line.startswith("events  ")]
    assert events[3:] == [f"{judged.recorded_events:,}", f"{judged.simulated_events:,}"]
    settings, _, end = text.rpartition(f"{out}: 2 recordings made")
    assert end == "\n"
    camera = Simulator().changed(yaml.safe_load(settings)["data"]["simulator"])
    assert camera == found.simulator
    made = read_events(out / "cup/image_0001.bin", (40, 32))
    assert (made.x_N.max(), made.y_N.max()) == (27, 27)
    assert yaml.safe_load((out / "simulator.json").read_text())["crop"] == 2


@pytest.mark.parametrize(
    ("left_out", "added", "words"),
    [
        (["--photo", "--photos"], [], "missing: --photo;"),
        (["--like"], [], "missing: --like;"),
        ([], ["--photos", "photos"], "missing: --out;"),
        ([], ["--out", "twin"], "missing: --photos;"),
        ([], ["--motion", "pan"], "leave out --motion"),
        ([], ["--simulator.amplitude", "3"], "leave out --motion and --simulator"),
        (["--sensor"], ["--sensor", "20x16"], "outside"),
    ],
    ids=str,
)
def test_options_that_do_not_go_together(
    left_out: list[str],
    added: list[str],
    words: str,
    pair: list[str],
    capsys: pytest.CaptureFixture[str],
) -> None:
    options = dict(zip(pair[1::2], pair[2::2], strict=True))
    kept = [x for name, value in options.items() if name not in left_out for x in (name, value)]
    assert main(["simulate", *kept, *added]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert words in err
    assert err.count("\n") == 1


@pytest.mark.parametrize("spoilt", ["real.bin", "real.png"])
def test_files_that_cannot_be_read(
    spoilt: str, pair: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / spoilt).write_bytes(b"")
    assert main(pair) == 2
    assert str(tmp_path / spoilt) in capsys.readouterr().err
    (tmp_path / spoilt).unlink()
    assert main(pair) == 2
    assert str(tmp_path / spoilt) in capsys.readouterr().err


# Refusals ----------------------------------------------------------------------------------------


def test_another_photo_is_refused(recording: Events) -> None:
    refused(lambda: fit_camera(recording, photo()[::-1]), "looks little like the photo")
    refused(lambda: fit_camera(recording, photo()[:16]), "31×28", "40×18")


def test_recordings_that_hold_no_three_saccades_are_refused(recording: Events) -> None:
    few = as_events([(1, 1, t, 1) for t in range(0, 9000, 10)], (40, 32))
    refused(lambda: fit_camera(few, photo()), "900", "too few")
    at_once = replace(few, **{k: np.tile(getattr(few, k), 4) for k in ("x_N", "y_N", "polarity_N")},
                      t_N=np.zeros(3600, np.int64))  # fmt: skip
    refused(lambda: fit_camera(at_once, photo()), "three saccades")
