"""Shared fixtures; lying here it also puts tests/ on the import path, for `oracles.reference`."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

torch.set_num_threads(1)  # The tensors are tiny; threads would only wait for each other.


@pytest.fixture(scope="session")
def kt() -> dict[str, Any]:
    """Numbers that KT's public code gives on fixed inputs (tests/oracles/kt.json)."""
    return json.loads((Path(__file__).parent / "oracles" / "kt.json").read_text())
