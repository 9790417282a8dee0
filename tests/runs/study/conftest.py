"""A study that takes seconds."""

from pathlib import Path
from typing import Any

import pytest

from factories import changed_file
from spikebridge.runs.study.spec import Study, read_study


@pytest.fixture
def settings(tiny_file) -> dict[str, Any]:
    """What a study file holds."""
    return {
        "title": "Does it work?",
        "recipes": [str(tiny_file)],
        "seeds": [0, 1],
        "arms": {"scratch": {"method": "scratch"}, "ckd": {"method": "ckd"}},
        "against": ["scratch"],
    }


@pytest.fixture
def write_study(settings, tmp_path):
    """Writes a study file with changed keys; None removes one."""

    def write(**changes: Any) -> Path:
        return changed_file(tmp_path / "small.yaml", settings, changes)

    return write


@pytest.fixture
def make_study(write_study):
    """Makes a study with changed keys."""

    def make(**changes: Any) -> Study:
        return read_study(write_study(**changes))

    return make
