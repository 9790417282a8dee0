"""Views of photos, drawn for each use: teacher, static source and converter see the same one."""

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.data.settings import PhotoViewConfig

_LARGEST_RATIO = math.log(4 / 3)
"""Of a crop's sides, as is usual, relative to the photo's."""


@dataclass(frozen=True)
class Views:
    """How each of B photos is shown; None where it is switched off."""

    source_B23: Tensor | None
    """Affine map from a view's pixel to where its value comes from, in coordinates that are ±1 at
    the borders."""
    tone_B2: Tensor | None
    """Factor of contrast, and exponent."""

    def __call__(self, photo_B3HW: Tensor) -> Tensor:
        """Change contrast and gamma, then crop, flip and rotate bilinearly; edges go on.

        A view depends on its photo and draws alone, whatever stands beside it.

        Args:
            photo_B3HW: RGB, uint8, where the draws are.

        Returns:
            view_B3HW in [0, 1], float32, of the photos' size.
        """
        if self.tone_B2 is None:
            view_B3HW = photo_B3HW.float().div_(255)
        else:
            view_B3HW = _toned(photo_B3HW, self.tone_B2)
        if self.source_B23 is not None:
            from_BHW2 = _places(self.source_B23, *view_B3HW.shape[-2:])
            view_B3HW = F.grid_sample(
                view_B3HW, from_BHW2, padding_mode="border", align_corners=False
            )
        return view_B3HW


@dataclass(frozen=True)
class Mixup:
    """How photos are mixed with others of their batch (mixup, equation 12)."""

    partner_B: Tensor
    """Row of each photo's partner among the photos that are shown."""
    label_B: Tensor
    """The partners' classes."""
    share_B: Tensor
    """λ: the photos' own share, in [0.5, 1]; 1 leaves a photo as it is, to the bit."""
    answered_B: Tensor | None = None
    """True where a labeller answered the partner's class; None where nobody was asked."""

    def __call__(self, view_B3HW: Tensor) -> Tensor:
        """Mix the first photos, as many as have a partner here, in their pixels."""
        share_B111 = self.share_B[:, None, None, None]
        own_B3HW = view_B3HW[: len(self.share_B)]
        return share_B111 * own_B3HW + (1 - share_B111) * view_B3HW[self.partner_B]

    def labels(self, label_B: Tensor, classes: int) -> Tensor:
        """Shares of the classes in the mixed photos, label_BC.

        Args:
            label_B: The photos' own classes.
            classes: Number of classes C.
        """
        own_BC, partner_BC = (F.one_hot(of_B, classes) for of_B in (label_B, self.label_B))
        share_B1 = self.share_B[:, None]
        return share_B1 * own_BC + (1 - share_B1) * partner_BC


def draw_views(
    config: PhotoViewConfig,
    size: tuple[int, int],
    batch: int,
    positions_B: np.ndarray,
    random: np.random.Generator,
) -> Views:
    """Draw how photos at some positions of a batch are shown.

    Args:
        config: What is switched on.
        size: Height and width of the network's input, in which a rotation is one.
        batch: Number of positions.
        positions_B: Those that are wanted.
        random: Source of the draws; a position's do not depend on how many there are, nor on what
            is switched on.
    """
    draw_B8 = random.random((batch, 8))[positions_B]
    source_B23, tone_B2 = None, None
    if config.crop < 1 or config.flip or config.rotate:
        source_B23 = torch.from_numpy(_source(config, size, draw_B8[:, :6])).float()
    if config.contrast or config.gamma:
        widest_2 = np.array([config.contrast, config.gamma])
        tone_B2 = torch.from_numpy(np.exp(widest_2 * (2 * draw_B8[:, 6:] - 1))).float()
    return Views(source_B23, tone_B2)


def _source(config: PhotoViewConfig, size: tuple[int, int], draw_B6: np.ndarray) -> np.ndarray:
    """Where pixels come from after crop, flip and rotation, source_B23."""
    area_B, ratio_B, row_B, column_B, flip_B, turn_B = draw_B6.T
    area_B = 1 - (1 - config.crop) * area_B
    # No side of a crop is longer than the photo's.
    ratio_B = (2 * ratio_B - 1) * np.minimum(_LARGEST_RATIO, -np.log(area_B))
    side_B2 = np.sqrt(area_B[:, None] * np.exp(np.stack([ratio_B, -ratio_B], 1)))
    centre_B2 = (2 * np.stack([column_B, row_B], 1) - 1) * (1 - side_B2)
    mirror_B = np.where(config.flip & (flip_B < 0.5), -1.0, 1.0)
    angle_B = np.deg2rad(config.rotate * (2 * turn_B - 1))
    cos_B, sin_B, aspect = np.cos(angle_B), np.sin(angle_B), size[1] / size[0]
    turned_B22 = np.stack([cos_B, -sin_B / aspect, sin_B * aspect, cos_B], 1).reshape(-1, 2, 2)
    scale_B2 = side_B2 * np.stack([mirror_B, np.ones_like(mirror_B)], 1)
    return np.concatenate([scale_B2[:, :, None] * turned_B22, centre_B2[:, :, None]], 2)


def _places(source_B23: Tensor, height: int, width: int) -> Tensor:
    """Where each pixel's value comes from; `F.affine_grid` takes four times as long."""
    y_H11, x_W1 = (
        ((2 * torch.arange(side, device=source_B23.device) + 1) / side - 1).view(-1, *ones)
        for side, ones in ((height, (1, 1)), (width, (1,)))
    )
    by_x_B112, by_y_B112, offset_B112 = source_B23[:, None, None].unbind(-1)
    return by_x_B112 * x_W1 + (by_y_B112 * y_H11 + offset_B112)


def _toned(photo_B3HW: Tensor, tone_B2: Tensor) -> Tensor:
    """(m + c (x − m))^γ, cut to [0, 1] before the power; m is the photo's mean."""
    flat_BN = photo_B3HW.flatten(1)
    level_256 = torch.arange(256, device=photo_B3HW.device) / 255
    mean_B1 = flat_BN.sum(1, keepdim=True, dtype=torch.int64) / (255 * flat_BN.shape[1])
    contrast_B1, gamma_B1 = tone_B2[:, :1], tone_B2[:, 1:]
    table_B256 = (mean_B1 + contrast_B1 * (level_256 - mean_B1)).clamp(0, 1) ** gamma_B1
    return table_B256.gather(1, flat_BN.long()).view(photo_B3HW.shape)
