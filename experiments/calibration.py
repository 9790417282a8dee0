"""Calibration: how near it comes to a known camera, from the studies' two wrong ones; Markdown.

    python experiments/calibration.py --photos CALTECH101 [--seeds 10] [--classes 10]

Each seed draws its photos, recordings (by eventcv; the camera of recipe caltech101, and the same of
30 Hz) and split: 4 training recordings per class, most of which have their photo among the training
photos. The time is that of all cores.
"""

import argparse
import random
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import yaml

from spikebridge.data.calibrate import calibrate
from spikebridge.data.photos import list_photo_folder
from spikebridge.data.prepared import open_split
from spikebridge.data.settings import DataConfig, SourceConfig, SplitConfig
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.twins import simulate_folder

STUDIES = Path(__file__).parents[1] / "studies"
PER_CLASS = 6
TRUE = Simulator(
    width=96, height=96, aspect="stretch", amplitude=8.0, pos_threshold=0.3, neg_threshold=0.3
)
CAMERAS = (TRUE, replace(TRUE, cutoff_hz=30.0))
SHOWN = ("offset_x", "offset_y", "amplitude", "saccade_height", "pos_threshold", "neg_threshold",
    "cutoff_hz", "shot_noise_hz")  # fmt: skip


def starts() -> dict[str, dict[str, Any]]:
    """The wrong cameras."""
    caltech, digits = (
        yaml.safe_load((STUDIES / f"{name}.yaml").read_text(encoding="utf-8"))
        for name in ("caltech", "simulator")
    )
    strong = digits["arms"]["sim-only-strong"]
    return {
        "caltech": caltech["settings"]["data"]["source"]["simulator"],
        "simulator": strong["data"]["source"]["simulator"],
    }


def copied(photos: Path, out: Path, classes: int, seed: int) -> Path:
    """Some photos of the first classes."""
    draw = random.Random(seed)
    for name, files in [*list_photo_folder(photos, ["Faces"]).items()][:classes]:
        (out / name).mkdir(parents=True)
        for file in draw.sample(files, PER_CLASS):
            shutil.copy(file, out / name)
    return out


def row(photos: Path, events: Path, truth: Simulator, start: dict[str, Any], seed: int) -> str:
    """One calibration, and what it found."""
    with tempfile.TemporaryDirectory() as cache:
        config = DataConfig(
            name="folders",
            photos=str(photos),
            events=str(events),
            sensor=(truth.width, truth.height),
            simulator=truth,
            source=SourceConfig(start, calibrate=True),
            split=SplitConfig(labelled_per_class=4, validation_per_class=1, test_per_class=1),
            cache=cache,
        )
        collection, manifest = open_split(config, seed)
        begun = time.process_time()
        found = calibrate(config, manifest, collection.sensor)
        seconds = time.process_time() - begun
    camera = found.simulator
    kind = (camera.motion, camera.speed, camera.negative)
    right = "yes" if kind == (truth.motion, truth.speed, truth.negative) else f"{kind}"
    cells = [right, *(f"{getattr(camera, name):.3g}" for name in SHOWN)]
    return " | ".join([*cells, f"{found.likeness:.3f}", f"{seconds:.0f}"])


def main() -> None:
    """Print a row for each seed, camera and start."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--photos", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--classes", type=int, default=10)
    given = parser.parse_args()
    torch.set_num_threads(1)
    heads = ["seed", "camera", "start", "kind", *SHOWN, "likeness", "CPU s"]
    print(f"| {' | '.join(heads)} |\n|{' --- |' * len(heads)}", flush=True)
    for truth in CAMERAS:
        true = " | ".join(f"{getattr(truth, name):.3g}" for name in SHOWN)
        print(f"| | {truth.cutoff_hz:g} Hz | *true* | | {true} | | |", flush=True)
    for seed in range(1, given.seeds + 1):
        for truth in CAMERAS:
            with tempfile.TemporaryDirectory() as folder:
                photos = copied(given.photos, Path(folder) / "photos", given.classes, seed)
                events = Path(folder) / "events"
                simulate_folder(photos, events, truth, seed=seed)
                for name, start in starts().items():
                    found = row(photos, events, truth, start, seed)
                    print(f"| {seed} | {truth.cutoff_hz:g} Hz | {name} | {found} |", flush=True)


if __name__ == "__main__":
    main()
