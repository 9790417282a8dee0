"""How alike recordings and simulations are: where their events lie, and how the motion turns."""

import torch
from torch import Tensor


def likeness(first_BTCHW: Tensor, second_BTCHW: Tensor) -> float:
    """Correlation of event counts over time and pixels: mean over B pairs and both polarities."""
    return float((_scaled(first_BTCHW) * _scaled(second_BTCHW)).sum((1, 3, 4)).mean())


def likeness_by_shift(first_BTCHW: Tensor, second_BTCHW: Tensor) -> Tensor:
    """Likeness where the second is moved down and right by each number of cells, likeness_HW.

    It comes round at the border: the last row is a move up by one.
    """
    first, second = (torch.fft.rfft2(_scaled(x)) for x in (first_BTCHW, second_BTCHW))
    alike_BTCHW = torch.fft.irfft2(first * second.conj(), s=first_BTCHW.shape[3:])
    return alike_BTCHW.sum(1).mean((0, 1))


def turns(counts_BTCHW: Tensor) -> Tensor:
    """How alike what changes at two times is, ON less OFF events: turns_TT, mean over recordings.

    A sweep goes on, a closed curve comes back: that tells motions whose paths differ from recording
    to recording.
    """
    total_BTCHW = counts_BTCHW / counts_BTCHW.sum((1, 3, 4), keepdim=True).clamp(min=1)
    change_BTN = (total_BTCHW[:, :, 1] - total_BTCHW[:, :, 0]).flatten(2)
    change_BTN = change_BTN - change_BTN.mean(2, keepdim=True)
    change_BTN = change_BTN / change_BTN.norm(dim=2, keepdim=True).clamp(min=1e-9)
    return (change_BTN @ change_BTN.mT).mean(0)


def _scaled(counts_BTCHW: Tensor) -> Tensor:
    """With mean 0 and length 1, each polarity."""
    x_BTCHW = counts_BTCHW - counts_BTCHW.mean((1, 3, 4), keepdim=True)
    length = x_BTCHW.square().sum((1, 3, 4), keepdim=True).sqrt()
    return x_BTCHW / length.clamp(min=1e-9)
