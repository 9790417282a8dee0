import colorsys

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from spikebridge.ckd.streams import (
    photo_sequence,
    replace_samples,
    replace_steps,
)


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


def sequences(steps=3, batch=8, size=(4, 5)):
    shape = (steps, batch, 2, *size)
    return torch.rand(shape, generator=seeded(1)), torch.randint(0, 9, shape).float() + 10


def test_photo_becomes_its_hsv_value_repeated_over_polarity_and_time():
    photo_B3HW = torch.rand(2, 3, 4, 5, generator=seeded())
    x_TBCHW = photo_sequence(photo_B3HW, 6)
    assert x_TBCHW.shape == (6, 2, 2, 4, 5)
    for b, row, column in [(0, 0, 0), (1, 3, 4), (0, 2, 1)]:
        value = colorsys.rgb_to_hsv(*photo_B3HW[b, :, row, column].tolist())[2]
        assert (x_TBCHW[:, b, :, row, column] == value).all()


def test_a_grey_photo_is_its_own_value():
    photo_B1HW = torch.rand(2, 1, 4, 5, generator=seeded())
    x_TBCHW = photo_sequence(photo_B1HW, 3)
    assert torch.equal(x_TBCHW, photo_B1HW.expand(3, 2, 2, 4, 5))


def test_a_photo_of_another_size_becomes_the_mean_of_its_value_over_areas():
    photo_B3HW = torch.rand(2, 3, 8, 6, generator=seeded())
    x_TBCHW = photo_sequence(photo_B3HW, 2, (4, 3))
    value_BHW = photo_B3HW.amax(1).unflatten(1, (4, 2)).unflatten(3, (3, 2)).mean((2, 4))
    torch.testing.assert_close(x_TBCHW, value_BHW.expand(2, 2, 2, 4, 3).transpose(1, 2))
    same_TBCHW = photo_sequence(photo_B3HW, 2, (8, 6))
    assert torch.equal(same_TBCHW, photo_sequence(photo_B3HW, 2))


def test_replaced_rows_are_the_recordings_and_the_others_the_source():
    source_TBCHW, dvs_TBCHW = sequences(batch=64)
    batch = replace_samples(source_TBCHW, dvs_TBCHW, 0.5, seeded())
    assert 0 < batch.replaced_TB[0].sum() < 64
    for b, replaced in enumerate(batch.replaced_TB[0]):
        expected = dvs_TBCHW if replaced else source_TBCHW
        assert torch.equal(batch.frames_TBCHW[:, b], expected[:, b])


def test_source_that_is_a_view_and_odd_values_pass_bit_for_bit():
    source_TBCHW = photo_sequence(torch.rand(8, 3, 4, 5, generator=seeded()), 3)
    dvs_TBCHW = torch.full((3, 8, 2, 4, 5), -0.0)
    dvs_TBCHW[0, :, 0, 0, 0], dvs_TBCHW[1, :, 1, 2, 3] = torch.inf, 1e-42
    kept = replace_samples(source_TBCHW, dvs_TBCHW, 0.0, seeded()).frames_TBCHW
    replaced = replace_samples(source_TBCHW, dvs_TBCHW, 1.0, seeded()).frames_TBCHW
    assert torch.equal(kept.view(torch.int32), source_TBCHW.contiguous().view(torch.int32))
    assert torch.equal(replaced.view(torch.int32), dvs_TBCHW.view(torch.int32))


@pytest.mark.parametrize("probability", [0.0, 0.027, 0.3, 0.5, 0.9, 1.0])
def test_the_share_of_replaced_samples_follows_the_probability(probability):
    source_TBCHW, dvs_TBCHW = sequences(steps=1, batch=20_000, size=(1, 1))
    replaced_B = replace_samples(source_TBCHW, dvs_TBCHW, probability, seeded()).replaced_TB[0]
    deviation = (probability * (1 - probability) / 20_000) ** 0.5
    assert abs(replaced_B.float().mean().item() - probability) <= 4 * deviation + 1e-9


def test_samples_are_replaced_independently():
    source_TBCHW, dvs_TBCHW = sequences(steps=1, batch=2, size=(1, 1))
    generator = seeded()
    draws = torch.stack(
        [
            replace_samples(source_TBCHW, dvs_TBCHW, 0.5, generator).replaced_TB[0]
            for _ in range(2000)
        ]
    )
    # Each of the four outcomes has probability 1/4; 4.5 deviations of its share are 0.044.
    for outcome in ([True, True], [True, False], [False, True]):
        share = (draws == torch.tensor(outcome)).all(1).float().mean().item()
        assert share == pytest.approx(0.25, abs=0.044)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**31), probability=st.floats(0, 1))
def test_the_same_seed_draws_the_same(seed, probability):
    source_TBCHW, dvs_TBCHW = sequences(steps=1, size=(1, 1))
    first, second = (
        replace_samples(source_TBCHW, dvs_TBCHW, probability, seeded(seed)) for _ in range(2)
    )
    assert torch.equal(first.replaced_TB[0], second.replaced_TB[0])
    assert torch.equal(first.frames_TBCHW, second.frames_TBCHW)


def test_draws_come_from_the_given_generator_alone():
    source_TBCHW, dvs_TBCHW = sequences(batch=64)
    before = torch.get_rng_state()
    first = replace_samples(source_TBCHW, dvs_TBCHW, 0.5, generator := seeded())
    assert torch.equal(torch.get_rng_state(), before)
    second = replace_samples(source_TBCHW, dvs_TBCHW, 0.5, generator)
    assert not torch.equal(first.replaced_TB[0], second.replaced_TB[0])


def test_a_higher_probability_only_adds_replacements():
    source_TBCHW, dvs_TBCHW = sequences(batch=64)
    few = replace_samples(source_TBCHW, dvs_TBCHW, 0.2, seeded()).replaced_TB[0]
    many = replace_samples(source_TBCHW, dvs_TBCHW, 0.7, seeded()).replaced_TB[0]
    assert (few <= many).all()
    assert few.sum() < many.sum()


@pytest.mark.parametrize("shape", [(2, 8, 2, 4, 5), (3, 7, 2, 4, 5), (3, 8, 2, 5, 4)])
@pytest.mark.parametrize("replace", [replace_samples, replace_steps])
def test_different_shapes_are_refused(shape, replace):
    _, dvs_TBCHW = sequences()
    with pytest.raises(ValueError, match="shapes differ"):
        replace(torch.zeros(shape), dvs_TBCHW, 0.5, seeded())


def test_mixed_steps_are_the_recordings_and_the_others_the_source():
    source_TBCHW, dvs_TBCHW = sequences(batch=64)
    batch = replace_steps(source_TBCHW, dvs_TBCHW, 0.5, seeded())
    for t, b in np.ndindex(3, 64):
        expected = dvs_TBCHW if batch.replaced_TB[t, b] else source_TBCHW
        assert torch.equal(batch.frames_TBCHW[t, b], expected[t, b])
    assert set(batch.replaced_TB.sum(0).tolist()) == {0, 1, 2, 3}


@pytest.mark.parametrize("probability", [0.0, 0.027, 0.5, 1.0])
def test_the_share_of_mixed_steps_follows_the_probability(probability):
    source_TBCHW, dvs_TBCHW = sequences(steps=10, batch=2_000, size=(1, 1))
    share_B = replace_steps(source_TBCHW, dvs_TBCHW, probability, seeded()).share_B
    deviation = share_B.std().item() / 2_000**0.5
    assert abs(share_B.mean().item() - probability) <= 4 * deviation + 1e-9


def test_steps_are_mixed_independently_of_each_other():
    source_TBCHW, dvs_TBCHW = sequences(steps=2, batch=8_000, size=(1, 1))
    replaced_TB = replace_steps(source_TBCHW, dvs_TBCHW, 0.3, seeded()).replaced_TB
    both = (replaced_TB[0] & replaced_TB[1]).float().mean().item()
    # 4.5 deviations of a share of 0.09 among 8,000.
    assert both == pytest.approx(0.09, abs=0.0145)


def test_a_samples_share_is_that_of_its_replaced_steps():
    source_TBCHW, dvs_TBCHW = sequences(batch=64)
    mixed = replace_steps(source_TBCHW, dvs_TBCHW, 0.5, seeded())
    for b, share in enumerate(mixed.share_B.tolist()):
        assert share == pytest.approx(mixed.replaced_TB[:, b].tolist().count(True) / 3)
    whole = replace_samples(source_TBCHW, dvs_TBCHW, 0.5, seeded())
    assert set(whole.share_B.tolist()) == {0.0, 1.0}
    assert whole.replaced_TB.shape == (3, 64)
