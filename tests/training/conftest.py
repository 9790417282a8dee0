"""A tiny data set of real files that a student learns in seconds."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge, read_recipe

CLASSES = ("across", "down", "slope")
PHOTOS = 20


@pytest.fixture(scope="session")
def photo_folder(tmp_path_factory) -> Path:
    """Photos of bars that lie, stand or slope, at random places."""
    root = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(0)
    for label, name in enumerate(CLASSES):
        (root / name).mkdir()
        for index in range(PHOTOS):
            place, strength = random.integers(3, 12), random.integers(160, 256)
            row_HW, column_HW = np.mgrid[:16, :16]
            distance = (row_HW, column_HW, (row_HW + column_HW) // 2)[label] - place
            photo_HW = np.where(np.abs(distance) < 2, strength, random.integers(0, 40))
            photo = Image.fromarray(photo_HW.astype(np.uint8))
            photo.save(root / name / f"image_{index:04d}.png")
    return root


@pytest.fixture
def recipe(photo_folder, tmp_path_factory) -> dict:
    """Settings of a run that takes seconds."""
    return {
        "data": {
            "name": "folders",
            "photos": str(photo_folder),
            "size": [8, 8],
            "time_steps": 3,
            "simulator": {"width": 16, "height": 16, "amplitude": 3.0, "frames": 30},
            "split": {"labelled_per_class": 4, "validation_per_class": 4, "test_per_class": 4},
            "augment": {"crop": 1, "flip": True},
            "cache": str(tmp_path_factory.getbasetemp() / "cache"),
        },
        "student": {"width": 0.1},
        "teacher": {"width": 0.25, "epochs": 2, "batch_size": 8},
        "train": {
            "epochs": 2,
            "batches_per_epoch": 5,
            "batch_size": 6,
            "lr": 0.5,
            "warmup_epochs": 0.4,
            "precision": "float32",
        },
    }


@pytest.fixture
def make_config(recipe, tmp_path):
    """Makes the configuration of a method, with changes."""

    def make(method: str = "ckd", **changes: dict) -> Config:
        file = tmp_path / "recipe.yaml"
        file.write_text(yaml.safe_dump(merge(recipe, changes)))
        return config_from(read_recipe(str(file), method), str(file))

    return make
