"""Batches of photos alone, each as a random view and the recording that the step makes of it."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from spikebridge.base.devices import all_to_device
from spikebridge.data.feed.resident import Room, Rows, scaled_input
from spikebridge.data.feed.sets import PhotoSet
from spikebridge.data.feed.views import Mixup, Views, draw_views
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.converter import Takes

_ORDER, _VIEWS, _MIXUP, _TAKES = range(101, 105)
"""Other draws than those of `PairedBatches`."""


@dataclass(frozen=True)
class DrawnPhotos:
    """What a batch is made of."""

    label_B: Tensor
    """Of each photo; −1 where it has none."""
    photos: Tensor
    views: Views
    mixup: Mixup | None
    takes: Takes


class PhotoBatches:
    """Training photos, pass after pass, and recordings of them.

    A batch's draws depend on the seed and the step alone.

    Args:
        photos: Photos with their camera (`PhotoSet.step_source`).
        data: Frames and views of the photos.
        batch_size: B.
        seed: Seed of all draws.
        device: Where the batches go.
    """

    def __init__(
        self,
        photos: PhotoSet,
        data: DataConfig,
        *,
        batch_size: int,
        seed: int,
        device: torch.device,
    ) -> None:
        assert photos.step_source is not None
        self.photos, self.data, self.source = photos, data, photos.step_source
        self.batch_size, self.seed = batch_size, seed
        self._rows = Rows(photos.photos_N3HW, Room(device))
        self._converter = self.source.converter(data.size, data.time_steps, device)
        self._passes: dict[int, np.ndarray] = {}

    def drawn(self, step: int) -> DrawnPhotos:
        """Draw the batch of a global step, on the CPU."""
        count, batch = len(self.photos.label_N), self.batch_size
        place_B = range(step * batch, (step + 1) * batch)
        row_B = np.array([self._order(place // count)[place % count] for place in place_B])
        label_B, mixup = torch.from_numpy(self.photos.label_N[row_B]), None
        if self.data.photo_views.mixup:
            random = self._random(_MIXUP, step)
            share_B, partner_B = random.random(batch), torch.from_numpy(random.permutation(batch))
            share_B = torch.from_numpy(np.maximum(share_B, 1 - share_B)).float()
            mixup = Mixup(partner_B, label_B[partner_B], share_B)
        return DrawnPhotos(
            label_B,
            self._rows.drawn(row_B),
            draw_views(
                self.data.photo_views,
                self.data.size,
                batch,
                np.arange(batch),
                self._random(_VIEWS, step),
            ),
            mixup,
            self.source.takes(
                self._converter, self._random(_TAKES, step).integers(2**62, size=batch).tolist()
            ),
        )

    def assembled(self, drawn: DrawnPhotos) -> tuple[Tensor, Tensor]:
        """Make a batch of what was drawn, where that is.

        Returns:
            The photos as they are shown, view_B3HW in [0, 1], and their recordings as network input
            x_TBCHW.
        """
        view_B3HW = drawn.views(self._rows.rows(drawn.photos))
        if drawn.mixup is not None:
            view_B3HW = drawn.mixup(view_B3HW)
        return view_B3HW, self._recorded(view_B3HW, drawn.takes)

    def recorded(self, photo_B3HW: Tensor, seeds: list[int]) -> Tensor:
        """Recordings of other photos as network input x_TBCHW, by cameras drawn alike.

        Args:
            photo_B3HW: In [0, 1], where the batches go.
            seeds: One per photo.
        """
        takes = self.source.takes(self._converter, seeds)
        return self._recorded(photo_B3HW, all_to_device(takes, photo_B3HW.device))

    def _recorded(self, photo_B3HW: Tensor, takes: Takes) -> Tensor:
        counts_BTCHW = self._converter(photo_B3HW, takes)
        return scaled_input(counts_BTCHW, self.data.scale).transpose(0, 1)

    def _order(self, number: int) -> np.ndarray:
        """The order of the photos in a pass; the last few are kept."""
        found = self._passes.get(number)
        if found is None:
            random = np.random.default_rng([self.seed, _ORDER, number])
            found = random.permutation(len(self.photos.label_N))
            # A new dictionary: on a GPU another thread may be reading the old one.
            self._passes = dict([(number, found), *self._passes.items()][:2])
        return found

    def _random(self, draws: int, step: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, draws, step])
