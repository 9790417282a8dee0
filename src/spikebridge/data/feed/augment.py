"""Random changes of training samples: of event counts, and of where a sample lies in its picture.

KT's "DVS-DA" (flag ``--DVS-DA`` of its public code, get_NCALTECH101_data and get_CEPDVS_data) is
``crop`` of a twelfth of the picture's side (4 of 48), ``flip``, and ``rotate`` of 15°, in this
order, on recordings alone; its rotation takes the nearest pixel, this one interpolates.
"""

import math
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.data.settings import AugmentConfig

_FARTHEST_STEP = 2


def changes_counts(config: AugmentConfig) -> bool:
    """Whether `augment_counts` changes anything."""
    return bool(config.event_drop or config.time_jitter or config.polarity_flip)


def augment_counts(
    counts_BTCHW: np.ndarray,
    config: AugmentConfig,
    random: np.random.Generator,
    positions_B: range | None = None,
) -> np.ndarray:
    """Drop events, move them in time and exchange polarities; each recording draws its own.

    - Drop: a recording draws its share p from [0, event_drop] and each event is dropped with
      probability p, independently. The events of a cell that stay are then binomially distributed,
      so that thinning the counts is exact, not an approximation.
    - Jitter: each event moves to the time step that `jitter_shares` draws. Those of a cell are
      multinomially distributed over the steps. None is lost: at the recording's ends an event
      stays in the last step inside.
    - Polarity: with probability polarity_flip, ON and OFF are exchanged.

    Args:
        counts_BTCHW: Event counts of B recordings, integers; not changed.
        config: What is switched on.
        random: Source of the draws; position b draws from its child b alone.
        positions_B: Positions in the batch that the recordings have; None takes 0, 1, …

    Returns:
        Counts as int64; ``counts_BTCHW`` itself where nothing is switched on.
    """
    if not changes_counts(config):
        return counts_BTCHW
    x_BTCHW = counts_BTCHW.astype(np.int64)
    positions_B = range(len(x_BTCHW)) if positions_B is None else positions_B
    children = random.spawn(positions_B[-1] + 1)
    for x_TCHW, own in zip(x_BTCHW, (children[b] for b in positions_B), strict=True):
        drop, flip = own.uniform(0, config.event_drop), own.random() < config.polarity_flip
        if config.event_drop:
            active = x_TCHW > 0
            x_TCHW[active] = own.binomial(x_TCHW[active], 1 - drop)
        if config.time_jitter:
            x_TCHW[:] = _jittered(x_TCHW, jitter_shares(config.time_jitter), own)
        if flip:
            x_TCHW[:] = x_TCHW[:, ::-1].copy()
    return x_BTCHW


def jitter_shares(sigma: float) -> np.ndarray:
    """Probability_5 that an event moves by −2, −1, 0, 1 or 2 time steps.

    With its place u in its step uniform in [0, 1) and its shift z normal with deviation σ, an event
    lands d steps on with probability P(d ≤ u + z < d + 1) = G(d+1) − 2 G(d) + G(d−1), where
    G(x) = x Φ(x/σ) + σ φ(x/σ) is the second integral of z's density. Farther ones (1.6 % at σ = 1)
    stay where they are.

    Args:
        sigma: σ in time steps, positive.
    """

    def second_integral(x: float) -> float:
        z = x / sigma
        below = 0.5 * math.erfc(-z / math.sqrt(2))
        return x * below + sigma * math.exp(-z * z / 2) / math.sqrt(2 * math.pi)

    steps = range(-_FARTHEST_STEP - 1, _FARTHEST_STEP + 2)
    shares_5 = np.diff([second_integral(d) for d in steps], 2).clip(0)
    shares_5[_FARTHEST_STEP] += 1 - shares_5.sum()
    return shares_5


def _jittered(x_TCHW: np.ndarray, shares_5: np.ndarray, random: np.random.Generator) -> np.ndarray:
    cell_K = np.flatnonzero(x_TCHW)
    moved_K5 = random.multinomial(x_TCHW.reshape(-1)[cell_K], shares_5)
    step_K, place_K = np.divmod(cell_K, x_TCHW[0].size)
    shift_5 = np.arange(-_FARTHEST_STEP, _FARTHEST_STEP + 1)
    step_K5 = (step_K[:, None] + shift_5).clip(0, len(x_TCHW) - 1)
    out = np.zeros(x_TCHW.size, np.int64)
    np.add.at(out, step_K5 * x_TCHW[0].size + place_K[:, None], moved_K5)
    return out.reshape(x_TCHW.shape)


@dataclass(frozen=True)
class Geometry:
    """One draw of crop, flip and rotation for each of B samples, None where it is switched off.

    Views of a sample in any size (photo and network input) move alike: shifts keep their share of
    the picture's sides, and a rotation is one in the network's input.
    """

    size: tuple[int, int]
    """Height and width of the network's input in pixels."""
    padding: int
    """Largest shift in pixels of the network's input."""
    shift_B2: np.ndarray | None
    """Rows and columns by which the crop's corner moves, as a share of the padding, in [−1, 1]."""
    flip_B: np.ndarray | None
    """True where left and right are exchanged."""
    degrees_B: np.ndarray | None
    """Rotation about the centre, counterclockwise."""

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Crop after zero padding, then flip, then rotate bilinearly with zeros outside.

        Args:
            x_BCHW: Views of any size; dimensions between B and the last two are kept together.

        Returns:
            A tensor of the same shape; ``x_BCHW`` itself where nothing is switched on.
        """
        return self.moves(x_BCHW.shape[-2], x_BCHW.shape[-1])(x_BCHW)

    def of(self, rows: slice) -> "Geometry":
        """The draws of some of the samples."""
        shift_B2, flip_B, degrees_B = (
            None if draws_B is None else draws_B[rows]
            for draws_B in (self.shift_B2, self.flip_B, self.degrees_B)
        )
        return replace(self, shift_B2=shift_B2, flip_B=flip_B, degrees_B=degrees_B)

    def moves(self, height: int, width: int, *, repeat: bool = False) -> "Moves":
        """The same for views of one size, as tensors.

        Args:
            height: Of the views.
            width: Of the views.
            repeat: Go on with a view's edge where it ends, instead of with zeros.
        """
        reach_2 = self.padding * np.array([height / self.size[0], width / self.size[1]])
        pixels_2 = np.round(reach_2).astype(int)
        corner_B2, flip_B, source_B23 = None, None, None
        if self.shift_B2 is not None:
            start_B2 = np.round(pixels_2 + self.shift_B2 * reach_2).astype(int)
            corner_B2 = torch.from_numpy(start_B2.clip(0, 2 * pixels_2))
        if self.flip_B is not None:
            flip_B = torch.from_numpy(self.flip_B)
        if self.degrees_B is not None:
            source_B23 = self._rotation(self.degrees_B)
        return Moves((int(pixels_2[0]), int(pixels_2[1])), corner_B2, flip_B, source_B23, repeat)

    def _rotation(self, degrees_B: np.ndarray) -> Tensor:
        """Where each pixel's value comes from, in coordinates that are ±1 at the borders."""
        aspect = self.size[1] / self.size[0]
        angle_B = torch.from_numpy(np.deg2rad(degrees_B)).to(torch.float32)
        cos_B, sin_B, zero_B = angle_B.cos(), angle_B.sin(), torch.zeros_like(angle_B)
        return torch.stack([cos_B, -sin_B / aspect, zero_B, sin_B * aspect, cos_B, zero_B], 1).view(
            -1, 2, 3
        )


@dataclass(frozen=True)
class Moves:
    """A `Geometry` for views of one size, where the views are; None where it is switched off."""

    padding: tuple[int, int]
    """Rows and columns around a view."""
    corner_B2: Tensor | None
    """Row and column of the padded view at which the crop begins."""
    flip_B: Tensor | None
    """True where left and right are exchanged."""
    source_B23: Tensor | None
    """Affine map from a pixel to where its value comes from."""
    repeat: bool = False
    """Whether a view's edge goes on where it ends, instead of zeros."""

    def __call__(self, x_BCHW: Tensor) -> Tensor:
        """Move views, as `Geometry` does."""
        if self.corner_B2 is not None:
            x_BCHW = self._cropped(x_BCHW, self.corner_B2)
        if self.flip_B is not None:
            flip_B = self.flip_B.view(-1, *(1,) * (x_BCHW.dim() - 1))
            x_BCHW = torch.where(flip_B, x_BCHW.flip(-1), x_BCHW)
        if self.source_B23 is not None:
            x_BCHW = self._rotated(x_BCHW, self.source_B23)
        return x_BCHW

    def _cropped(self, x_BCHW: Tensor, corner_B2: Tensor) -> Tensor:
        (rows, columns), (height, width) = self.padding, x_BCHW.shape[-2:]
        mode = "replicate" if self.repeat else "constant"
        padded = F.pad(x_BCHW, (columns, columns, rows, rows), mode)
        if corner_B2.device.type == "cpu":  # Slices, much faster than indices.
            starts = enumerate(corner_B2.tolist())
            return torch.stack(
                [padded[b, ..., y : y + height, x : x + width] for b, (y, x) in starts]
            )
        flat_BCHW = padded.flatten(1, -3)
        batch, channels = flat_BCHW.shape[:2]
        at_B, at_C, at_H, at_W = (
            torch.arange(n, device=corner_B2.device) for n in (batch, channels, height, width)
        )
        cropped = flat_BCHW[
            at_B[:, None, None, None],
            at_C[:, None, None],
            (corner_B2[:, :1] + at_H)[:, None, :, None],
            (corner_B2[:, 1:] + at_W)[:, None, None, :],
        ]
        return cropped.view(x_BCHW.shape)

    def _rotated(self, x_BCHW: Tensor, source_B23: Tensor) -> Tensor:
        flat_BCHW = x_BCHW.flatten(1, -3)
        source_B23 = source_B23.to(x_BCHW.dtype)
        grid = F.affine_grid(source_B23, list(flat_BCHW.shape), align_corners=False)
        beyond = "border" if self.repeat else "zeros"
        rotated = F.grid_sample(flat_BCHW, grid, padding_mode=beyond, align_corners=False)
        return rotated.reshape(x_BCHW.shape)


def draw_geometry(
    config: AugmentConfig, size: tuple[int, int], batch: int, random: np.random.Generator
) -> Geometry:
    """Draw crop, flip and rotation for each sample of a batch.

    Args:
        config: What is switched on.
        size: Height and width of the network's input in pixels.
        batch: Number of samples.
        random: Source of the draws; a position's do not depend on how many there are, nor on what
            is switched on.
    """
    draw_B4 = random.random((batch, 4))
    return Geometry(
        size,
        config.crop,
        2 * draw_B4[:, :2] - 1 if config.crop else None,
        draw_B4[:, 2] < 0.5 if config.flip else None,
        config.rotate * (2 * draw_B4[:, 3] - 1) if config.rotate else None,
    )
