"""A sweep that takes seconds."""

from pathlib import Path
from typing import Any

import pytest

from factories import changed_file
from spikebridge.runs.sweep.spec import Sweep, read_sweep


@pytest.fixture
def write_sweep(tiny_file, tmp_path):
    """Writes a sweep file with changed keys; None removes one."""
    settings = {
        "title": "Which is best?",
        "recipe": str(tiny_file),
        "method": "scratch",
        "seeds": [0],
        "trials": 2,
        "space": {"train.lr": {"low": 0.02, "high": 2.0, "log": True}},
    }

    def write(**changes: Any) -> Path:
        return changed_file(tmp_path / "small.yaml", settings, changes)

    return write


@pytest.fixture
def make_sweep(write_sweep):
    """Makes a sweep with changed keys."""

    def make(**changes: Any) -> Sweep:
        return read_sweep(write_sweep(**changes))

    return make
