"""The hybrid stream: photos that turn into same-class events as training goes on."""

from dataclasses import dataclass

import torch
from torch import Tensor

from spikebridge.transfer import to_device


@dataclass(frozen=True)
class HybridBatch:
    """One batch of the hybrid stream."""

    frames_TBCHW: Tensor
    """The stream's input: a replaced sample's is its DVS sample's, bit for bit."""
    replaced_B: Tensor
    """True where the sample was replaced; on the CPU, where it is drawn."""


def photo_sequence(photo_BCHW: Tensor, time_steps: int) -> Tensor:
    """Static photos as input of a two-polarity network over T steps.

    RGB becomes the HSV value channel max(R, G, B) (KT), repeated over polarities and T.

    Args:
        photo_BCHW: Photos in [0, 1], with 3 (RGB) or 1 channels.
        time_steps: T.

    Returns:
        x_TBCHW with C = 2, a view without copies over T.
    """
    value_B1HW = photo_BCHW.amax(1, keepdim=True)
    return value_B1HW.expand(-1, 2, -1, -1).expand(time_steps, -1, -1, -1, -1)


def replace_samples(
    source_TBCHW: Tensor,
    dvs_TBCHW: Tensor,
    probability: float,
    generator: torch.Generator,
) -> HybridBatch:
    """Semantically similar replacement (METHOD.md, streams).

    Every sample is replaced, independently with ``probability``, by the DVS sample at its
    position, which has the same class.

    Args:
        source_TBCHW: The source as a sequence: a static photo or a simulated recording.
        dvs_TBCHW: The DVS stream's samples of the same shape.
        probability: P(u) in [0, 1].
        generator: CPU generator that the draws come from.

    Raises:
        ValueError: the shapes differ.
    """
    if source_TBCHW.shape != dvs_TBCHW.shape:
        raise ValueError(
            f"source {tuple(source_TBCHW.shape)} and DVS {tuple(dvs_TBCHW.shape)} shapes differ"
        )
    draws_B = torch.rand(dvs_TBCHW.shape[1], generator=generator)
    replaced_B = draws_B < probability
    mask_B111 = to_device(replaced_B, dvs_TBCHW.device)[:, None, None, None]
    frames_TBCHW = torch.where(mask_B111, dvs_TBCHW, source_TBCHW)
    return HybridBatch(frames_TBCHW, replaced_B)
