"""Which precision convolutions run in."""

from typing import Literal

import torch

Precision = Literal["float32", "bfloat16"]


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
