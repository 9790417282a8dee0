"""Training batches: every draw is a function of (seed, step), so that resuming needs no state."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.config import AugmentConfig
from spikebridge.data.frames import network_input
from spikebridge.data.prepared import EventSet, PhotoSet

_ORDER, _DRAWS = 1, 2


@dataclass(frozen=True)
class Batch:
    """One batch of both streams; position b of either has the class label_B[b]."""

    dvs_TBCHW: Tensor
    """Event frames, scaled by `network_input`."""
    label_B: Tensor
    photo_B3HW: Tensor
    """Source photos in [0, 1] at photo size, as the teacher sees them."""
    simulated_TBCHW: Tensor | None
    """Simulated recordings of the same photos, where the set has them."""
    recording_B: np.ndarray
    """Index of each recording in its set."""
    source_B: np.ndarray
    """Index of each photo in its set."""


class PairedBatches:
    """Labelled recordings, each with another random training photo of its class.

    Args:
        events: Labelled training recordings.
        photos: Training photos; every class of ``events`` occurs.
        batch_size: Samples per batch; in one pass at most the set, else recordings repeat.
        batches_per_epoch: None makes an epoch one pass, in batches of nearly equal size.
        augment: Random changes.
        seed: Seed of all draws.
        device: Where the batches go.
    """

    def __init__(
        self,
        events: EventSet,
        photos: PhotoSet,
        *,
        batch_size: int,
        batches_per_epoch: int | None,
        augment: AugmentConfig,
        seed: int,
        device: torch.device,
    ) -> None:
        self.events, self.photos = events, photos
        self.batch_size = batch_size
        passes = -(-len(events.label_N) // batch_size)
        self.one_pass = batches_per_epoch is None
        self.batches_per_epoch = passes if batches_per_epoch is None else batches_per_epoch
        self.augment, self.seed, self.device = augment, seed, device
        self._photos_of = {
            int(label): np.flatnonzero(photos.label_N == label) for label in set(events.label_N)
        }

    def __call__(self, step: int) -> Batch:
        """The batch of a global step."""
        epoch, position = divmod(step, self.batches_per_epoch)
        recording_B = self._epoch_order(epoch)[position]
        label_B = self.events.label_N[recording_B]
        random = np.random.default_rng([self.seed, _DRAWS, step])
        source_B = np.array([random.choice(self._photos_of[int(label)]) for label in label_B])
        frames_BTCHW = torch.from_numpy(self.events.input(recording_B))
        photo_B3HW = torch.from_numpy(self.photos.photos_N3HW[source_B]).float().div_(255)
        dvs_BTCHW = augment_samples(frames_BTCHW, self.augment, self.augment.crop, random)
        photo_draw = random.spawn(1)[0]
        simulated_TBCHW = None
        if self.photos.simulated_NTCHW is not None:
            simulated_BTCHW = torch.from_numpy(
                network_input(self.photos.simulated_NTCHW[source_B], self.events.scale)
            )
            simulated_TBCHW = self._to_device(
                augment_samples(simulated_BTCHW, self.augment, self.augment.crop, _copy(photo_draw))
            ).transpose(0, 1)
        scale = photo_B3HW.shape[-1] / frames_BTCHW.shape[-1]
        photo_B3HW = augment_samples(
            photo_B3HW, self.augment, self.augment.crop * scale, _copy(photo_draw)
        )
        return Batch(
            dvs_TBCHW=self._to_device(dvs_BTCHW).transpose(0, 1),
            label_B=self._to_device(torch.from_numpy(label_B)),
            photo_B3HW=self._to_device(photo_B3HW),
            simulated_TBCHW=simulated_TBCHW,
            recording_B=recording_B,
            source_B=source_B,
        )

    def _epoch_order(self, epoch: int) -> list[np.ndarray]:
        count = len(self.events.label_N)
        random = np.random.default_rng([self.seed, _ORDER, epoch])
        if self.one_pass:
            return np.array_split(random.permutation(count), self.batches_per_epoch)
        needed = self.batches_per_epoch * self.batch_size
        passes = [random.permutation(count) for _ in range(-(-needed // count))]
        return np.split(np.concatenate(passes)[:needed], self.batches_per_epoch)

    def _to_device(self, x: Tensor) -> Tensor:
        return x.to(self.device, non_blocking=True)


def _copy(random: np.random.Generator) -> np.random.Generator:
    """A generator that gives the same draws, so that two views of a photo share them."""
    twin = np.random.default_rng()
    twin.bit_generator.state = random.bit_generator.state
    return twin


def augment_samples(
    x_BCHW: Tensor, config: AugmentConfig, padding: float, random: np.random.Generator
) -> Tensor:
    """Random crop after zero padding, and left–right flip; each sample draws its own.

    Args:
        x_BCHW: Samples; dimensions between B and the last two are kept together.
        config: What is switched on.
        padding: Largest shift in pixels of this view; draws are fractions of it, so that views of
            other sizes of the same sample move alike.
        random: Source of the draws.
    """
    batch = x_BCHW.shape[0]
    shift_B2 = random.uniform(-1, 1, (batch, 2))
    flip_B = random.random(batch) < 0.5
    if config.crop:
        pixels = round(padding)
        padded = F.pad(x_BCHW, (pixels,) * 4)
        height, width = x_BCHW.shape[-2:]
        start_B2 = np.round(pixels + shift_B2 * padding).astype(int).clip(0, 2 * pixels)
        x_BCHW = torch.stack(
            [
                padded[b, ..., top : top + height, left : left + width]
                for b, (top, left) in enumerate(start_B2)
            ]
        )
    if config.flip:
        flipped = torch.from_numpy(flip_B).view(-1, *(1,) * (x_BCHW.dim() - 1))
        x_BCHW = torch.where(flipped, x_BCHW.flip(-1), x_BCHW)
    return x_BCHW
