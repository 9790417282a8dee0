"""Photos that become event counts inside a training step: a batch at once, where the photos are.

The pixel is that of `simulate_photo` (v2e, Hu et al. 2021, as eventcv computes it) without event
times: instead of eventcv's steps of one threshold, a picture moves in a few sub-frames, and a pixel
counts the thresholds that its level crossed in each. Noise is drawn for a cell of the network's
input instead of for each of its pixels. On the CPU ``converter.c`` computes it where there is a
compiler, else PyTorch does, to the same bits.
"""

import ctypes
import math
from collections.abc import Sequence
from ctypes import c_float, c_int64, c_void_p
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.base.compiled import compiled
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.simulate import (
    LUMA,
    camera_path,
    cropped,
    hot_places,
    picture_size,
)

_SOURCE = Path(__file__).with_name("converter.c")
_LINEAR_BELOW = 20.0
_LEAST_BANDWIDTH = 0.1
_LEAST_NOISE = 0.25
_BUSIEST = 2.0
"""Change of level between two frames at a photo's busiest pixel, about; eventcv makes so many steps
of it that no pixel crosses more than one threshold in each."""
_MOST_STEPS = 64
_MANY = 16.0
_MOST = 64
_WORD = 0xFFFFFFFF


@dataclass(frozen=True)
class Takes:
    """How each of B photos is recorded; position b of each tensor belongs to photo b."""

    seed_B: Tensor
    """Seeds of thresholds and noise."""
    path_BN2: Tensor
    """Displacement (x, y) in pixels at the borders of the sub-frames."""
    camera_B5: Tensor
    """ON and OFF threshold, their spread, leak in thresholds and dead time, both per sub-frame."""
    receptor_B2: Tensor
    """Share of the way to its input that a white pixel's photoreceptor goes in one of eventcv's
    steps, which may be above 1, and the number of these steps in a sub-frame."""
    noise_B2: Tensor
    """Events per dark pixel and time bin: shot noise of one polarity, and background."""


class Converter:
    """Makes event counts of photos, as a simulated camera's recordings in frames have them.

    Args:
        simulator: Camera and motion.
        size: Height and width of the frames in pixels.
        time_steps: T, bins of equal duration.
        extent: What is stretched to ``size``: the sensor, or the photo's picture on it.
        device: Where the photos are.
        sub_frames: How finely motion is computed, at least; raised so that time bins, and saccades,
            begin and end with one. With 36, events and their share in each bin are within 5 % of
            eventcv's for cameras drawn about the recipes'; with 24 a few events are missing where
            a drawn path is long, with 12 a tenth of them (`experiments/converter.py`).
        native: Whether the CPU may use the kernel; it gives what PyTorch does.
    """

    def __init__(
        self,
        simulator: Simulator,
        size: tuple[int, int],
        time_steps: int,
        *,
        extent: Literal["sensor", "recording"] = "sensor",
        device: torch.device | str = "cpu",
        sub_frames: int = 36,
        native: bool = True,
    ) -> None:
        self.simulator, self.size, self.time_steps = simulator, size, time_steps
        self.extent = extent
        parts = math.lcm(time_steps, 3 if simulator.motion == "saccade" else 1)
        self.sub_frames = -(-sub_frames // parts) * parts
        self._native = native
        self._level_256, self._light_256 = (x.to(device) for x in _tables())
        self._hot_HW = None
        if simulator.hot_pixels and simulator.hot_hz:
            hot_HW = torch.zeros(simulator.height, simulator.width)
            row_K, column_K = torch.from_numpy(hot_places(simulator)).T
            hot_HW[row_K, column_K] = simulator.hot_hz / 2 * self._motion_s / time_steps
            self._hot_HW = hot_HW.to(device)  # events per time bin, of each polarity

    def takes(self, cameras: Sequence[Simulator], seeds: Sequence[int]) -> Takes:
        """Draw how photos are recorded, on the CPU.

        Args:
            cameras: One per photo; they differ from the converter's in amplitude, thresholds,
                bandwidth and noise.
            seeds: One per photo, for path, thresholds and noise, at least 0.
        """
        motion_s = self._motion_s
        part_s, bin_s = motion_s / self.sub_frames, motion_s / self.time_steps
        frames = (self.simulator.frames - 1) / self.sub_frames
        at_N = np.linspace(0, self.simulator.frames - 1, self.sub_frames + 1)
        paths, rows = [], []
        for camera, seed in zip(cameras, seeds, strict=True):
            path_F2 = camera_path(camera, seed)
            frame_F = np.arange(len(path_F2))
            steps = frames * min(max(_BUSIEST / camera.pos_threshold, 1), _MOST_STEPS)
            paths.append(
                np.stack([np.interp(at_N, frame_F, path_F2[:, axis]) for axis in (0, 1)], 1)
            )
            rows.append(
                (camera.pos_threshold, camera.neg_threshold, camera.threshold_sigma,
                 camera.leak_rate_hz * part_s, _dead_time(camera, part_s),
                 2 * np.pi * (camera.cutoff_hz or np.inf) * part_s / steps, steps,
                 camera.shot_noise_hz / 2 * bin_s, camera.background_hz * bin_s)
            )  # fmt: skip
        offset_2 = np.array([self.simulator.offset_x, self.simulator.offset_y])
        row_B9 = torch.tensor(rows, dtype=torch.float32)
        return Takes(
            torch.tensor([seed & _WORD for seed in seeds]),
            torch.from_numpy(np.stack(paths) + offset_2).float(),
            row_B9[:, :5].contiguous(),
            row_B9[:, 5:7].contiguous(),
            row_B9[:, 7:].contiguous(),
        )

    @torch.no_grad()
    def __call__(self, photo_B3HW: Tensor, takes: Takes) -> Tensor:
        """Event counts of photos.

        A photo's counts depend on it and its take alone, whatever stands beside it.

        Args:
            photo_B3HW: RGB in [0, 1], of any size.
            takes: From `takes`, where the photos are.

        Returns:
            counts_BTCHW, float32, there; channel 0 counts OFF events, channel 1 ON.

        Raises:
            ValueError: ``photo_B3HW`` has another shape, or ``takes`` are of other photos.
        """
        if photo_B3HW.dim() != 4 or photo_B3HW.shape[1] != 3:
            raise ValueError(f"photos must be B×3×H×W, got {tuple(photo_B3HW.shape)}")
        if len(photo_B3HW) != len(takes.seed_B):
            raise ValueError(f"{len(photo_B3HW)} photos, but takes of {len(takes.seed_B)}")
        picture_BHW = self._pictures(photo_B3HW)
        rows, columns = cropped((picture_BHW.shape[1], picture_BHW.shape[2]), self.simulator)
        height, width = rows.stop - rows.start, columns.stop - columns.start
        if self.extent == "sensor":
            height, width = self.simulator.height, self.simulator.width
        cells = _Cells(self.size, (height, width), rows, columns)
        receptor_B2_256 = _receptor(takes, self._light_256)
        native = self._native and picture_BHW.device.type == "cpu" and _library() is not None
        convert, add_noise = (_convert, _add_noise) if native else (_reference, _reference_noise)
        counts_BTCHW = convert(
            picture_BHW, takes, self._level_256, receptor_B2_256, self.time_steps, cells
        )
        camera = self.simulator
        if camera.shot_noise_hz or camera.background_hz or self._hot_HW is not None:
            add_noise(counts_BTCHW, self._rates(picture_BHW, takes, cells), takes)
        return counts_BTCHW

    @property
    def _motion_s(self) -> float:
        """From the first frame to the last one."""
        camera = self.simulator
        return camera.duration_ms / 1000 * (camera.frames - 1) / camera.frames

    def _pictures(self, photo_B3HW: Tensor) -> Tensor:
        """Luma in [0, 255] as the sensor sees it at rest, float32."""
        height, width = picture_size(photo_B3HW.shape[2], photo_B3HW.shape[3], self.simulator)
        red, green, blue = (
            channel * (255 * share)
            for channel, share in zip(photo_B3HW.float().unbind(1), LUMA, strict=True)
        )
        grey_BHW = red + green + blue
        rows, columns = (
            min(round(self.simulator.margin * side), (side - 1) // 2) for side in (height, width)
        )
        inner = (height - 2 * rows, width - 2 * columns)
        if grey_BHW.shape[1:] != inner:
            grey_BHW = F.interpolate(
                grey_BHW[:, None], inner, mode="bilinear", align_corners=False, antialias=True
            )[:, 0]
        grey_BHW = F.pad(grey_BHW, (columns, columns, rows, rows)).clamp(0, 255)
        return 255 - grey_BHW if self.simulator.negative else grey_BHW

    def _rates(self, picture_BHW: Tensor, takes: Takes, cells: "_Cells") -> Tensor:
        """Noise events per time bin and cell, rate_B2HW."""
        # Shares of 1/4096 add up to the same sum in any order.
        dark_256 = 1 - (self._light_256 * ((1 - _LEAST_NOISE) * 4096)).round() / 4096
        dark_BHW = dark_256[picture_BHW.round().int()]
        dark_BHW, pixels_HW = cells.sum(dark_BHW), cells.sum(torch.ones_like(dark_BHW[0]))
        shot_B, background_B = (rate_B[:, None, None] for rate_B in takes.noise_B2.unbind(1))
        shot_BHW = shot_B * dark_BHW
        rate_B2HW = torch.stack([shot_BHW, shot_BHW + background_B * pixels_HW], 1)
        if self._hot_HW is None:
            return rate_B2HW
        hot_HW = torch.zeros_like(picture_BHW[0])
        recorded_HW = hot_HW[cells.rows, cells.columns]
        recorded_HW += self._hot_HW[: recorded_HW.shape[0], : recorded_HW.shape[1]]
        return rate_B2HW + cells.sum(hot_HW)


def _dead_time(camera: Simulator, part_s: float) -> float:
    """A pixel's dead time in sub-frames; 0 where it lets all events pass, which is faster."""
    dead = camera.refractory_us / 1e6 / part_s
    threshold = min(camera.pos_threshold, camera.neg_threshold)
    least = max(threshold - 3.5 * camera.threshold_sigma, threshold * 0.1, 1e-3)
    crossings = np.log(255) / least + camera.leak_rate_hz * part_s + 1
    return dead if dead * crossings > 1 else 0.0


@dataclass(frozen=True)
class _Cells:
    """Cells of a network's input, each of them some pixels."""

    size: tuple[int, int]
    """Their rows and columns."""
    pixels: tuple[int, int]
    """Rows and columns of pixels that they cover; a recording may have fewer."""
    rows: slice
    """Of a picture, those that are recorded."""
    columns: slice

    def sum(self, x: Tensor) -> Tensor:
        """Sums of a picture over the cells' pixels, the last two dimensions."""
        x = x[..., self.rows, self.columns]
        for dim in (-2, -1):
            cells, pixels = self.size[dim], self.pixels[dim]
            cell = torch.arange(x.shape[dim], device=x.device) * cells // pixels
            shape = list(x.shape)
            shape[dim] = cells
            x = x.new_zeros(shape).index_add_(dim, cell, x)
        return x


def _tables() -> tuple[Tensor, Tensor]:
    """Level in lin-log intensity and linear intensity in [0, 1], of each 8-bit code."""
    code_256 = np.arange(256) / 255
    light_256 = np.where(code_256 <= 0.04045, code_256 / 12.92, ((code_256 + 0.055) / 1.055) ** 2.4)
    scaled_256 = 255 * light_256
    level_256 = np.where(
        scaled_256 <= _LINEAR_BELOW,
        scaled_256 * np.log(_LINEAR_BELOW) / _LINEAR_BELOW,
        np.log(scaled_256.clip(_LINEAR_BELOW)),
    )
    return torch.from_numpy(level_256).float(), torch.from_numpy(light_256).float()


def _receptor(takes: Takes, light_256: Tensor) -> Tensor:
    """What a sub-frame adds to a photoreceptor's level, for each code: receptor_B2_256.

    That is a share of its distance from its input, and a share of its input's change. In each of
    eventcv's n steps it goes the share e of the way to an input that changes linearly.
    """
    white_B1, steps_B1 = takes.receptor_B2[:, :1], takes.receptor_B2[:, 1:]
    share_B256 = white_B1 * (_LEAST_BANDWIDTH + (1 - _LEAST_BANDWIDTH) * light_256)
    share_B256 = share_B256.clamp(max=1)
    gain_B256 = 1 - (1 - share_B256) ** steps_B1
    rise_B256 = 1 - (1 / share_B256 - 1) / steps_B1 * gain_B256
    return torch.stack([gain_B256, rise_B256], 1)


def _mixed(x: Tensor) -> Tensor:
    """Mix the bits of 32-bit words, held by int64."""
    x = x ^ (x >> 16)
    x = (x * 0x7FEB352D) & _WORD
    x = x ^ (x >> 15)
    x = (x * 0x846CA68B) & _WORD
    return x ^ (x >> 16)


def _stream(takes: Takes, number: int) -> Tensor:
    """Start of one of a take's streams of random words."""
    return _mixed((takes.seed_B + number * 0x9E3779B9) & _WORD)


def _normal(a: Tensor, b: Tensor) -> Tensor:
    """Nearly normal numbers: sums of four uniform ones."""
    total = (a & 0xFFFF) + (a >> 16) + (b & 0xFFFF) + (b >> 16)
    return (total - 131070).float() * 2.6429e-5


def _thresholds(takes: Takes, picture_BHW: Tensor) -> tuple[Tensor, Tensor]:
    """ON and OFF thresholds of every pixel."""
    batch, height, width = picture_BHW.shape
    place_HW = 2 * torch.arange(height * width, device=picture_BHW.device).view(height, width)
    sigma_B11 = takes.camera_B5[:, 2, None, None]
    found = []
    for polarity in (0, 1):
        base_B11 = takes.camera_B5[:, polarity, None, None]
        first_B11 = _stream(takes, polarity)[:, None, None]
        z_BHW = _normal(_mixed(first_B11 ^ place_HW), _mixed(first_B11 ^ (place_HW + 1)))
        found.append((base_B11 + sigma_B11 * z_BHW).maximum((base_B11 * 0.1).clamp(min=1e-3)))
    return found[0], found[1]


def _reference(
    picture_BHW: Tensor,
    takes: Takes,
    level_256: Tensor,
    receptor_B2_256: Tensor,
    time_steps: int,
    cells: _Cells,
) -> Tensor:
    """Events that the motion causes, counts_BTCHW."""
    batch, height, width = picture_BHW.shape
    steps = takes.path_BN2.shape[1] - 1
    on_BHW, off_BHW = _thresholds(takes, picture_BHW)
    per_on_BHW, per_off_BHW = 1 / on_BHW, 1 / off_BHW
    leak_BHW = on_BHW * takes.camera_B5[:, 3, None, None]
    dead_B11 = takes.camera_B5[:, 4, None, None]
    ready_BHW = dead_B11.expand_as(on_BHW)
    code_BHW = _moved(picture_BHW, takes.path_BN2[:, 0])
    ref_BHW = low_BHW = before_BHW = level_256[code_BHW]
    bins = [on_BHW.new_zeros(2, batch, height, width) for _ in range(time_steps)]
    for k in range(steps):
        code_BHW = _moved(picture_BHW, takes.path_BN2[:, k + 1])
        light_BHW = level_256[code_BHW]
        gain_BHW, rise_BHW = (
            table_B256.gather(1, code_BHW.flatten(1)).view_as(low_BHW)
            for table_B256 in receptor_B2_256.unbind(1)
        )
        low_BHW = low_BHW + gain_BHW * (before_BHW - low_BHW) + rise_BHW * (light_BHW - before_BHW)
        before_BHW = light_BHW
        ref_BHW = ref_BHW - leak_BHW
        delta_BHW = low_BHW - ref_BHW
        up_BHW = delta_BHW > 0
        rate_BHW = delta_BHW.abs() * torch.where(up_BHW, per_on_BHW, per_off_BHW)
        crossings_BHW = rate_BHW.floor()
        step_BHW = crossings_BHW * torch.where(up_BHW, on_BHW, off_BHW)
        ref_BHW = ref_BHW + torch.where(up_BHW, step_BHW, -step_BHW)
        # Crossings come `rate` times a sub-frame; a pixel takes the first that finds it ready, and
        # then every `skip`-th.
        early_BHW = (ready_BHW * rate_BHW).ceil().clamp(min=1)
        skip_BHW = (dead_B11 * rate_BHW).ceil().clamp(min=1)
        later_BHW = ((crossings_BHW - early_BHW) / skip_BHW).floor()
        fires_BHW = crossings_BHW >= early_BHW
        count_BHW = torch.where(fires_BHW, later_BHW + 1, 0.0)
        last_BHW = (early_BHW + later_BHW * skip_BHW) / rate_BHW + dead_B11
        ready_BHW = torch.where(fires_BHW, last_BHW, ready_BHW) - 1
        counted = bins[k * time_steps // steps]
        counted[0] += torch.where(up_BHW, 0.0, count_BHW)
        counted[1] += torch.where(up_BHW, count_BHW, 0.0)
    return cells.sum(torch.stack(bins).permute(2, 0, 1, 3, 4))


def _moved(picture_BHW: Tensor, shift_B2: Tensor) -> Tensor:
    """8-bit codes of pictures moved by x and y; beyond the border its edge goes on."""
    batch, height, width = picture_BHW.shape
    corner_B2 = (-shift_B2).floor()
    share_B211 = (-shift_B2 - corner_B2)[:, :, None, None]
    right_B11, below_B11 = share_B211[:, 0], share_B211[:, 1]
    column_BW, row_BH = (
        corner_B2[:, axis, None].long() + torch.arange(side, device=shift_B2.device)
        for axis, side in ((0, width), (1, height))
    )
    at_B11 = torch.arange(batch, device=shift_B2.device)[:, None, None]

    def shifted(rows: int, columns: int) -> Tensor:
        row_BH1 = (row_BH + rows).clamp(0, height - 1)[:, :, None]
        column_B1W = (column_BW + columns).clamp(0, width - 1)[:, None]
        return picture_BHW[at_B11, row_BH1, column_B1W]

    left_B11, above_B11 = 1 - right_B11, 1 - below_B11
    upper_BHW = shifted(0, 0) * left_B11 + shifted(0, 1) * right_B11
    lower_BHW = shifted(1, 0) * left_B11 + shifted(1, 1) * right_B11
    return (upper_BHW * above_B11 + lower_BHW * below_B11).round().long()


def _reference_noise(counts_BTCHW: Tensor, rate_B2HW: Tensor, takes: Takes) -> None:
    """Add Poisson numbers to counts."""
    batch, steps = counts_BTCHW.shape[:2]
    shape = (batch, steps, *rate_B2HW.shape[1:])
    place_TCHW = torch.arange(math.prod(shape[1:]), device=rate_B2HW.device).view(shape[1:])
    first, second = (_stream(takes, number)[:, None, None, None, None] for number in (2, 3))
    draw = _mixed(first ^ place_TCHW)
    rate, share = rate_B2HW[:, None], (-rate_B2HW).exp()[:, None]
    u = (draw >> 8).float() * 2**-24
    count, below = torch.zeros_like(u), share
    for number in range(1, _MOST + 1):
        count = count + (u >= below)
        share = share * (rate / number)
        below = below + share
    many = (rate + rate.sqrt() * _normal(draw, _mixed(second ^ place_TCHW))).round().clamp(min=0)
    counts_BTCHW += torch.where(rate > _MANY, many, count)


@cache
def _library() -> ctypes.CDLL | None:
    """The kernels, or None where there is no compiler or it fails."""
    kernels = compiled(_SOURCE, "-ffp-contract=off")
    if kernels is not None:
        kernels.convert.argtypes = [*[c_void_p] * 6, *[c_int64] * 11, c_void_p]
        kernels.add_noise.argtypes = [*[c_void_p] * 3, *[c_int64] * 3, c_float, c_int64, c_void_p]
    return kernels


def _convert(
    picture_BHW: Tensor,
    takes: Takes,
    level_256: Tensor,
    receptor_B2_256: Tensor,
    time_steps: int,
    cells: _Cells,
) -> Tensor:
    """`_reference` by the kernel."""
    library = _library()
    assert library is not None
    counts_BTCHW = picture_BHW.new_zeros(len(picture_BHW), time_steps, 2, *cells.size)
    inputs = [
        x.contiguous()
        for x in (
            picture_BHW, takes.path_BN2, level_256, receptor_B2_256, takes.camera_B5, takes.seed_B
        )
    ]  # fmt: skip
    library.convert(
        *(x.data_ptr() for x in inputs), *picture_BHW.shape, takes.path_BN2.shape[1] - 1,
        time_steps, cells.rows.start, cells.columns.start, *cells.pixels, *cells.size,
        counts_BTCHW.data_ptr(),
    )  # fmt: skip
    return counts_BTCHW


def _add_noise(counts_BTCHW: Tensor, rate_B2HW: Tensor, takes: Takes) -> None:
    """`_reference_noise` by the kernel."""
    library = _library()
    assert library is not None
    batch, steps = counts_BTCHW.shape[:2]
    rate_B2HW, seed_B = rate_B2HW.contiguous(), takes.seed_B.contiguous()
    none_B2HW = (-rate_B2HW).exp()
    library.add_noise(
        rate_B2HW.data_ptr(), none_B2HW.data_ptr(), seed_B.data_ptr(), batch, steps,
        rate_B2HW[0].numel(), _MANY, _MOST, counts_BTCHW.data_ptr(),
    )  # fmt: skip
