"""Allocators, the C library's and a GPU's, told what training wants of them."""

import ctypes
import gc
import sys
from contextlib import suppress

import torch

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = 2**31 - 1


def keep_freed_memory() -> None:
    """Let glibc keep what is freed for the next step instead of giving it back to the machine.

    Otherwise each tensor above 32 MiB lies in fresh pages in every step, which the kernel clears
    and maps one by one (docs/performance.md). Without effect on other C libraries.
    """
    if not sys.platform.startswith("linux"):
        return
    with suppress(AttributeError, OSError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(_M_MMAP_MAX, 0)
        mallopt(_M_TRIM_THRESHOLD, _NEVER)


def free_what_is_dead(device: torch.device) -> None:
    """Give a GPU back what only dead reference cycles hold, such as the run before this one.

    Python would collect it some time, but does not know how large it is.
    """
    if device.type == "cuda":
        gc.collect()
        torch.cuda.empty_cache()
