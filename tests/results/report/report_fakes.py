"""Fake finished runs: true files, invented numbers."""

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from PIL import Image
from scipy import stats

from spikebridge.base.files import file_sha256
from spikebridge.data.events import Events, write_bin
from spikebridge.data.settings import DataConfig, SplitConfig
from spikebridge.data.splits.draw import Entry, Manifest
from spikebridge.models.build import build_student
from spikebridge.models.settings import StudentConfig
from spikebridge.models.teacher import build_teacher
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import merge
from spikebridge.training.checkpoint import save_model
from spikebridge.training.settings import TrainConfig

CLASSES = ("cat", "dog & <b>", "owl")
SENSOR = (24, 24)
STEPS, TIME_STEPS = 40, 3
LAYERS = {"layer1": 0.11, "layer2": 0.2}
SWITCHES = {
    "scratch": {"hybrid_until": 0.0, "alignment_weight": 0.0, "distillation": {"shape": "none"}},
    "ann-on-frames": {"hybrid_until": 0.0, "alignment_weight": 0.0},
    "kt": {"distillation": {"shape": "none"}},
    "ckd": {},
    "ckd-plus": {},
    "teacher": {},
}
TOP1 = {
    "teacher": (99.0, 98.0, 99.5),
    "scratch": (60.0, 62.0, 61.0),
    "kt": (66.0, 71.0, 69.0),
    "ckd": (80.0, 83.0, 81.5),
}

MakeRun = Callable[..., Path]


def fake_files(root: Path) -> None:
    """Write events/CLASS/*.bin and photos/CLASS/*.png, four of each class, the last unpaired."""
    random = np.random.default_rng(1)
    for name in CLASSES:
        for kind in ("events", "photos"):
            (root / kind / name).mkdir(parents=True)
        for index in range(4):
            t_N = np.sort(random.integers(0, 300_000, 200))
            x_N, y_N = random.integers(0, 24, (2, 200)).astype(np.int32)
            events = Events(x_N, y_N, t_N, random.random(200) < 0.5, SENSOR)
            write_bin(root / "events" / name / f"image_{index}.bin", events)
            photo = "image_9" if index == 3 else f"image_{index}"
            pixels = random.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / "photos" / name / f"{photo}.png")


def fake_run(
    root: Path,
    files: Path,
    method: str,
    seed: int,
    top1: float,
    labelled: int | None,
    changes: dict[str, Any] | None = None,
) -> Path:
    """Write a finished run's folder below ``root``; changes are of its settings."""
    folder = root / (f"{method}-seed{seed}" + ("-changed" if changes else ""))
    config = _config(files, method, seed, labelled, changes or {})
    manifest = _manifest(files)
    folder.mkdir(parents=True)
    settings = json.loads(json.dumps(dataclasses.asdict(config)))
    (folder / "config.yaml").write_text(yaml.safe_dump(settings, sort_keys=False))
    manifest.write(folder / "manifest.csv")
    records = _records(config, top1)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    _write_predictions(folder, manifest, method)
    torch.manual_seed(seed)
    kind = "teacher" if method == "teacher" else "student"
    model = (
        build_teacher(config.teacher, len(CLASSES))
        if kind == "teacher"
        else build_student(config.student, len(CLASSES), config.data.size)
    )
    description = {"kind": kind, "config": settings, "classes": CLASSES, "sensor": SENSOR}
    description["manifest"] = manifest.text()
    save_model(folder / "model.safetensors", model.state_dict(), description)
    result = {
        "method": method,
        "seed": seed,
        "labelled_per_class": labelled,
        "protocol": "clean",
        "manifest_sha256": manifest.sha256,
        "data": "photos",
        "classes": list(CLASSES),
        "best_epoch": 3,
        "val_top1": top1 + 1,
        "test_top1": top1,
        "test_loss": 0.5,
        "seconds": 10.0 + seed,
        "parameters": 1234,
    }
    if kind == "student":
        result |= {"rates": LAYERS, "time_steps": TIME_STEPS}
    (folder / "result.json").write_text(json.dumps(result))
    return folder


def _config(
    files: Path, method: str, seed: int, labelled: int | None, changes: dict[str, Any]
) -> Config:
    base = Config(
        method=method,
        seed=seed,
        data=DataConfig(
            name="folders",
            events=str(files / "events"),
            photos=str(files / "photos"),
            sensor=SENSOR,
            size=(16, 16),
            time_steps=TIME_STEPS,
            split=SplitConfig(labelled_per_class=labelled, validation_per_class=1),
        ),
        student=StudentConfig(width=0.0625, neuron="relu" if method == "ann-on-frames" else "lif"),
        train=TrainConfig(epochs=4),
    )
    settings = json.loads(json.dumps(dataclasses.asdict(base)))
    for name, value in SWITCHES[method].items():
        old = settings["objective"][name]
        settings["objective"][name] = {**old, **value} if isinstance(value, dict) else value
    return config_from(merge(settings, changes), "fake")


def _manifest(files: Path) -> Manifest:
    entries = []
    for label, name in enumerate(CLASSES):
        for kind, split in (("events", ["train", "validation", "test", "test"]), ("photos", None)):
            for file, of in zip(
                sorted((files / kind / name).iterdir()),
                split or ["train", "held-out", "test", "train"],
                strict=True,
            ):
                what = "recording" if kind == "events" else "photo"
                pair = f"{name}/{file.stem}"
                sha = file_sha256(file)
                entries.append(Entry(what, str(file), name, label, file.stem, pair, of, sha))
    return Manifest(tuple(entries))


def _write_predictions(folder: Path, manifest: Manifest, method: str) -> None:
    """Owl's second recording is taken for a cat; scratch takes both of the dog's for owls too."""
    lines = ["file,label,prediction,confidence"]
    for entry in manifest.select("recording", "test"):
        said = entry.label
        if entry.number == "image_3" and entry.label == 2:
            said = 0
        elif method == "scratch" and entry.label == 1:
            said = 2
        lines.append(f'"{entry.file}",{entry.label},{said},0.8125')
    (folder / "predictions.csv").write_text("\n".join(lines) + "\n")


def _records(config: Config, top1: float) -> list[dict]:
    records: list[dict] = []
    hybrid = config.objective.hybrid_until > 0 and config.method != "teacher"
    for step in range(STEPS):
        u, epoch = step / STEPS, step // 10
        record: dict = {"kind": "step", "epoch": epoch, "step": step, "progress": u, "lr": 0.1}
        losses = {"total": 3 - u, "dvs" if config.method != "teacher" else "classification": 1 - u}
        if hybrid:
            losses |= {"hybrid": 1 - u, "alignment": 0.2}
            p = config.objective.replacement(u)
            weight = config.objective.distillation(u, p)
            if weight:
                losses["kd"] = weight
            record |= {"replacement": p, "replaced": round(p, 1), "distillation": weight}
            record |= {"coefficient": [0.7, 0.71, 0.72], "cka": [u, 0.5, 0.9]}
            record |= {"cka_debiased": [u - 0.1, 0.1, 0.8]}
        records.append({**record, "losses": losses})
        if step % 10 == 9:
            records.append(
                {"kind": "eval", "split": "validation", "epoch": epoch, "step": step}
                | {"progress": (step + 1) / STEPS, "top1": top1 - 3 + epoch, "loss": 0.5}
            )
    return records


def plain(html: str) -> str:
    return html.replace("\u00a0", " ")


def mean_and_interval(values: Sequence[float]) -> tuple[float, float]:
    spread = np.std(values, ddof=1) / np.sqrt(len(values))
    low, high = stats.t.interval(0.95, len(values) - 1, loc=np.mean(values), scale=spread)
    return float(np.mean(values)), float(high - low) / 2
