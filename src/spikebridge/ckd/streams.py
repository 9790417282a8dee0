"""The hybrid stream: photos that turn into same-class events as training goes on."""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.base.devices import to_device
from spikebridge.data.feed.batches import BatchPart


@dataclass(frozen=True)
class HybridBatch:
    """One batch of the hybrid stream."""

    frames_TBCHW: Tensor
    """The stream's input: a replaced frame is its DVS sample's, bit for bit."""
    replaced_TB: Tensor
    """True where the frame was replaced; where it was given, the CPU for one that was drawn."""

    @property
    def share_B(self) -> Tensor:
        """Share of each sample's time steps that were replaced."""
        return self.replaced_TB.float().mean(0)


def photo_sequence(
    photo_BCHW: Tensor, time_steps: int, size: tuple[int, int] | None = None
) -> Tensor:
    """Static photos as input of a two-polarity network over T steps.

    RGB becomes the HSV value channel max(R, G, B) (KT; equation 3), repeated over polarities and T.

    Args:
        photo_BCHW: Photos in [0, 1], with 3 (RGB) or 1 channels.
        time_steps: T.
        size: Height and width of the network's input, to which the mean over areas brings the
            value; None leaves the photos' own.

    Returns:
        x_TBCHW with C = 2, a view without copies over T.
    """
    value_B1HW = photo_BCHW.amax(1, keepdim=True)
    if size is not None and value_B1HW.shape[-2:] != size:
        value_B1HW = F.interpolate(value_B1HW, size, mode="area")
    return value_B1HW.expand(-1, 2, -1, -1).expand(time_steps, -1, -1, -1, -1)


def replace_samples(
    source_TBCHW: Tensor,
    dvs_TBCHW: Tensor,
    probability: float,
    generator: torch.Generator,
    part: BatchPart | None = None,
) -> HybridBatch:
    """Semantically similar replacement (CKD, KT; equation 4).

    Every sample is replaced, independently with ``probability``, by the DVS sample at its
    position, which has the same class.

    Args:
        source_TBCHW: The source as a sequence: a static photo or a simulated recording.
        dvs_TBCHW: The DVS stream's samples of the same shape.
        probability: P(u) in [0, 1].
        generator: CPU generator that the draws come from.
        part: Which part of the batch this is; None where it is whole.

    Raises:
        ValueError: the shapes differ.
    """
    steps, batch = dvs_TBCHW.shape[:2]
    return replaced(
        source_TBCHW, dvs_TBCHW, draw_samples(steps, batch, probability, generator, part)
    )


def replace_steps(
    source_TBCHW: Tensor,
    dvs_TBCHW: Tensor,
    probability: float,
    generator: torch.Generator,
    part: BatchPart | None = None,
) -> HybridBatch:
    """Time-step mixup (TMKT).

    Every time step of every sample is replaced, independently with ``probability``, by that step of
    the DVS sample at its position. Arguments and errors are those of `replace_samples`.
    """
    steps, batch = dvs_TBCHW.shape[:2]
    return replaced(source_TBCHW, dvs_TBCHW, draw_steps(steps, batch, probability, generator, part))


def draw_samples(
    steps: int,
    batch: int,
    probability: float,
    generator: torch.Generator,
    part: BatchPart | None = None,
) -> Tensor:
    """Draw which samples `replace_samples` replaces, replaced_TB on the CPU."""
    replaced_B = _uniform((), batch, generator, part) < probability
    return replaced_B.expand(steps, -1)


def draw_steps(
    steps: int,
    batch: int,
    probability: float,
    generator: torch.Generator,
    part: BatchPart | None = None,
) -> Tensor:
    """Draw which time steps `replace_steps` replaces, replaced_TB on the CPU."""
    return _uniform((steps,), batch, generator, part) < probability


def _uniform(
    leading: tuple[int, ...], batch: int, generator: torch.Generator, part: BatchPart | None
) -> Tensor:
    """Draws of the whole batch in [0, 1), of which those of this part are returned."""
    if part is None:
        return torch.rand(*leading, batch, generator=generator)
    return torch.rand(*leading, part.batch, generator=generator)[..., part.rows]


def replaced(source_TBCHW: Tensor, dvs_TBCHW: Tensor, replaced_TB: Tensor) -> HybridBatch:
    """Put the DVS sample's frames where ``replaced_TB``, on any device, is true.

    Raises:
        ValueError: the shapes differ.
    """
    if source_TBCHW.shape != dvs_TBCHW.shape:
        raise ValueError(
            f"source {tuple(source_TBCHW.shape)} and DVS {tuple(dvs_TBCHW.shape)} shapes differ"
        )
    mask_TB111 = to_device(replaced_TB, dvs_TBCHW.device)[..., None, None, None]
    return HybridBatch(torch.where(mask_TB111, dvs_TBCHW, source_TBCHW), replaced_TB)
