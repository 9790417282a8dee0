"""Which precision convolutions run in."""

from collections.abc import Callable
from functools import partial
from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]
Autocast = Callable[[], torch.autocast]


def make_autocast(
    precision: Literal["auto", "float32", "bfloat16"], device: torch.device
) -> Autocast:
    """A maker of contexts in which convolutions run in a precision."""
    enabled = resolve(precision, device) == "bfloat16"
    return partial(torch.autocast, device.type, dtype=torch.bfloat16, enabled=enabled)


def resolve(precision: Literal["auto", "float32", "bfloat16"], device: torch.device) -> Precision:
    """Precision that a setting takes on a device; ``auto`` goes by what its hardware has."""
    if precision != "auto":
        return precision
    return "bfloat16" if multiplies_bfloat16(device) else "float32"


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for products of bfloat16 numbers.

    CUDA: Ampere and later; older GPUs emulate them. CPU: AMX or AVX512_BF16.
    """
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
