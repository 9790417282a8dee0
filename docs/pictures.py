"""Draws the pictures of docs/concepts.md: python docs/pictures.py (two minutes).

Everything is the package's own: the digits' recordings, the schedules, the hybrid stream, and two
students that are trained into runs/pictures.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from spikebridge import (
    LIF,
    DistillationSchedule,
    ReplacementSchedule,
    config_from,
    linear_cka,
    load_run,
    photo_sequence,
    prepare,
    read_recipe,
    replace_samples,
    surrogate,
    train_student,
)
from spikebridge.base.files import atomic_path
from spikebridge.data.feed.batches import Batch, PairedBatches
from spikebridge.data.prepared import PreparedData
from spikebridge.data.settings import AugmentConfig, PhotoViewConfig
from spikebridge.results.report.palette import EMPTY_RGB, OFF_RGB, ON_RGB
from spikebridge.results.report.svg import drawing
from spikebridge.settings.config import Config

HERE = Path(__file__).parent
RUNS = HERE.parent / "runs" / "pictures"
WIDTH = 6.6
COLOURS = {"P": "#0072b2", "W": "#d55e00", "ckd": "#d55e00", "kd-no-alignment": "#7a7f87"}


def main() -> None:
    """All pictures."""
    config = _config("ckd")
    data = prepare(config.data, config.seed)
    style: dict[Any, Any] = {
        "svg.fonttype": "path",
        "svg.hashsalt": "spikebridge",
        "grid.color": "#e3e5e8",
    }
    with drawing(), rc_context(style):
        save(hybrid_stream(data), "hybrid")
        save(schedules(), "schedules")
        save(membrane(), "membrane")
        save(alignment(data), "cka")


def hybrid_stream(data: PreparedData) -> Figure:
    """Eight samples at five moments of training."""
    batch, moments = _batch(data, 8, seed=3), (0.0, 0.4, 0.65, 0.85, 0.99)
    source_TBCHW = photo_sequence(batch.photo_B3HW, len(batch.dvs_TBCHW))
    figure = Figure(figsize=(WIDTH, 4.6), layout="constrained")
    axes = figure.subplots(len(moments), len(batch.label_B))
    for row, u in zip(axes, moments, strict=True):
        p = ReplacementSchedule()(u)
        random = torch.Generator().manual_seed(26)
        hybrid = replace_samples(source_TBCHW, batch.dvs_TBCHW, p, random)
        for b, axis in enumerate(row):
            frame_CHW = hybrid.frames_TBCHW[-1, b].numpy()
            if hybrid.replaced_TB[-1, b]:
                show(axis, coloured(frame_CHW))
            else:
                show(axis, np.repeat(frame_CHW[0][..., None], 3, -1))
        row[0].set_ylabel(f"u = {u:.2f}\nP = {p:.2f}", rotation=0, ha="right", va="center")
    for label, axis in zip(batch.label_B.tolist(), axes[0], strict=True):
        axis.set_title(f"“{data.classes[label]}”")
    return figure


def schedules() -> Figure:
    """P(u) and W(u), and the other shapes on offer."""
    u = np.linspace(0, 1, 301)
    figure = Figure(figsize=(WIDTH, 2.5), layout="constrained")
    default, others = figure.subplots(1, 2)
    replacement, distillation = ReplacementSchedule(), DistillationSchedule()
    default.axvspan(0.4, 0.8, color="#f0f0f0", lw=0)
    default.plot(u, [replacement(x) for x in u], color=COLOURS["P"])
    default.plot(u, [distillation(x, replacement(x)) for x in u], color=COLOURS["W"])
    default.text(0.86, 0.42, "P(u)", color=COLOURS["P"])
    default.text(0.2, 0.88, "W(u)", color=COLOURS["W"])
    for at, name in ((0.2, "phase I"), (0.6, "switching"), (0.9, "phase II")):
        default.text(at, 1.06, name, ha="center", fontsize=8.5)
    shapes: tuple[Any, ...] = ("linear", "step")
    for shape, style in zip(shapes, ("-", ":"), strict=True):
        curve = ReplacementSchedule(shape)
        others.plot(u, [curve(x) for x in u], style, color=COLOURS["P"], label=shape)
    others.legend(loc="lower right")
    others.set_title("other shapes of P(u)")
    for axis in (default, others):
        axis.set(xlabel="training progress u", ylim=(-0.03, 1.16), yticks=(0, 0.5, 1))
    return figure


def membrane() -> Figure:
    """One LIF neuron: what goes in, its potential before reset, its spikes."""
    current_T = torch.zeros(40)
    current_T[4:16], current_T[22:38] = 0.45, 0.9
    neuron = LIF(2.0, 0.5, surrogate("qgate"), "eager")
    spikes_T1, membrane_T1 = neuron(current_T[:, None], membrane=True)
    figure = Figure(figsize=(WIDTH, 3.0), layout="constrained")
    upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(1, 2.4))
    steps = np.arange(1, 41)
    upper.step(steps, current_T, where="mid", color="#555555")
    upper.set(ylabel="input i", yticks=(0, 0.5, 1))
    lower.plot(steps, membrane_T1[:, 0], "o-", color=COLOURS["P"], markersize=3)
    lower.axhline(0.5, color="#555555", ls="--", lw=1)
    lower.text(1, 0.515, "threshold θ", fontsize=8.5, va="bottom")
    lower.plot(steps[spikes_T1[:, 0] > 0], [0.78] * int(spikes_T1.sum()), "|",
               color=COLOURS["W"], markersize=12, markeredgewidth=2)  # fmt: skip
    lower.text(1, 0.78, "spikes", color=COLOURS["W"], va="center", fontsize=8.5)
    lower.set(xlabel="time step", ylabel="potential v", ylim=(-0.03, 0.88))
    return figure


def alignment(data: PreparedData) -> Figure:
    """CKA over training; and of photos with recordings, with and without the alignment loss."""
    figure = Figure(figsize=(WIDTH, 2.6), layout="constrained")
    over, after = figure.subplots(1, 2, width_ratios=(1.5, 1))
    for method in ("ckd", "kd-no-alignment"):
        config = _config(method)
        folder = RUNS / f"{method}-seed0"
        train_student(config, data, folder, teacher_folder=RUNS / "teacher-seed0")
        cka_T = _cka_of_streams(folder, data)
        place = 0.2 if method == "ckd" else -0.2
        bars = after.barh(np.arange(1, len(cka_T) + 1) - place, cka_T, 0.38, color=COLOURS[method])
        name = "CKD" if method == "ckd" else "without alignment"
        bars.set_label(name)
    lines = (RUNS / "ckd-seed0" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    steps = [line for line in map(json.loads, lines) if "cka_debiased" in line]
    cka_TU = np.array([line["cka_debiased"] for line in steps]).T
    shown = over.imshow(cka_TU, vmin=0, vmax=1, aspect="auto", cmap="viridis",
                        extent=(0, 1, len(cka_TU) + 0.5, 0.5), interpolation="nearest")  # fmt: skip
    figure.colorbar(shown, ax=over, label="CKA")
    over.set(xlabel="training progress u", ylabel="time step t", yticks=range(1, len(cka_TU) + 1))
    over.set_title("hybrid stream with DVS stream")
    over.grid(visible=False)
    after.invert_yaxis()
    after.set(xlabel="CKA", xlim=(0, 1), yticks=range(1, len(cka_TU) + 1))
    after.set_title("photos with recordings,\nafter training")
    figure.legend(*after.get_legend_handles_labels(), loc="outside lower right", ncols=2)
    return figure


@torch.no_grad()
def _cka_of_streams(folder: Path, data: PreparedData) -> np.ndarray:
    """Debiased CKA_T of photos, none replaced, with recordings of their classes."""
    batch, student = _batch(data, 100, seed=5, split="test"), load_run(folder).model
    photos_TBCHW = photo_sequence(batch.photo_B3HW, len(batch.dvs_TBCHW))
    pair = [student(x_TBCHW).membrane_TBN for x_TBCHW in (photos_TBCHW, batch.dvs_TBCHW)]
    return linear_cka(*pair, debiased=True).numpy()


def _config(method: str) -> Config:
    return config_from(read_recipe("digits", method), "digits")


def _batch(data: PreparedData, size: int, seed: int, split: str = "train") -> Batch:
    batches = PairedBatches(
        data.events[split],
        data.photos[split],
        batch_size=size,
        batches_per_epoch=1,
        augment=AugmentConfig(),
        views=PhotoViewConfig(),
        seed=seed,
        device=torch.device("cpu"),
    )
    return batches(0)


def coloured(frame_CHW: np.ndarray) -> np.ndarray:
    """Event counts in [0, 1] as RGB, in the report's colours."""
    off_HW1, on_HW1 = frame_CHW[..., None]
    empty, off, on = (np.array(c) / 255 for c in (EMPTY_RGB, OFF_RGB, ON_RGB))
    return (empty + off_HW1 * (off - empty) + on_HW1 * (on - empty)).clip(0, 1)


def show(axis: Axes, picture_HWC: np.ndarray) -> None:
    """A picture without axes."""
    axis.imshow(picture_HWC, interpolation="nearest")
    axis.set(xticks=[], yticks=[])
    axis.spines[:].set_visible(False)
    axis.grid(visible=False)


def save(figure: Figure, name: str) -> None:
    """Write a picture of the docs, the same bytes each time."""
    figure.set_facecolor("white")
    with atomic_path(HERE / "pictures" / f"{name}.svg") as temporary:
        figure.savefig(temporary, format="svg", metadata={"Date": None, "Creator": None})


if __name__ == "__main__":
    main()
