"""The simulated camera: reproducible to the byte, and right about what it should see."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from factories import as_rows, picture, refused
from spikebridge.data.simulation.motion import motion_path
from spikebridge.data.simulation.simulate import Simulator, simulate_photo

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


def test_a_negative_brightens_where_the_bright_side_leaves() -> None:
    events, negative = (
        simulate_photo(_edge("left"), replace(IDEAL, negative=negative), 0)
        for negative in (False, True)
    )
    other = simulate_photo(255 - _edge("left"), IDEAL, 0)
    assert as_rows(negative) == as_rows(other) != as_rows(events)
    framed = simulate_photo(_edge("left"), replace(IDEAL, negative=True, margin=0.2), 0)
    middle_N = (framed.y_N > 12) & (framed.y_N < 22) & (framed.t_N < 90_000)
    # To the right: the dark half comes from a bright margin and goes over the bright half.
    left_N, edge_N = (middle_N & (abs(framed.x_N - x) < 4) for x in (7, 17))
    assert framed.polarity_N[left_N].mean() > 0.95
    assert framed.polarity_N[edge_N].mean() < 0.05
    assert min(left_N.sum(), edge_N.sum()) > 100


def test_an_offset_moves_the_path_by_so_many_pixels() -> None:
    events = simulate_photo(_edge("left"), IDEAL, 0)
    moved = simulate_photo(_edge("left"), replace(IDEAL, offset_x=4.0), 0)
    assert as_rows(moved) == [(x + 4, *rest) for x, *rest in as_rows(events)]
    moved = simulate_photo(_edge("upper"), replace(IDEAL, offset_y=-3.0), 0)
    events = simulate_photo(_edge("upper"), IDEAL, 0)
    assert as_rows(moved) == [(x, y - 3, *rest) for x, y, *rest in as_rows(events)]


def test_background_is_on_events_at_any_time_and_pixel_of_the_picture() -> None:
    photo_HWC = picture(0)[:, :8]
    simulator = replace(IDEAL, width=40, height=40, background_hz=5.0)
    quiet = as_rows(simulate_photo(photo_HWC, replace(simulator, background_hz=0.0), 3))
    rows = as_rows(simulate_photo(photo_HWC, simulator, 3))
    assert rows == as_rows(simulate_photo(photo_HWC, simulator, 3))
    assert [t for *_, t, _ in rows] == sorted(t for *_, t, _ in rows)
    extra = list((Counter(rows) - Counter(quiet)).elements())
    assert len(rows) - len(quiet) == len(extra)
    assert len(extra) == pytest.approx(5 * 20 * 40 * 0.295, abs=3 * 34)  # Poisson's deviation
    assert {polarity for *_, polarity in extra} == {1}
    x_N, y_N, t_N = np.array([row[:3] for row in extra]).T
    assert (x_N.min(), x_N.max(), y_N.min(), y_N.max()) == (0, 19, 0, 39)
    assert np.histogram(t_N, 4, (0, 295_000))[0].min() > 230


def test_saccades_turn_at_the_apex_and_rest_between_their_times() -> None:
    path_N2 = motion_path(
        "saccade", 101, 10.0, 0, height=1.4, apex=0.4, times=(0.1, 0.3, 0.4, 0.6, 0.75, 0.9)
    )
    corners = np.array([(0, 0), (4, 14), (10, 0), (0, 0)]) - (5, 7)
    for corner, (begin, end) in zip(corners, [(0, 10), (30, 40), (60, 75), (90, 100)], strict=True):
        np.testing.assert_allclose(path_N2[begin : end + 1], [corner] * (end - begin + 1))
    np.testing.assert_allclose(path_N2[20], (corners[0] + corners[1]) / 2)
    thirds = motion_path("saccade", 61, 10.0, 0, times=(0, 1 / 3, 1 / 3, 2 / 3, 2 / 3, 1))
    np.testing.assert_allclose(thirds, motion_path("saccade", 61, 10.0, 0), atol=1e-12)


def test_an_ideal_camera_sees_nothing_while_the_picture_rests() -> None:
    times = (0.1, 0.3, 0.4, 0.6, 0.75, 0.9)
    events = simulate_photo(picture(0), replace(IDEAL, saccade_times=times), 0)
    share_N = events.t_N / 295_000  # from the first frame to the last one
    frame = 1 / 59
    moving = [((share_N > a - frame) & (share_N < b + frame)).sum() for a, b in
              zip(times[::2], times[1::2], strict=True)]  # fmt: skip
    assert sum(moving) == len(events)
    assert min(moving) > 200


def test_hot_pixels_fire_all_the_time_at_places_of_the_camera() -> None:
    photo_HWC = picture(0)[:, :8]
    cold = replace(IDEAL, width=40, height=40)
    hot = replace(cold, hot_pixels=30, hot_hz=200.0)
    places = []
    for seed in (3, 4):
        extra = Counter(as_rows(simulate_photo(photo_HWC, hot, seed)))
        extra -= Counter(as_rows(simulate_photo(photo_HWC, cold, seed)))
        x_N, y_N, t_N, on_N = np.array(list(extra.elements())).T
        places.append({*zip(x_N.tolist(), y_N.tolist(), strict=True)})
        assert x_N.max() < 20  # the picture's width
        assert len(t_N) == pytest.approx(len(places[-1]) * 200 * 0.295, rel=0.15)
        assert on_N.mean() == pytest.approx(0.5, abs=0.08)
        assert np.histogram(t_N, 4, (0, 295_000))[0].min() > len(t_N) / 5
    assert places[0] == places[1]
    assert 8 < len(places[0]) < 22  # half of 30
    rows = as_rows(simulate_photo(photo_HWC, hot, 3))
    assert [t for *_, t, _ in rows] == sorted(t for *_, t, _ in rows)


def test_a_picture_without_its_border_lies_in_the_corner() -> None:
    whole = simulate_photo(_edge("left"), IDEAL, 0)
    cropped = simulate_photo(_edge("left"), replace(IDEAL, crop=5), 0)
    kept = [(x - 5, y - 5, *rest) for x, y, *rest in as_rows(whole) if 5 <= y < 29]
    assert sorted(as_rows(cropped)) == sorted(kept)  # the edge is not at the border
    line = simulate_photo(_speckled(1, 400), replace(IDEAL, width=30, crop=5), 0)
    assert line.y_N.max() == 0
    assert line.x_N.max() == 19


@pytest.mark.parametrize("seed", range(6))
def test_a_pan_brightens_what_the_bright_side_moves_over_all_the_way(seed: int) -> None:
    across, down = motion_path("pan", 2, IDEAL.amplitude, seed)[-1]
    for bright, moved in (("left", across), ("right", -across), ("upper", down), ("lower", -down)):
        if abs(moved) > 0.5:
            events = simulate_photo(_edge(bright), replace(IDEAL, motion="pan"), seed)
            assert len(events) > 300
            assert (events.polarity_N == (moved > 0)).all()


@pytest.mark.parametrize("motion", ["pan", "random"])
def test_each_seed_draws_its_own_path(motion: str) -> None:
    simulator = replace(IDEAL, motion=motion)  # without noise, so that the path alone differs
    rows = [as_rows(simulate_photo(picture(0), simulator, seed)) for seed in (0, 0, 1)]
    assert rows[0] == rows[1] != rows[2]


def _speckled(height: int, width: int) -> np.ndarray:
    """A photo of which every pixel fires."""
    grey_HW1 = np.random.default_rng(0).integers(0, 2, (height, width, 1), dtype=np.uint8) * 255
    return np.repeat(grey_HW1, 3, 2)


@pytest.mark.parametrize(
    ("photo", "picture_size"),
    [((30, 60), (15, 30)), ((60, 30), (20, 10)), ((5, 10), (15, 30)), ((40, 60), (20, 30))],
    ids=str,
)
def test_a_photo_that_keeps_its_aspect_is_as_large_as_fits_and_lies_in_the_corner(
    photo: tuple[int, int], picture_size: tuple[int, int]
) -> None:
    simulator = replace(IDEAL, width=30, height=20, pos_threshold=0.1, neg_threshold=0.1)
    events = simulate_photo(_speckled(*photo), simulator, 0)
    height, width = picture_size
    assert events.sensor == (30, 20)
    assert (events.x_N.min(), events.y_N.min()) == (0, 0)
    assert (events.x_N.max() + 1, events.y_N.max() + 1) == (width, height)
    alone = replace(simulator, width=width, height=height, aspect="stretch")
    assert as_rows(events) == as_rows(simulate_photo(_speckled(*photo), alone, 0))
    filled = simulate_photo(_speckled(*photo), replace(simulator, aspect="stretch"), 0)
    assert (filled.x_N.max() + 1, filled.y_N.max() + 1) == (30, 20)


def test_a_photo_of_the_sensors_aspect_is_the_same_either_way() -> None:
    kept, stretched = (
        as_rows(simulate_photo(picture(0), replace(SIMULATOR, aspect=aspect), 0))
        for aspect in ("keep", "stretch")
    )
    assert kept == stretched


def test_a_photo_like_a_line_keeps_at_least_a_pixel() -> None:
    events = simulate_photo(_speckled(1, 400), replace(IDEAL, width=30, height=20), 0)
    assert events.y_N.max() == 0
    assert events.x_N.max() > 20


def test_the_settings_name_all_that_determines_a_recording() -> None:
    assert {"motion": "saccade", "aspect": "keep"}.items() <= SIMULATOR.settings().items()
    assert len({str(replace(SIMULATOR, motion=m).settings()) for m in ("saccade", "pan")}) == 2


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
        {"background_hz": -1.0},
        {"saccade_height": 2.1},
        {"saccade_apex": 1.1},
        {"saccade_times": (0.0, 0.3, 0.2, 0.5, 0.6, 0.9)},
        {"saccade_times": (0.1, 0.1, 0.2, 0.5, 0.6, 0.9)},
        {"saccade_times": (-0.1, 0.1, 0.2, 0.5, 0.6, 0.9)},
        {"saccade_times": (0.0, 0.1, 0.2, 0.5, 0.6, 1.1)},
        {"saccade_times": (0.0, 0.1, 0.2, 0.5, 0.6, float("nan"))},
        {"crop": -1},
        {"hot_pixels": -1},
        {"hot_pixels": 34 * 34 + 1},
        {"hot_hz": -1.0},
        {"offset_x": float("nan")},
    ],
    ids=str,
)
def test_impossible_cameras_are_refused(bad: dict) -> None:
    with pytest.raises(ValueError, match="simulator: .*(must|needed)"):
        Simulator(**bad)
