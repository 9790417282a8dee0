"""The simulated camera: reproducible to the byte, and right about what it should see."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factories import as_rows, photo_folder, picture, refused
from spikebridge.cli import main
from spikebridge.data import simulate
from spikebridge.data.events import read_events
from spikebridge.data.simulate import (
    Simulator,
    saccade_path,
    simulate_folder,
    simulate_many,
    simulate_photo,
)

SIMULATOR = Simulator(width=16, height=16, amplitude=3.0, frames=30, pos_threshold=0.4)
IDEAL = replace(
    SIMULATOR,
    width=34,
    height=34,
    amplitude=6.0,
    frames=60,
    neg_threshold=0.4,
    threshold_sigma=0.0,
    refractory_us=0,
    cutoff_hz=0.0,
    leak_rate_hz=0.0,
    shot_noise_hz=0.0,
)


def _files(root: Path) -> dict[str, bytes]:
    """Every file below a folder, hidden ones too."""
    return {str(f.relative_to(root)): f.read_bytes() for f in root.rglob("*") if f.is_file()}


# The path ----------------------------------------------------------------------------------------


def test_the_path_is_a_closed_triangle_of_three_saccades() -> None:
    path_N2 = saccade_path(31, 5.0)
    np.testing.assert_allclose(path_N2[[0, 10, 20, 30]], [(0, 0), (2.5, 2.5), (5, 0), (0, 0)])
    # Each side is straight, at one speed, in a third of the time.
    for start in (0, 10, 20):
        steps = np.diff(path_N2[start : start + 11], axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-12)


@given(st.integers(4, 200), st.floats(0, 50))
def test_the_path_starts_and_ends_at_rest_and_spans_its_amplitude(
    frames: int, amplitude: float
) -> None:
    path_N2 = saccade_path(frames, amplitude)
    assert path_N2.shape == (frames, 2)
    np.testing.assert_allclose(path_N2[[0, -1]], 0, atol=1e-9)
    assert path_N2.min() >= -1e-9
    assert path_N2[:, 0].max() <= amplitude + 1e-9
    assert path_N2[:, 1].max() <= amplitude / 2 + 1e-9


# Events ------------------------------------------------------------------------------------------


def _edge(bright: str) -> np.ndarray:
    """A photo whose left, right, upper or lower half is bright, the other half dark."""
    photo_HWC = np.full((34, 34, 3), 30, np.uint8)
    half = {
        "left": (slice(None), slice(0, 17)),
        "right": (slice(None), slice(17, None)),
        "upper": (slice(0, 17), slice(None)),
        "lower": (slice(17, None), slice(None)),
    }[bright]
    photo_HWC[half] = 220
    return photo_HWC


def _by_third(bright: str) -> list[tuple[int, int]]:
    """Numbers of ON and OFF events in each of the three saccades."""
    events = simulate_photo(_edge(bright), IDEAL, 0)
    last_frame_us = 295_000  # 60 frames in 300 ms, the first at 0
    third_N = (events.t_N * 3 // last_frame_us).clip(0, 2)
    return [
        (
            int((events.polarity_N & (third_N == k)).sum()),
            int((~events.polarity_N & (third_N == k)).sum()),
        )
        for k in range(3)
    ]


# A frame before a turn and the one after it are joined: up to 5 % of the events straddle the turn.


def test_a_vertical_edge_brightens_where_the_bright_side_moves_to() -> None:
    # The picture goes right, right, left.
    (on1, off1), (on2, off2), (on3, off3) = _by_third("left")
    assert min(on1, on2, off3) > 1000
    assert off1 == 0
    assert max(off2, on3) < 60
    (on1, off1), (on2, off2), (on3, off3) = _by_third("right")
    assert min(off1, off2, on3) > 1000
    assert on1 == 0
    assert max(on2, off3) < 60


def test_a_horizontal_edge_sees_down_and_up_and_not_the_way_back() -> None:
    (on1, off1), (on2, off2), third = _by_third("upper")
    assert min(on1, off2) > 1000
    assert off1 == 0
    assert max(on2, *third) < 60
    (on1, off1), (on2, off2), third = _by_third("lower")
    assert min(off1, on2) > 1000
    assert on1 == 0
    assert max(off2, *third) < 60


def test_an_edge_fires_only_where_it_passes() -> None:
    columns = {x for x, *_ in as_rows(simulate_photo(_edge("left"), IDEAL, 0))}
    assert columns <= set(range(13, 21))  # 17 ± half the amplitude, and a pixel of blur
    assert {15, 16, 17, 18} <= columns
    rows = {y for _, y, *_ in as_rows(simulate_photo(_edge("upper"), IDEAL, 0))}
    assert rows <= set(range(14, 20))  # the path is half as high
    assert {16, 17} <= rows


def test_a_lower_threshold_gives_more_events_of_its_polarity() -> None:
    counts = {}
    for name in ("both", "pos_threshold", "neg_threshold"):
        simulator = IDEAL if name == "both" else replace(IDEAL, **{name: 0.1})
        on_N = simulate_photo(_edge("left"), simulator, 0).polarity_N
        counts[name] = int(on_N.sum()), int((~on_N).sum())
    assert counts["pos_threshold"][0] > 2 * counts["both"][0]
    assert counts["neg_threshold"][1] > 2 * counts["both"][1]


@pytest.mark.parametrize("seed", range(3))
def test_events_lie_within_sensor_and_time_and_in_order(seed: int) -> None:
    simulator = replace(SIMULATOR, width=20, height=12, duration_ms=120.0)
    events = simulate_photo(picture(seed), simulator, seed)
    assert events.sensor == (20, 12)
    assert len(events) > 100
    assert 0 <= events.x_N.min() <= events.x_N.max() < 20
    assert 0 <= events.y_N.min() <= events.y_N.max() < 12
    assert (np.diff(events.t_N) >= 0).all()
    assert 0 <= events.t_N[0] < 60_000 < events.t_N[-1] <= 120_000


def test_the_seed_determines_the_events() -> None:
    first = as_rows(simulate_photo(picture(0), SIMULATOR, 1))
    assert as_rows(simulate_photo(picture(0), SIMULATOR, 1)) == first
    assert as_rows(simulate_photo(picture(0), SIMULATOR, 2)) != first
    assert as_rows(simulate_photo(picture(1), SIMULATOR, 1)) != first


@pytest.mark.parametrize("level", [0, 127, 255])
def test_a_uniform_photo_without_noise_is_refused(level: int) -> None:
    photo_HWC = np.full((16, 16, 3), level, np.uint8)
    refused(lambda: simulate_photo(photo_HWC, IDEAL, 0), "no change", "simulator.pos_threshold")


def test_many_are_simulated_in_order_whatever_the_number_of_threads(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    photos, seeds = [picture(i) for i in range(6)], [3, 1, 4, 1, 5, 9]
    alone = [
        as_rows(simulate_photo(photo, SIMULATOR, seed))
        for photo, seed in zip(photos, seeds, strict=True)
    ]
    for threads in (1, 8):
        monkeypatch.setattr(simulate.os, "cpu_count", lambda n=threads: n)
        many = simulate_many(photos, SIMULATOR, seeds, description="test")
        assert [as_rows(events) for events in many] == alone


@pytest.mark.parametrize(
    "bad",
    [
        {"width": 3},
        {"frames": 3},
        {"duration_ms": 0.0},
        {"duration_ms": float("nan")},
        {"margin": 0.5},
        {"pos_threshold": 0.0},
        {"neg_threshold": -0.1},
        {"pos_threshold": float("nan")},
        {"amplitude": -1.0},
        {"amplitude": float("inf")},
        {"threshold_sigma": -0.1},
        {"refractory_us": -1},
        {"cutoff_hz": -1.0},
        {"leak_rate_hz": -1.0},
        {"shot_noise_hz": -1.0},
    ],
    ids=str,
)
def test_impossible_cameras_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="simulator: .*(must|needed)"):
        Simulator(**bad)


# A folder ----------------------------------------------------------------------------------------


def test_a_folder_becomes_n_caltech101s_layout(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=3)
    assert simulate_folder(photos, tmp_path / "out", SIMULATOR, seed=0) == 6
    assert sorted(_files(tmp_path / "out")) == [
        *(f"{c}/image_000{i}.bin" for c in ("cup", "saw") for i in (1, 2, 3)),
        "simulator.json",
    ]
    recording = read_events(tmp_path / "out/cup/image_0001.bin", (16, 16))
    assert len(recording) > 100


def test_recordings_depend_on_seed_class_and_name_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos = photo_folder(tmp_path / "photos", count=3)
    simulate_folder(photos, tmp_path / "a", SIMULATOR, seed=0)
    first = _files(tmp_path / "a")
    monkeypatch.setattr(simulate.os, "cpu_count", lambda: 1)
    simulate_folder(photos, tmp_path / "b", SIMULATOR, seed=0)
    assert _files(tmp_path / "b") == first
    for file in [*(photos / "cup").iterdir(), photos / "saw/image_0002.png"]:
        file.unlink()
    (photos / "cup").rmdir()
    simulate_folder(photos, tmp_path / "c", SIMULATOR, seed=0)
    kept = ("saw/image_0001.bin", "saw/image_0003.bin", "simulator.json")
    assert _files(tmp_path / "c") == {name: first[name] for name in kept}
    simulate_folder(photos, tmp_path / "d", SIMULATOR, seed=1)
    other = _files(tmp_path / "d")
    assert all(other[name] != first[name] for name in kept)


def test_the_same_photo_under_another_name_has_other_noise(tmp_path: Path) -> None:
    for name in ("a/1.png", "a/2.png", "b/1.png"):
        (tmp_path / "photos" / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0)).save(tmp_path / "photos" / name)
    simulate_folder(tmp_path / "photos", tmp_path / "out", SIMULATOR, seed=0)
    recordings = [data for name, data in _files(tmp_path / "out").items() if ".bin" in name]
    assert len(set(recordings)) == 3


def test_a_repeated_call_keeps_what_is_there_and_makes_the_rest_alike(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=3), tmp_path / "out"
    simulate_folder(photos, out, SIMULATOR, seed=0)
    first = _files(out)
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 0
    (out / "cup/image_0002.bin").unlink()
    (out / "saw/image_0001.bin").unlink()
    times = {f: f.stat().st_mtime_ns for f in out.rglob("*.bin")}
    assert simulate_folder(photos, out, SIMULATOR, seed=0) == 2
    assert _files(out) == first
    assert {f: f.stat().st_mtime_ns for f in times} == times


def test_a_bad_photo_leaves_whole_recordings_or_none(tmp_path: Path) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=3), tmp_path / "out"
    simulate_folder(photos, tmp_path / "whole", SIMULATOR, seed=0)
    whole = _files(tmp_path / "whole")
    bad = photos / "cup/image_0002.png"
    good = bad.read_bytes()
    bad.write_bytes(good[: len(good) // 2])
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0), bad, "replace or remove it")
    made = _files(out)
    assert "cup/image_0002.bin" not in made
    assert made == {name: whole[name] for name in made}
    bad.write_bytes(good)
    simulate_folder(photos, out, SIMULATOR, seed=0)
    assert _files(out) == whole


def test_a_failure_while_writing_leaves_no_partial_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=2), tmp_path / "out"
    write = Path.write_bytes

    def half(self: Path, data: bytes) -> int:
        write(self, data[: len(data) // 2])
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Path, "write_bytes", half)
    refused(lambda: simulate_folder(photos, out, SIMULATOR, seed=0), out, "No space left", "free")
    assert list(_files(out)) == ["simulator.json"]


def test_a_uniform_photo_in_a_folder_is_named(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    Image.new("L", (16, 16), 99).save(photos / "cup/image_0002.png")
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", IDEAL, seed=0),
        photos / "cup/image_0002.png",
        "no change",
    )


def test_two_photos_of_one_name_are_refused(tmp_path: Path) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    Image.fromarray(picture(7)).save(photos / "cup/image_0001.jpg")
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", SIMULATOR, seed=0),
        "image_0001.png",
        "image_0001.jpg",
        "rename",
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("size", [(257, 100), (100, 241)])
def test_a_sensor_that_bin_cannot_hold_is_refused(tmp_path: Path, size: tuple[int, int]) -> None:
    photos = photo_folder(tmp_path / "photos", count=1)
    simulator = Simulator(width=size[0], height=size[1])
    refused(
        lambda: simulate_folder(photos, tmp_path / "out", simulator, seed=0),
        f"{size[0]}×{size[1]}",
        "simulator.width",
    )
    assert not (tmp_path / "out").exists()


# The command -------------------------------------------------------------------------------------

SMALL = ["--simulator.width", "16", "--simulator.height", "16", "--simulator.frames", "20"]


def test_the_command_simulates_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=2), tmp_path / "out"
    call = ["simulate", "--photos", str(photos), "--out", str(out), *SMALL]
    assert main(call) == 0
    assert f"{out}: 4 recordings made" in capsys.readouterr().out
    first = _files(out)
    simulate_folder(photos, tmp_path / "api", Simulator(width=16, height=16, frames=20), seed=0)
    assert _files(tmp_path / "api") == first
    (out / "cup/image_0001.bin").unlink()
    assert main(call) == 0
    assert f"{out}: 1 recordings made" in capsys.readouterr().out
    assert _files(out) == first


@pytest.mark.parametrize("change", [["--seed", "1"], ["--simulator.amplitude", "4"]], ids=str)
def test_the_command_refuses_other_settings_in_the_same_folder(
    tmp_path: Path, change: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    photos, out = photo_folder(tmp_path / "photos", count=1), tmp_path / "out"
    call = ["simulate", "--photos", str(photos), "--out", str(out), *SMALL]
    assert main(call) == 0
    first = _files(out)
    capsys.readouterr()
    assert main([*call, *change]) == 2
    error = capsys.readouterr().err
    assert error.startswith("spikebridge: error: ")
    assert error.count("\n") == 1
    assert "other settings" in error
    assert "choose another --out" in error
    assert _files(out) == first
