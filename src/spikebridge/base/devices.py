"""Tensors on their way to a device, alone and in plain containers."""

import dataclasses
import os
import warnings
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor

from spikebridge.base.errors import UserError

_T = TypeVar("_T")


def steady(device: torch.device) -> None:
    """Have a GPU compute in the precision it is told, and the same way each time.

    Without it cuDNN takes TF32, 10 bits of mantissa, for float32, and sums whose order differs
    from run to run. It holds for the whole process; a CPU needs nothing.
    """
    if device.type == "cuda":
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
        with warnings.catch_warnings():  # PyTorch 2.9 has another name for it, but needs this one.
            warnings.simplefilter("ignore", UserWarning)
            torch.backends.cudnn.allow_tf32 = False
            torch.backends.cuda.matmul.allow_tf32 = False
        torch.backends.cudnn.deterministic = True


def pick_device(name: str) -> torch.device:
    """The device that a configuration names; a GPU is set to compute as `steady` says.

    Raises:
        UserError: unknown, or not on this machine.
    """
    if name == "auto" and not torch.cuda.is_available():
        return torch.device("cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        device = torch.device("cuda", torch.cuda.current_device())
    else:
        try:
            device = torch.device(name)
            torch.empty(1, device=device)
        except (RuntimeError, AssertionError) as error:
            raise UserError(
                f"train.device {name!r} is not available here; use auto or cpu"
            ) from error
    steady(device)
    return device


def pinned(x: Tensor) -> Tensor:
    """Copy a host tensor into page-locked memory, which a GPU reads while the host goes on."""
    # Pinning copies stride by stride: an expanded tensor would be written many times to one place.
    return x if x.is_pinned() else x.contiguous().pin_memory()


def to_device(x: Tensor, device: torch.device) -> Tensor:
    """A host tensor on the device; a GPU copies it while the host goes on."""
    if device.type == "cuda" and x.device.type == "cpu":
        x = pinned(x)
    return x.to(device, non_blocking=True)


def map_tensors(act: Callable[[Tensor], Any], value: _T) -> _T:
    """Rebuild dataclasses, dicts, tuples and lists with each tensor replaced by ``act`` of it."""
    found: Any = value
    if isinstance(value, Tensor):
        found = act(value)
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        changed = {
            field.name: map_tensors(act, getattr(value, field.name))
            for field in dataclasses.fields(value)
        }
        found = dataclasses.replace(value, **changed)
    elif isinstance(value, dict):
        found = {key: map_tensors(act, part) for key, part in value.items()}
    elif isinstance(value, tuple | list):
        found = type(value)(map_tensors(act, part) for part in value)
    return found


def all_to_device(value: _T, device: torch.device) -> _T:
    """Rebuild such containers with each tensor on the device, as `to_device` brings it there."""
    return map_tensors(lambda x: to_device(x, device), value)


def leaves(value: Any) -> Iterator[Any]:
    """Yield what such containers hold, tensors and others, in a fixed order."""
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        for field in dataclasses.fields(value):
            yield from leaves(getattr(value, field.name))
    elif isinstance(value, dict):
        for part in value.values():
            yield from leaves(part)
    elif isinstance(value, tuple | list):
        for part in value:
            yield from leaves(part)
    else:
        yield value
