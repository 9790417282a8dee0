"""Many small values of a step in one tensor, so that they are read from a device in one go."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from spikebridge.base.devices import leaves, map_tensors


@dataclass(frozen=True)
class Packed:
    """Containers of small tensors, flattened into one.

    Make it with `of`.
    """

    values_N: Tensor
    """All values, one after the other."""
    layout: Any
    """The containers with the shape of each tensor in its place."""

    @staticmethod
    def of(value: Any) -> "Packed":
        """Pack the tensors, of one dimension at most, of containers that hold nothing else."""
        values_N = torch.cat([x.detach().reshape(-1) for x in leaves(value)])
        return Packed(values_N, map_tensors(lambda x: x.shape, value))


def unpacked(packed: Sequence[Packed]) -> list[Any]:
    """The containers with numbers and lists in place of tensors; waits once for a device."""
    if not packed:
        return []
    host_N = torch.cat([one.values_N for one in packed]).tolist()
    found, start = [], 0
    for one in packed:
        end = start + len(one.values_N)
        found.append(_filled(one.layout, iter(host_N[start:end])))
        start = end
    return found


def _filled(layout: Any, values: Iterator[float]) -> Any:
    if isinstance(layout, torch.Size):
        return next(values) if not layout else [next(values) for _ in range(layout.numel())]
    if isinstance(layout, dict):
        return {key: _filled(part, values) for key, part in layout.items()}
    return [_filled(part, values) for part in layout]
