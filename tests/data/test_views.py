"""Views of photos: what a crop, turn and tone are, held against arithmetic on ramps."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from spikebridge.data.feed.augment import Geometry
from spikebridge.data.feed.views import Views, draw_views
from spikebridge.data.settings import PhotoViewConfig

SIDE, STEP = 64, 4
ALL = PhotoViewConfig(crop=0.3, flip=True, rotate=20, contrast=0.5, gamma=0.5)


def ramps(count):
    """Photos whose red is each pixel's column, green its row, times STEP."""
    row_HW, column_HW = np.mgrid[:SIDE, :SIDE] * STEP
    one = np.stack([column_HW, row_HW, np.zeros_like(row_HW)]).astype(np.uint8)
    return torch.from_numpy(one).expand(count, -1, -1, -1).contiguous()


def noise(count, seed=0):
    random = torch.Generator().manual_seed(seed)
    return torch.randint(256, (count, 3, 12, 12), dtype=torch.uint8, generator=random)


def drawn(config, count, seed=0, size=(SIDE, SIDE)) -> Views:
    return draw_views(config, size, count, np.arange(count), np.random.default_rng(seed))


def maps(config, count, inner=4):
    """Affine maps that views of ramps show, from ±1 coordinates to such: map_B23."""
    view_B3HW = drawn(config, count)(ramps(count)).double()
    place_N = (torch.arange(SIDE).double() + 0.5) * 2 / SIDE - 1
    y_HW, x_HW = torch.meshgrid(place_N, place_N, indexing="ij")
    inside = slice(inner, SIDE - inner)
    at_N3 = torch.stack([x_HW, y_HW, torch.ones_like(x_HW)], -1)[inside, inside].reshape(-1, 3)
    found = []
    for view_3HW in view_B3HW:
        source_N2 = view_3HW[:2, inside, inside].reshape(2, -1).T * 255 / STEP
        shown_N2 = (source_N2 + 0.5) * 2 / SIDE - 1
        map_32 = torch.linalg.lstsq(at_N3, shown_N2).solution
        torch.testing.assert_close(at_N3 @ map_32, shown_N2, atol=1e-6, rtol=0)
        found.append(map_32.T.numpy())
    return np.stack(found)


def test_what_is_off_leaves_photos_as_they_are():
    photo_B3HW = noise(3)
    views = drawn(PhotoViewConfig(mixup=True), 3)
    assert views == Views(None, None)
    assert torch.equal(views(photo_B3HW), photo_B3HW / 255)


def test_crops_lie_within_the_photo_and_have_their_share_of_it():
    map_B23 = maps(PhotoViewConfig(crop=0.4), 200)
    side_B2 = map_B23[:, [0, 1], [0, 1]]
    assert np.abs(map_B23[:, [0, 1], [1, 0]]).max() < 1e-5
    area_B, ratio_B = side_B2.prod(1), side_B2[:, 0] / side_B2[:, 1]
    assert 0.4 - 1e-5 < area_B.min() < 0.42
    assert 0.98 < area_B.max() < 1 + 1e-5
    assert area_B.mean() == pytest.approx(0.7, abs=0.03)  # uniform
    assert 3 / 4 - 1e-5 < ratio_B.min() < 0.78
    assert 1.29 < ratio_B.max() < 4 / 3 + 1e-5
    edge_B2 = side_B2 + np.abs(map_B23[:, :, 2])
    assert edge_B2.max() < 1 + 1e-5
    assert np.abs(map_B23[:, :, 2]).max() > 0.2
    assert np.abs(map_B23[:, :, 2].mean(0)).max() < 0.05


def test_photos_are_flipped_half_the_time():
    map_B23 = maps(PhotoViewConfig(flip=True), 200)
    flipped_B = map_B23[:, 0, 0] < 0
    assert 0.4 < flipped_B.mean() < 0.6
    expected = np.zeros((200, 2, 3))
    expected[:, 0, 0], expected[:, 1, 1] = np.where(flipped_B, -1, 1), 1
    np.testing.assert_allclose(map_B23, expected, atol=1e-5)


def test_photos_turn_rigidly_about_their_centre():
    map_B23 = maps(PhotoViewConfig(rotate=25), 100, inner=16)
    angle_B = np.rad2deg(np.arctan2(map_B23[:, 1, 0], map_B23[:, 0, 0]))
    assert -25 < angle_B.min() < -23
    assert 23 < angle_B.max() < 25
    cos_B, sin_B, zero_B = np.cos(np.deg2rad(angle_B)), np.sin(np.deg2rad(angle_B)), np.zeros(100)
    expected = np.stack([cos_B, -sin_B, zero_B, sin_B, cos_B, zero_B], 1).reshape(-1, 2, 3)
    np.testing.assert_allclose(map_B23, expected, atol=1e-5)


def test_a_turn_is_the_augmentations_also_where_the_networks_input_is_no_square():
    photo_B3HW, size = noise(6), (8, 20)
    view_B3HW = drawn(PhotoViewConfig(rotate=30), 6, size=size)(photo_B3HW)
    degrees_B = 30 * (2 * np.random.default_rng(0).random((6, 8))[:, 5] - 1)
    moves = Geometry(size, 0, None, None, degrees_B).moves(12, 12, repeat=True)
    torch.testing.assert_close(view_B3HW, moves(photo_B3HW / 255))


def test_beyond_the_photo_its_edge_goes_on():
    white = torch.full((8, 3, 12, 12), 255, dtype=torch.uint8)
    view_B3HW = drawn(replace(ALL, contrast=0, gamma=0), 8)(white)
    torch.testing.assert_close(view_B3HW, torch.ones(8, 3, 12, 12))


def test_contrast_is_about_the_photos_mean_and_gamma_an_exponent():
    photo_B3HW = noise(200)
    views = drawn(PhotoViewConfig(contrast=0.6, gamma=0.3), 200)
    assert views.source_B23 is None
    assert views.tone_B2 is not None
    tone_B2 = views.tone_B2.double().numpy()
    for log_B, widest in ((np.log(tone_B2[:, 0]), 0.6), (np.log(tone_B2[:, 1]), 0.3)):
        assert -widest - 1e-6 < log_B.min() < -0.9 * widest
        assert 0.9 * widest < log_B.max() < widest + 1e-6
        assert abs(log_B.mean()) < 0.1 * widest
    x_BN = photo_B3HW.double().numpy().reshape(200, -1) / 255
    mean_B1 = x_BN.mean(1, keepdims=True)
    expected = (mean_B1 + tone_B2[:, :1] * (x_BN - mean_B1)).clip(0, 1) ** tone_B2[:, 1:]
    np.testing.assert_allclose(views(photo_B3HW).reshape(200, -1), expected, atol=1e-5)


@pytest.mark.parametrize("rows", [[3], [6, 0], [1, 2, 3, 4, 5]])
def test_a_view_does_not_depend_on_its_company(rows):
    photo_B3HW = noise(7)
    whole_B3HW = drawn(ALL, 7)(photo_B3HW)
    few = draw_views(ALL, (SIDE, SIDE), 7, np.array(rows), np.random.default_rng(0))
    assert torch.equal(few(photo_B3HW[rows]), whole_B3HW[rows])
    assert len({view.numpy().tobytes() for view in whole_B3HW}) == 7


@pytest.mark.parametrize("off", [{"crop": 1.0}, {"flip": False}, {"rotate": 0.0}, {"gamma": 0.0}])
def test_draws_do_not_depend_on_what_else_is_switched_on(off):
    one, other = drawn(ALL, 9).tone_B2, drawn(replace(ALL, **off), 9).tone_B2
    assert one is not None
    assert other is not None
    assert torch.equal(one[:, 0], other[:, 0])


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("crop", 0.0),
        ("crop", 1.1),
        ("crop", math.nan),
        ("rotate", -1.0),
        ("rotate", 181.0),
        ("contrast", -0.1),
        ("contrast", 2.1),
        ("gamma", -0.1),
        ("gamma", 2.1),
    ],
)
def test_settings_out_of_range_are_named(setting, value):
    with pytest.raises(ValueError, match=rf"^data\.photo_views\.{setting} must [^\n]*$"):
        PhotoViewConfig(**{setting: value})


@pytest.mark.parametrize("one", ["crop", "flip", "rotate", "contrast", "gamma", "mixup"])
def test_any_of_them_is_given(one):
    assert not PhotoViewConfig().given
    assert PhotoViewConfig(**{one: True if one in ("flip", "mixup") else 0.5}).given
