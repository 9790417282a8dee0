"""What an exported file says of itself, and the model card beside it."""

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from spikebridge.base.hooks import hooks_of
from spikebridge.data.datasets import DATASETS
from spikebridge.data.manifest import UNPROVED, Manifest
from spikebridge.data.settings import DataConfig
from spikebridge.results.energy import EnergyReport
from spikebridge.results.export.formats import Format
from spikebridge.results.export.outputs import Difference
from spikebridge.results.tables import marks_of, unlabelled_in_words
from spikebridge.results.trained import Trained
from spikebridge.run_folder import RunFolder, is_simulated
from spikebridge.settings.config import Config

_RESULT_KEYS = ("method", "seed", "best_epoch", "protocol", "test_top1", "val_top1",
                "manifest_sha256")  # fmt: skip


def about(trained: Trained) -> dict[str, str]:
    """Classes and preprocessing, each as JSON, for the file's own metadata."""
    data = trained.config.data
    preprocessing = {
        "size": list(data.size),
        "time_steps": data.time_steps,
        "bins": data.bins,
        "extent": data.extent,
        "scale": data.scale,
        "sensor": None if trained.sensor is None else list(trained.sensor),
        "channels": ["OFF", "ON"],
    }
    return {
        "classes": json.dumps(trained.classes, ensure_ascii=False, allow_nan=False),
        "preprocessing": json.dumps(preprocessing, allow_nan=False),
    }


def model_card(
    folder: Path,
    trained: Trained,
    to: Format,
    file: Path,
    size: int,
    found: Difference,
    energy: EnergyReport,
) -> str:
    """The card in Markdown.

    Args:
        folder: The run's folder.
        trained: Its student.
        to: The file's format.
        file: The exported file.
        size: Its size in bytes.
        found: Its difference from the student.
        energy: The student's.
    """
    config, result = trained.config, RunFolder(folder).result(_RESULT_KEYS)
    title = DATASETS[config.data.name].title
    height, width = config.data.size
    parts = [
        f"# {file.name}",
        f"A spiking network that classifies event-camera recordings into {len(trained.classes)} "
        f"classes, exported to {to.title} by spikebridge {version('spikebridge')} "
        f"({size / 1e6:.1f} MB).",
        _network(config),
        "## Classes\n\nIn the order of the logits: " + ", ".join(trained.classes) + ".",
        _accuracy(title, config, result, trained.manifest),
        _energy(energy, result.get("teacher") is not None),
        "## Check\n\n"
        f"{to.runtime} ran this file beside the student, on the run's validation recordings, in "
        f"float32. {found}.",
        _preprocessing(config.data, trained.sensor),
        "## Use\n\n"
        + _USE[to.name].format(
            file=file.name, steps=config.data.time_steps, height=height, width=width
        ),
        _licence(config.data),
    ]
    return "\n\n".join(parts) + "\n"


def _network(config: Config) -> str:
    student, data = config.student, config.data
    neuron = (
        "ReLU at each step (an ANN)"
        if student.neuron == "relu"
        else f"LIF neurons: v ← v + (i − v)/τ with τ = {student.tau:g}, a spike where v ≥ "
        f"{student.threshold:g}, then v ← 0; they start from rest"
    )
    height, width = data.size
    return (
        "## Network\n\n"
        f"{student.name}, width {student.width:g}, {neuron}. BatchNorm is folded into the "
        "convolutions, weights are float32. "
        f"Input: T = {data.time_steps} frames of 2×{height}×{width} (channels, height, width). The "
        "prediction is the softmax of the logits' mean over T; a state must never be carried from "
        "one recording to the next."
    )


def _accuracy(title: str, config: Config, result: dict[str, Any], manifest: Manifest | None) -> str:
    data = config.data
    lines = [f"- Data: {title}"]
    if is_simulated(data, result):
        lines[0] += "; **its recordings are simulated from photos**"
    if manifest is not None:
        counts = {s: len(manifest.used("recording", s)) for s in ("train", "validation", "test")}
        lines.append(
            f"- Recordings: {counts['train']} trained, {counts['validation']} selected the epoch, "
            f"{counts['test']} tested"
        )
        if alone := sorted(manifest.events_alone):
            lines.append(f"- Trained on events alone, without photos: {', '.join(alone)}")
    if words := unlabelled_in_words([result]):
        lines.append(f"- Photos without labels: {words}")
    marks = ", ".join(f"**{mark}**" for mark in marks_of(result))
    selected = marks or "epoch selected on validation, test read once"
    own = [f"{name} {hook}" for name, hook in hooks_of(config).items()]
    if backbone := result.get("backbone"):
        lines.append(
            f"- Started from the backbone {backbone['weights']}, SHA-256 {backbone['sha256']}, "
            "taught on the photos of pool.csv"
        )
    lines += [
        f"- Method: {result['method']}, seed {result['seed']}, epoch {result['best_epoch']} of "
        f"{config.train.epochs}, counted from 0",
        *(f"- With code of its author's own: {one} (import path, source hash)" for one in own),
        f"- Protocol: {result['protocol']}; {selected}",
        f"- Test top-1: **{result['test_top1']:.2f} %** (validation {result['val_top1']:.2f} %), "
        "one seed" + (f"; **{UNPROVED}**" if result.get("unproved") else ""),
        *(f"- Unproved: {doubt}" for doubt in result.get("unproved", ())),
        f"- Split: manifest.csv of the run, SHA-256 {result['manifest_sha256']}",
    ]
    return "## Data, protocol, accuracy\n\n" + "\n".join(lines)


def _energy(energy: EnergyReport, taught: bool) -> str:
    beside = energy.beside if taught else replace(energy, teacher=None).beside
    rows = [("this network", energy.nj), *((name, nj) for name, _, nj in beside)]
    table = "\n".join(f"| {name} | {nj:,.0f} |" for name, nj in rows)
    return (
        "## Energy\n\n"
        f"| network | nJ per recording |\n| --- | ---: |\n{table}\n\n"
        f"Mean of {energy.recordings} validation recordings: {energy.sops:,.0f} synaptic "
        f"operations and {energy.macs:,} MACs. {energy.assumptions[0]} "
        "Counts times textbook constants, not a measurement; `spikebridge energy` prints all "
        "assumptions."
    )


def _preprocessing(data: DataConfig, sensor: tuple[int, int] | None) -> str:
    height, width = data.size
    across = {
        "sensor": "the sensor's" if sensor is None else f"the sensor's {sensor[0]}×{sensor[1]}",
        "recording": "from the upper left corner to the recording's farthest event, its",
    }[data.extent]
    bins = {"time": "equal duration", "count": "equal numbers of events"}[data.bins]
    scale = {
        "recording": "each recording's counts are divided by the 95th percentile of its counts "
        "that are not zero, if that is above 1, and cut at 1",
        "none": "the counts are the input",
    }[data.scale]
    return (
        "## Preprocessing\n\n"
        f"1. The recording is cut into {data.time_steps} bins of {bins}.\n"
        f"2. Events are counted per bin, polarity (channel 0 OFF, 1 ON) and pixel: {across} W×H "
        f"pixels are stretched to {width}×{height}, event (x, y) going to column ⌊x·{width}/W⌋ and "
        f"row ⌊y·{height}/H⌋.\n"
        f"3. Scale `{data.scale}`: {scale}. Type float32.\n\n"
        "In Python: `frame_events` and `network_input` in `spikebridge.data.frames`. The file's "
        "metadata hold `classes` and `preprocessing` as JSON."
    )


_USE = {
    "nir": """The graph is one time step: input C×H×W, output logits; the caller loops over T and \
takes the mean. Currents of several edges into one node are summed. Time constants are for \
dt = 1e-4 s per step.

```python
import torch
from spikingjelly.activation_based.nir_exchange import import_from_nir

network, state = import_from_nir("{file}", dt=1e-4), None
frames = torch.zeros({steps}, 1, 2, {height}, {width})  # T, batch, channels, height, width
logits = 0
for frame in frames:
    step_logits, state = network(frame, state)
    logits = logits + step_logits / {steps}
```

NIR's text has spikes where v > θ; this student, and SpikingJelly, spike where v ≥ θ.""",
    "onnx": """Input `frames`: batch×{steps}×2×{height}×{width}; outputs `logits` (batch×classes) \
and `step_logits` (batch×{steps}×classes), for a decision before the last step. The batch is free, \
T is not. Tensors named as the layers (`layer1` …) are their spikes, time folded into the batch, \
time-major.

```python
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession("{file}")
frames = np.zeros((1, {steps}, 2, {height}, {width}), np.float32)
logits, step_logits = session.run(None, {{"frames": frames}})
```""",
    "pt2": """Needs PyTorch alone.

```python
import torch

network = torch.export.load("{file}").module()
frames = torch.zeros(1, {steps}, 2, {height}, {width})  # batch, T, channels, height, width
logits, step_logits = network(frames)
```

The batch is free, T is not.""",
}


def _licence(data: DataConfig) -> str:
    return (
        "## Licence\n\n"
        f"The data: {DATASETS[data.name].licence}. The weights were learned from them; who trained "
        "them says under which licence they are given, within that of the data. spikebridge: "
        "Apache-2.0. Cite the data's authors and the method, arXiv 2507.09269."
    )
