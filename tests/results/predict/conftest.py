"""A run of a student that was not trained, and recordings of its classes."""

import json
from dataclasses import asdict
from pathlib import Path

import pytest
from predict_case import CLASSES, SENSOR, made_events, made_student

from spikebridge.data.events import write_bin
from spikebridge.results.trained import Trained
from spikebridge.training.checkpoint import save_model


@pytest.fixture(scope="session")
def trained() -> Trained:
    return made_student()


@pytest.fixture(scope="session")
def folder(tmp_path_factory) -> Path:
    """CLASS/NAME.bin, two of each class and one of none."""
    root = tmp_path_factory.mktemp("recordings")
    for seed in range(7):
        file = root / (*CLASSES, "other")[seed // 2] / f"{seed}.bin"
        file.parent.mkdir(exist_ok=True)
        write_bin(file, made_events(seed))
    return root


@pytest.fixture(scope="session")
def run(trained, tmp_path_factory) -> str:
    """The folder of the student's weights."""
    root = tmp_path_factory.mktemp("run")
    description = {
        "kind": "student",
        "config": json.loads(json.dumps(asdict(trained.config))),
        "classes": list(CLASSES),
        "sensor": list(SENSOR),
    }
    save_model(root / "model.safetensors", trained.model.state_dict(), description)
    return str(root)
