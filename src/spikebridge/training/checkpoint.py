"""Checkpoints and weight files: atomic, and read without ever unpickling code."""

import io
import json
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from spikebridge.base.errors import UserError, reading_failed
from spikebridge.base.files import atomic_path

_METADATA = "spikebridge"


def save_checkpoint(path: Path, state: dict[str, Any]) -> None:
    """Write a training state (tensors, numbers, strings and containers of them)."""
    buffer = io.BytesIO()
    torch.save(state, buffer)
    with atomic_path(path) as temporary:
        temporary.write_bytes(buffer.getbuffer())


def load_checkpoint(path: Path) -> dict[str, Any]:
    """Read a training state.

    Raises:
        UserError: the file is missing, cannot be read, is damaged, or holds more than plain data.
    """
    if not path.is_file():
        raise UserError(f"{path}: no checkpoint to resume from; start without --resume")
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except PermissionError as error:
        raise reading_failed(path, error) from error
    except Exception as error:
        raise UserError(
            f"{path}: not a readable checkpoint ({type(error).__name__}); "
            "delete the run's folder and start again"
        ) from error


def save_model(path: Path, weights: dict[str, Tensor], description: dict[str, Any]) -> None:
    """Write weights as safetensors with a description that is all one needs to rebuild them."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in weights.items()}
    data = save(tensors, metadata={_METADATA: json.dumps(description)})
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def load_model(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Weights and description.

    Raises:
        UserError: the file is missing, cannot be read, is damaged, or not of `save_model`.
    """
    if not path.is_file():
        raise UserError(f"{path}: no trained model there; is the run finished?")
    try:
        path.open("rb").close()  # safetensors calls a file that may not be read missing.
        with safe_open(path, framework="pt") as file:
            description = json.loads(file.metadata()[_METADATA])
            if not isinstance(description, dict):
                raise TypeError
            return {name: file.get_tensor(name) for name in file.keys()}, description  # noqa: SIM118
    except PermissionError as error:
        raise reading_failed(path, error) from error
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise UserError(
            f"{path}: not a model of spikebridge ({type(error).__name__}); train the run again"
        ) from error


def fill(module: nn.Module, weights: dict[str, Tensor], origin: Path) -> None:
    """Load weights into a module of the same architecture.

    Raises:
        UserError: a tensor is missing, left over, or of another shape.
    """
    expected = module.state_dict()
    wrong = [
        name
        for name in {**expected, **weights}
        if name not in weights
        or name not in expected
        or weights[name].shape != expected[name].shape
    ]
    if wrong:
        raise UserError(
            f"{origin}: checkpoint of another architecture ({len(wrong)} tensors do not fit, first "
            f"{wrong[0]}); use the settings that it was trained with"
        )
    module.load_state_dict(weights)
