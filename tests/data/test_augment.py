"""Random changes: exact on counts, shared by the views of a sample, each sample by itself."""

from collections import Counter

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from spikebridge.data.feed.augment import (
    Geometry,
    augment_counts,
    changes_counts,
    draw_geometry,
    jitter_shares,
)
from spikebridge.data.settings import AugmentConfig

ALL_COUNTS = AugmentConfig(event_drop=0.5, time_jitter=0.7, polarity_flip=0.5)
ALL_MOVES = AugmentConfig(crop=3, flip=True, rotate=25)


def _counts(samples: int, steps: int = 4, size: int = 6, most: int = 9) -> np.ndarray:
    random = np.random.default_rng(0)
    return random.integers(0, most, (samples, steps, 2, size, size), dtype=np.uint8)


def _augmented(counts_BTCHW: np.ndarray, seed: int = 0, **changes: float) -> np.ndarray:
    return augment_counts(counts_BTCHW, AugmentConfig(**changes), np.random.default_rng(seed))


# Counts ------------------------------------------------------------------------------------------


def test_counts_are_handed_on_uncopied_where_nothing_is_switched_on() -> None:
    counts_BTCHW = _counts(3)
    moves = AugmentConfig(crop=2, flip=True, rotate=9)
    assert not changes_counts(moves)
    assert augment_counts(counts_BTCHW, moves, np.random.default_rng(0)) is counts_BTCHW


@given(st.floats(0, 0.99), st.floats(0, 1), st.floats(0, 1), st.integers(1, 5), st.integers(0, 99))
def test_no_event_appears_and_the_input_stays_as_it_was(
    drop: float, jitter: float, flip: float, steps: int, seed: int
) -> None:
    counts_BTCHW = _counts(3, steps)
    config = AugmentConfig(event_drop=drop, time_jitter=jitter, polarity_flip=flip)
    after = augment_counts(counts_BTCHW, config, np.random.default_rng(seed))
    np.testing.assert_array_equal(counts_BTCHW, _counts(3, steps))
    assert after.shape == counts_BTCHW.shape
    assert np.issubdtype(after.dtype, np.integer)
    assert after.min() >= 0
    # Per pixel over all steps and both polarities.
    assert (after.sum((1, 2)) <= counts_BTCHW.sum((1, 2), dtype=int)).all()


def test_dropping_is_binomial_with_each_recordings_own_share() -> None:
    counts_BTCHW = np.full((400, 2, 2, 20, 20), 50, np.uint8)
    after = _augmented(counts_BTCHW, event_drop=0.6)
    assert after.max() <= 50
    kept_B = after.mean((1, 2, 3, 4)) / 50
    # Uniform in [0.4, 1].
    assert 0.39 < kept_B.min() < 0.42
    assert 0.98 < kept_B.max() <= 1
    assert kept_B.mean() == pytest.approx(0.7, abs=0.03)
    assert kept_B.std() == pytest.approx(0.6 / 12**0.5, abs=0.02)
    # Within a recording the events are independent: the variance of n events kept with share p.
    variance_B = after.reshape(400, -1).var(1)
    expected_B = 50 * kept_B * (1 - kept_B)
    assert variance_B.sum() == pytest.approx(expected_B.sum(), rel=0.02)


def test_empty_cells_stay_empty() -> None:
    counts_BTCHW = _counts(5, most=3)
    after = _augmented(counts_BTCHW, event_drop=0.9)
    assert not after[counts_BTCHW == 0].any()
    assert (after[counts_BTCHW > 0] == 0).any()
    none = np.zeros((2, 3, 2, 4, 4), np.uint8)
    assert not augment_counts(none, ALL_COUNTS, np.random.default_rng(0)).any()


def test_flipping_polarity_exchanges_the_channels_of_whole_recordings() -> None:
    counts_BTCHW = _counts(300)
    swapped = counts_BTCHW[:, :, ::-1]
    np.testing.assert_array_equal(_augmented(counts_BTCHW, polarity_flip=1.0), swapped)
    kinds = Counter()
    for before, after in zip(
        counts_BTCHW, _augmented(counts_BTCHW, polarity_flip=0.3), strict=True
    ):
        same = np.array_equal(after, before)
        assert same or np.array_equal(after, before[:, ::-1])
        kinds[same] += 1
    assert 65 < kinds[False] < 115


def _shifts(sigma: float, events: int) -> np.ndarray:
    """Steps by which single events move, farther than 2 taken as 0."""
    random = np.random.default_rng(1)
    shift_N = np.floor(random.random(events) + random.normal(0, sigma, events)).astype(int)
    return np.where(np.abs(shift_N) > 2, 0, shift_N)


@pytest.mark.parametrize("sigma", [0.05, 0.3, 0.6, 1.0])
def test_the_shares_are_those_of_single_events(sigma: float) -> None:
    shares_5 = jitter_shares(sigma)
    assert shares_5.sum() == pytest.approx(1)
    np.testing.assert_allclose(shares_5, shares_5[::-1], atol=1e-12)
    seen_5 = np.bincount(_shifts(sigma, 400_000) + 2, minlength=5) / 400_000
    np.testing.assert_allclose(seen_5, shares_5, atol=0.004)


def test_events_hardly_move_where_the_jitter_is_small() -> None:
    np.testing.assert_allclose(jitter_shares(1e-6), [0, 0, 1, 0, 0], atol=1e-6)
    counts_BTCHW = _counts(3)
    np.testing.assert_array_equal(_augmented(counts_BTCHW, time_jitter=1e-9), counts_BTCHW)


@pytest.mark.parametrize("steps", [1, 2, 6])
@pytest.mark.parametrize("sigma", [0.4, 1.0])
def test_jitter_moves_events_as_if_one_by_one(sigma: float, steps: int) -> None:
    events = 100_000
    for start in {0, steps // 2, steps - 1}:
        counts_BTCHW = np.zeros((1, steps, 2, 1, 2), np.int32)
        counts_BTCHW[0, start, 1, 0, 1] = events
        after = _augmented(counts_BTCHW, time_jitter=sigma)
        landed_N = (start + _shifts(sigma, events)).clip(0, steps - 1)
        expected_T = np.bincount(landed_N, minlength=steps) / events
        np.testing.assert_allclose(after[0, :, 1, 0, 1] / events, expected_T, atol=0.01)
        assert after.sum() == events
        assert after[0, :, 1, 0, 1].sum() == events


def test_jitter_keeps_every_event_at_its_pixel_and_polarity() -> None:
    counts_BTCHW = np.full((3, 5, 2, 4, 4), 255, np.uint8)
    after = _augmented(counts_BTCHW, time_jitter=1.0)
    np.testing.assert_array_equal(after.sum(1), counts_BTCHW.sum(1, dtype=int))
    assert after.max() > 255  # more than the input's type holds


def test_a_seed_gives_the_same_counts_and_each_sample_its_own() -> None:
    counts_BTCHW = np.repeat(_counts(1), 6, 0)
    first = augment_counts(counts_BTCHW, ALL_COUNTS, np.random.default_rng(3))
    again = augment_counts(counts_BTCHW, ALL_COUNTS, np.random.default_rng(3))
    other = augment_counts(counts_BTCHW, ALL_COUNTS, np.random.default_rng(4))
    np.testing.assert_array_equal(first, again)
    assert len({x.tobytes() for x in (*first, *other)}) == 12
    # A position's draws do not depend on what lies at the others.
    counts_BTCHW[:3] = 0
    alone = augment_counts(counts_BTCHW, ALL_COUNTS, np.random.default_rng(3))
    np.testing.assert_array_equal(alone[3:], first[3:])


# Geometry ----------------------------------------------------------------------------------------


def _turn(*degrees: float, size: tuple[int, int] = (8, 8)) -> Geometry:
    return Geometry(size, 0, None, None, np.array(degrees))


def test_samples_are_handed_on_uncopied_where_nothing_is_switched_on() -> None:
    x_BCHW = torch.rand(5, 2, 6, 6)
    assert draw_geometry(ALL_COUNTS, (6, 6), 5, np.random.default_rng(0))(x_BCHW) is x_BCHW


def test_a_flip_is_exact_and_half_of_the_samples() -> None:
    x_BTCHW = torch.arange(200 * 3 * 2 * 4 * 5, dtype=torch.float32).view(200, 3, 2, 4, 5)
    draw = draw_geometry(AugmentConfig(flip=True), (4, 5), 200, np.random.default_rng(0))
    kinds = Counter()
    for before, after in zip(x_BTCHW, draw(x_BTCHW), strict=True):
        same, mirrored = torch.equal(after, before), torch.equal(after, before.flip(-1))
        assert same != mirrored
        kinds[mirrored] += 1
    assert 70 < kinds[True] < 130


def test_a_crop_moves_a_sample_as_a_whole_and_fills_with_zeros() -> None:
    x_BTCHW = torch.from_numpy(_counts(60)).float() + 1  # no zero but the padding
    draw = draw_geometry(AugmentConfig(crop=2), (6, 6), 60, np.random.default_rng(0))
    after = draw(x_BTCHW)
    assert draw.shift_B2 is not None
    corner_B2 = np.round(draw.shift_B2 * 2).astype(int)
    for x_TCHW, y_TCHW, (down, right) in zip(x_BTCHW, after, corner_B2, strict=True):
        expected = torch.zeros_like(x_TCHW)
        for row in range(max(0, -down), min(6, 6 - down)):
            for column in range(max(0, -right), min(6, 6 - right)):
                expected[..., row, column] = x_TCHW[..., row + down, column + right]
        assert torch.equal(y_TCHW, expected)
    assert set(corner_B2[:, 0]) == set(corner_B2[:, 1]) == {-2, -1, 0, 1, 2}


def test_a_quarter_turn_is_exact_and_counterclockwise() -> None:
    x_BTCHW = torch.rand(1, 3, 2, 8, 8).expand(4, -1, -1, -1, -1)
    turned = _turn(90, -90, 180, 0)(x_BTCHW)
    for turns, after in zip((1, -1, 2, 0), turned, strict=True):
        torch.testing.assert_close(after, x_BTCHW[0].rot90(turns, (-2, -1)), atol=1e-5, rtol=0)


def test_a_turned_picture_is_zero_outside() -> None:
    turned = _turn(45, size=(16, 16))(torch.ones(1, 1, 16, 16))[0, 0]
    assert turned[0, 0] == turned[0, -1] == turned[-1, 0] == turned[-1, -1] == 0
    torch.testing.assert_close(turned[5:11, 5:11], torch.ones(6, 6))
    # A regular octagon of a side's 16 pixels.
    assert turned.sum() == pytest.approx(2 * (2**0.5 - 1) * 256, rel=0.02)


def _blob(size: tuple[int, int], y: float, x: float) -> torch.Tensor:
    """A soft spot at (y, x) in coordinates that are ±1 at the picture's borders."""
    rows, columns = ((torch.arange(side) + 0.5) / side * 2 - 1 for side in size)
    return torch.exp(-((rows[:, None] - y) ** 2 + (columns - x) ** 2) / 0.02)


def _place(x_HW: torch.Tensor) -> tuple[float, float]:
    """Centre of mass in coordinates that are ±1 at the picture's borders."""
    rows, columns = ((torch.arange(side) + 0.5) / side * 2 - 1 for side in x_HW.shape)
    total = x_HW.sum()
    return float((x_HW.sum(1) * rows).sum() / total), float((x_HW.sum(0) * columns).sum() / total)


@pytest.mark.parametrize("degrees", [-40.0, 12.0, 30.0])
def test_a_rotation_is_rigid_in_the_networks_input(degrees: float) -> None:
    height, width = size = (24, 40)
    y, x = _place(_turn(degrees, size=size)(_blob(size, -0.2, 0.4)[None, None])[0, 0])
    before = complex(0.4 * width, 0.2 * height)  # y points up here
    after = before * np.exp(1j * np.deg2rad(degrees))
    assert x * width == pytest.approx(after.real, abs=0.3)
    assert -y * height == pytest.approx(after.imag, abs=0.3)


@pytest.mark.parametrize("network", [(32, 32), (24, 40)])
@pytest.mark.parametrize("photo", [(96, 96), (32, 32), (120, 80)])
def test_views_of_any_size_move_alike(network: tuple[int, int], photo: tuple[int, int]) -> None:
    draw = draw_geometry(ALL_MOVES, network, 16, np.random.default_rng(0))
    frames_BTCHW = draw(_blob(network, -0.2, 0.35).expand(16, 5, 2, -1, -1))
    photo_B3HW = draw(_blob(photo, -0.2, 0.35).expand(16, 3, -1, -1))
    places = [_place(x_TCHW[4, 1]) for x_TCHW in frames_BTCHW]
    for place, x_3HW in zip(places, photo_B3HW, strict=True):
        # To within half a pixel of either, to which crops are rounded.
        tolerance = 1 / min(network) + 1 / min(photo)
        assert place == pytest.approx(_place(x_3HW[2]), abs=tolerance)
    assert len({(round(y, 2), round(x, 2)) for y, x in places}) == 16
    assert min(x for _, x in places) < 0 < max(x for _, x in places)


def test_draws_are_uniform_and_each_sample_has_its_own() -> None:
    draw = draw_geometry(ALL_MOVES, (8, 8), 500, np.random.default_rng(0))
    assert draw.shift_B2 is not None
    assert draw.flip_B is not None
    assert draw.degrees_B is not None
    for values, most in ((draw.shift_B2[:, 0], 1), (draw.shift_B2[:, 1], 1), (draw.degrees_B, 25)):
        assert len(np.unique(values)) == 500
        assert -most <= values.min() < -0.97 * most
        assert 0.97 * most < values.max() <= most
        assert np.histogram(values, 5, (-most, most))[0].min() > 70
    pairs = np.corrcoef([*draw.shift_B2.T, draw.flip_B, draw.degrees_B])
    assert np.abs(pairs - np.eye(4)).max() < 0.15


def test_a_draw_depends_on_seed_and_position_alone() -> None:
    def drawn(config: AugmentConfig, batch: int, seed: int = 0) -> Geometry:
        return draw_geometry(config, (8, 8), batch, np.random.default_rng(seed))

    first = drawn(ALL_MOVES, 9)
    shorter, rotated = drawn(ALL_MOVES, 4), drawn(AugmentConfig(rotate=25), 9)
    for name in ("shift_B2", "flip_B", "degrees_B"):
        np.testing.assert_array_equal(getattr(shorter, name), getattr(first, name)[:4])
    np.testing.assert_array_equal(rotated.degrees_B, first.degrees_B)
    assert rotated.shift_B2 is rotated.flip_B is None
    other = drawn(ALL_MOVES, 9, seed=1)
    assert not np.isclose(other.degrees_B, first.degrees_B).any()
