"""The paths: what they are, and that they stay where they should."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spikebridge.data.simulation.motion import Motion, motion_path, saccade_path


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


def test_a_smooth_path_rests_at_the_corners_and_is_as_high_as_asked() -> None:
    path_N2 = saccade_path(301, 5.0, 0.8, "smooth")
    np.testing.assert_allclose(
        path_N2[[0, 100, 200, 300]], [(0, 0), (2.5, 4), (5, 0), (0, 0)], atol=1e-9
    )
    np.testing.assert_allclose(path_N2[[50, 150, 250]], [(1.25, 2), (3.75, 2), (2.5, 0)], atol=1e-9)
    speed_N = np.linalg.norm(np.diff(path_N2, axis=0), axis=1)
    for corner in (0, 100, 200, 299):
        assert speed_N[corner] < 0.01 * speed_N.max()
    # A raised cosine is twice as fast as the mean in the middle.
    assert speed_N[250] == pytest.approx(2 * 5.0 / 100, rel=1e-3)
    pan_N2 = motion_path("pan", 201, 6.0, 1, speed="smooth")
    ends_N2 = motion_path("pan", 201, 6.0, 1)[[0, 100, -1]]
    np.testing.assert_allclose(pan_N2[[0, 100, -1]], ends_N2, atol=1e-9)
    assert np.linalg.norm(pan_N2[1] - pan_N2[0]) < 1e-4


# Motions -----------------------------------------------------------------------------------------

MOTIONS: tuple[Motion, ...] = ("saccade", "pan", "random")


@given(st.sampled_from(MOTIONS), st.integers(4, 200), st.floats(0, 50), st.integers(0, 2**32 - 1))
def test_every_motion_stays_within_half_its_amplitude_of_the_middle(
    motion: Motion, frames: int, amplitude: float, seed: int
) -> None:
    path_N2 = motion_path(motion, frames, amplitude, seed)
    assert path_N2.shape == (frames, 2)
    assert np.abs(path_N2).max() <= amplitude / 2 * (1 + 1e-9)
    np.testing.assert_array_equal(path_N2, motion_path(motion, frames, amplitude, seed))


def test_the_saccades_are_the_same_whatever_the_seed_and_lie_about_the_middle() -> None:
    path_N2 = motion_path("saccade", 61, 8.0, 0)
    np.testing.assert_array_equal(path_N2, motion_path("saccade", 61, 8.0, 1))
    np.testing.assert_allclose(path_N2 - path_N2[0], saccade_path(61, 8.0), atol=1e-12)
    np.testing.assert_allclose(path_N2.min(0), -path_N2.max(0))


def test_a_pan_is_one_straight_sweep_at_constant_speed_in_any_direction() -> None:
    octants = set()
    for seed in range(60):
        path_N2 = motion_path("pan", 21, 6.0, seed)
        steps = np.diff(path_N2, axis=0)
        np.testing.assert_allclose(steps, np.broadcast_to(steps[0], steps.shape), atol=1e-12)
        assert np.linalg.norm(path_N2[-1] - path_N2[0]) == pytest.approx(6)
        np.testing.assert_allclose(path_N2[10], 0, atol=1e-12)
        octants.add(int(np.arctan2(steps[0, 1], steps[0, 0]) // (np.pi / 4)))
    assert len(octants) == 8


def test_a_random_path_is_smooth_bends_and_differs_from_seed_to_seed() -> None:
    paths = [motion_path("random", 241, 6.0, seed) for seed in range(20)]
    for path_N2 in paths:
        assert np.linalg.norm(path_N2, axis=1).max() == pytest.approx(3)
        steps = np.diff(path_N2, axis=0)
        # Three harmonics: per step the direction turns little, over the whole path all around.
        assert np.abs(np.diff(steps, axis=0)).max() < 0.15 * np.abs(steps).max()
        assert all((steps[:, axis] > 0).any() and (steps[:, axis] < 0).any() for axis in (0, 1))
    assert len({path_N2.tobytes() for path_N2 in paths}) == 20


def test_an_unknown_motion_is_refused() -> None:
    with pytest.raises(ValueError, match="'sweep'.*saccade, pan, random"):
        motion_path("sweep", 10, 5.0, 0)  # pyright: ignore[reportArgumentType]
