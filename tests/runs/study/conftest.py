"""A study that takes seconds."""

from pathlib import Path
from typing import Any

import pytest
import yaml

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
        file = tmp_path / "small.yaml"
        given = {k: v for k, v in (settings | changes).items() if v is not None}
        file.write_text(yaml.safe_dump(given, sort_keys=False))
        return file

    return write


@pytest.fixture
def make_study(write_study):
    """Makes a study with changed keys."""

    def make(**changes: Any) -> Study:
        return read_study(write_study(**changes))

    return make
