"""What studies and sweeps are tried on."""

from pathlib import Path

import pytest
import yaml

from factories import tiny_recipe


@pytest.fixture(scope="session")
def tiny_file(tmp_path_factory) -> Path:
    """A recipe file `tiny.yaml`."""
    root = tmp_path_factory.mktemp("tiny")
    file = root / "tiny.yaml"
    file.write_text(yaml.safe_dump(tiny_recipe(root)))
    return file
