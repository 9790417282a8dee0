"""Samples where a step reads them: kept on the device if they fit there, else sent each time."""

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from spikebridge.data.feed.cache import CachedArrays
from spikebridge.data.frames import full_scale

_PART = 4
"""Samples may take one part in four of a GPU's free memory."""
_CHUNK = 256
_LARGEST_SCALE = 4095
_SIGNED = {np.dtype(np.uint16): np.int32, np.dtype(np.uint32): np.int64}
"""Types that PyTorch hardly computes with, and what holds their values."""


class Room:
    """What a device can keep of the samples; nothing on a CPU, which reads the cache.

    Args:
        device: Where the samples are used.
    """

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._left = 0
        if device.type == "cuda":
            torch.cuda.empty_cache()  # Else what PyTorch keeps for later counts as taken.
            self._left = torch.cuda.mem_get_info(device)[0] // _PART

    def take(self, size: int) -> bool:
        """Whether ``size`` bytes fit; then they are taken."""
        if size > self._left:
            return False
        self._left -= size
        return True


class Rows:
    """Rows of an array, by index.

    Args:
        array: On the host.
        room: Where they are kept if there is enough of it.
    """

    def __init__(self, array: CachedArrays | np.ndarray, room: Room) -> None:
        self.array = array
        kind = _SIGNED.get(array.dtype, array.dtype)
        self._kept = None
        if len(array) and room.take(int(np.prod(array.shape)) * np.dtype(kind).itemsize):
            parts = (array[start : start + _CHUNK] for start in range(0, len(array), _CHUNK))
            self._kept = torch.cat([_tensor(part).to(room.device) for part in parts])

    @property
    def kept(self) -> bool:
        """Whether the rows are on the device."""
        return self._kept is not None

    def drawn(self, rows_B: np.ndarray) -> Tensor:
        """What a step needs to be given of some rows: where they are kept, or themselves."""
        return torch.from_numpy(rows_B) if self.kept else _tensor(self.array[rows_B])

    def rows(self, drawn: Tensor) -> Tensor:
        """Rows from what `drawn` returned, on the device."""
        return drawn if self._kept is None else self._kept[drawn]


@dataclass(frozen=True)
class FrameRows:
    """Some recordings' event counts, as a step is given them."""

    counts: Tensor
    """x_BTCHW, or index_B where they are kept on the device."""
    given: bool
    """Whether they are counts in any case."""
    full_scale_B: Tensor | None
    """Count that becomes 1; None where counts are not scaled."""


class Frames:
    """Recordings as network input, scaled on the device as `network_input` does.

    Args:
        counts_NTCHW: Event counts, on the host.
        scale: As for `network_input`.
        room: Where counts are kept if there is enough of it.
    """

    def __init__(
        self,
        counts_NTCHW: CachedArrays | np.ndarray,
        scale: Literal["recording", "none"],
        room: Room,
    ) -> None:
        self.counts_NTCHW = counts_NTCHW
        self._rows = Rows(counts_NTCHW, room)
        self._scales = scale == "recording"
        self._full_scale_N = np.full(len(counts_NTCHW), np.nan, np.float32)

    def drawn(self, rows_B: np.ndarray) -> FrameRows:
        """What a step needs to be given of some recordings."""
        counts = self._rows.drawn(rows_B)
        full_scale_B = None
        if self._scales:
            for place, row in enumerate(rows_B):
                if np.isnan(self._full_scale_N[row]):
                    counts_TCHW = (
                        self.counts_NTCHW[row] if self._rows.kept else counts[place].numpy()
                    )
                    self._full_scale_N[row] = full_scale(counts_TCHW)
            full_scale_B = torch.from_numpy(self._full_scale_N[rows_B])
        return FrameRows(counts, not self._rows.kept, full_scale_B)

    def given(self, counts_BTCHW: np.ndarray) -> FrameRows:
        """The same of counts that are not those of the set."""
        full_scale_B = None
        if self._scales:
            full_scale_B = torch.tensor([full_scale(counts) for counts in counts_BTCHW])
        return FrameRows(_tensor(counts_BTCHW), True, full_scale_B)

    def input(self, drawn: FrameRows) -> Tensor:
        """Network input x_BTCHW from what `drawn` or `given` returned, on the device."""
        counts_BTCHW = drawn.counts if drawn.given else self._rows.rows(drawn.counts)
        x_BTCHW = counts_BTCHW.float()
        if drawn.full_scale_B is not None:
            x_BTCHW = x_BTCHW.div_(drawn.full_scale_B[:, None, None, None, None]).clamp_(max=1)
        return x_BTCHW


def scaled_input(counts_BTCHW: Tensor, scale: Literal["recording", "none"]) -> Tensor:
    """Event counts as `network_input` makes them, on their device, without the host.

    Args:
        counts_BTCHW: Whole numbers, float32; no scale is above 4,095.
        scale: As for `network_input`.
    """
    if scale == "none":
        return counts_BTCHW
    flat_BN = counts_BTCHW.flatten(1).clamp(max=_LARGEST_SCALE).long()
    cells_BC = flat_BN.new_zeros(len(flat_BN), _LARGEST_SCALE + 1)
    cells_BC.scatter_add_(1, flat_BN, torch.ones_like(flat_BN))
    cells_BC[:, 0] = 0
    up_to_BC = cells_BC.cumsum(1)
    place_B1 = 0.95 * (up_to_BC[:, -1:].double() - 1)
    low_B, high_B = ((up_to_BC <= at_B1).sum(1) for at_B1 in (place_B1.floor(), place_B1.ceil()))
    percentile_B = low_B + (high_B - low_B) * (place_B1[:, 0] % 1)
    scale_B = percentile_B.clamp(min=1).float()
    return (counts_BTCHW / scale_B[:, None, None, None, None]).clamp(max=1)


def _tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.ascontiguousarray(array, _SIGNED.get(array.dtype, array.dtype)))
