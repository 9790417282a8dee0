"""Likeness of event counts: what it is blind to, where it is highest, and how motions turn."""

import pytest
import torch

from spikebridge.data.simulation.likeness import likeness, likeness_by_shift, turns


def counts(seed: int, batch: int = 3) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 9, (batch, 4, 2, 8, 10), generator=generator).float()


def test_it_is_blind_to_the_number_of_events_of_each_polarity() -> None:
    x_BTCHW = counts(0)
    fewer_BTCHW = x_BTCHW * torch.tensor([0.2, 3.0]).view(2, 1, 1)
    assert likeness(x_BTCHW, fewer_BTCHW) == pytest.approx(1)
    assert likeness(x_BTCHW, 9 - x_BTCHW) == pytest.approx(-1)
    assert abs(likeness(x_BTCHW, counts(1))) < 0.2
    assert likeness(x_BTCHW, torch.zeros_like(x_BTCHW)) == 0


def test_the_shift_that_brings_the_second_over_the_first_is_the_most_like() -> None:
    x_BTCHW = counts(0)
    alike_HW = likeness_by_shift(x_BTCHW.roll((2, -3), (3, 4)), x_BTCHW)
    assert divmod(int(alike_HW.argmax()), 10) == (2, 10 - 3)
    assert float(alike_HW.max()) == pytest.approx(1, abs=1e-5)
    still = likeness(x_BTCHW.roll((2, -3), (3, 4)), x_BTCHW)
    assert float(alike_HW[0, 0]) == pytest.approx(still, abs=1e-5)


def test_what_goes_on_is_alike_and_what_comes_back_is_the_contrary() -> None:
    off_BHW = counts(0)[:, 0, 0]
    x_B2HW = torch.stack([off_BHW, off_BHW.flip(2)], 1)
    there_and_back = torch.stack([x_B2HW, x_B2HW, x_B2HW.flip(1)], 1)
    wanted = torch.tensor([[1.0, 1, -1], [1, 1, -1], [-1, -1, 1]])
    torch.testing.assert_close(turns(there_and_back), wanted)
    assert not turns(torch.zeros(2, 3, 2, 4, 4)).any()
