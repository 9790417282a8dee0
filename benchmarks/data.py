"""How fast data come: raw files, the cache, and the whole loader beside the student it feeds."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.baselines import (
    frame_by_add_at,
    frame_by_loop,
    frame_by_tonic,
    read_bin_by_loop,
)
from benchmarks.measure import ratio_table, ratios, table
from spikebridge.base.devices import pick_device
from spikebridge.data.events import Events, read_events
from spikebridge.data.feed.cache import CachedArrays
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import fit_photo
from spikebridge.data.prepared import PreparedData, photo_size, prepare, read_listed_photo
from spikebridge.models.build import build_student
from spikebridge.runs.tasks import student_task
from spikebridge.settings.config import Config

_SECONDS = 1.0
_RECORDINGS = 64


@dataclass(frozen=True)
class DataBench:
    """Samples a second."""

    rows: dict[str, float]
    """Samples per second by name."""
    ratios: dict[str, float]
    """Ours over the baseline, by name."""
    bytes_per_recording: float
    """In the cache, index included."""
    dense_bytes: int
    """The same frames as dense float32."""

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {
            "rows": {name: {"samples_per_s": value} for name, value in self.rows.items()},
            "ratios": self.ratios,
            "bytes_per_recording": self.bytes_per_recording,
            "dense_float32_bytes": self.dense_bytes,
        }


def bench_data(config: Config, scratch: Path) -> DataBench:
    """Measure reading, framing, the cache and the loader on a recipe's own recordings.

    The student is timed by the method `scratch`, the one that takes samples fastest, on a batch
    that is there already.

    Args:
        config: A recipe; its data are prepared first.
        scratch: Folder for the baseline's dense files, a few MiB.
    """
    data = prepare(config.data, config.seed)
    files = [e.file for e in data.manifest.entries if e.kind == "recording"][:_RECORDINGS]
    recordings = [read_events(file, data.sensor) for file in files]
    rows = {
        **_reading(files, data.sensor),
        **_framing(recordings, config),
        **_caching(data, scratch),
        **_loading(config, data),
    }
    frames = data.events["test"].frames_NTCHW
    assert isinstance(frames, CachedArrays)
    return DataBench(
        rows,
        ratios(_COMPARED, rows),
        frames.stored_bytes / len(frames),
        4 * int(np.prod(frames.shape[1:])),
    )


_COMPARED = (
    ("read raw", "read raw, loop over events"),
    ("frame", "frame, loop over events"),
    ("frame", "frame, np.add.at"),
    ("frame", "frame, tonic ToFrame"),
    ("cache", "cache, dense float32 .npy"),
    ("loader", "loader, raw files and np.add.at"),
    ("loader", "student"),
)


def _reading(files: Sequence[str], sensor: tuple[int, int] | None) -> dict[str, float]:
    rows = {"read raw": _rate(lambda file: read_events(file, sensor), files)}
    bins = [file for file in files if file.endswith(".bin")]
    if bins:
        rows["read raw, loop over events"] = _rate(read_bin_by_loop, bins)
    return rows


def _framing(recordings: Sequence[Events], config: Config) -> dict[str, float]:
    steps, size = config.data.time_steps, config.data.size
    rows = {
        "frame": _rate(lambda events: frame_events(events, steps, size), recordings),
        "frame, loop over events": _rate(lambda e: frame_by_loop(e, steps, size), recordings),
        "frame, np.add.at": _rate(lambda e: frame_by_add_at(e, steps, size), recordings),
    }
    if (tonic := frame_by_tonic(steps)) is not None:
        rows["frame, tonic ToFrame"] = _rate(tonic, recordings)
    return rows


def _caching(data: PreparedData, scratch: Path) -> dict[str, float]:
    """Random rows from the cache, and the same frames as a dense float32 file each."""
    frames_NTCHW = data.events["test"].frames_NTCHW
    rows = np.random.default_rng(0).permutation(len(frames_NTCHW))[:_RECORDINGS].tolist()
    dense = [scratch / f"{row}.npy" for row in rows]
    for row, path in zip(rows, dense, strict=True):
        np.save(path, frames_NTCHW[row].astype(np.float32))
    return {
        "cache": _rate(lambda row: frames_NTCHW[row], rows),
        "cache, dense float32 .npy": _rate(np.load, dense),
    }


def _loading(config: Config, data: PreparedData) -> dict[str, float]:
    device = pick_device(config.train.device)
    objective = replace(config.objective, hybrid_until=0.0, two_heads=False, alignment_weight=0.0)
    config = replace(config, objective=objective)
    torch.manual_seed(0)
    student = build_student(config.student, len(data.classes), config.data.size)
    task = student_task(config, data, student, device)
    size = len(task.batches(0).label_B)

    def plain(step: int) -> None:
        """The same batch from the files, sample by sample."""
        batch = plan[step % len(plan)]
        for recording, photo in batch:
            events = read_events(recording, data.sensor)
            frame_by_add_at(events, config.data.time_steps, config.data.size)
            fit_photo(read_listed_photo(photo), photo_size(config.data), config.data.photo_margin)

    trained = data.manifest.select("recording", "train")
    photos = data.manifest.select("photo", "train")
    plan = []
    for step in range(4):
        batch = task.batches(step)
        plan.append(
            [(trained[r].file, photos[s]) for r, s in zip(batch.recording_B, batch.source_B,
                                                          strict=True)]
        )  # fmt: skip
    batch = task.batches(0)
    optimiser = torch.optim.AdamW([p for p in student.parameters() if p.requires_grad], lr=1e-4)

    def train(step: int) -> None:
        with task.autocast():
            result = task.objective(student, None, batch, 0.0, torch.Generator().manual_seed(step))
        optimiser.zero_grad(set_to_none=True)
        result.total.backward()
        optimiser.step()
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    return {
        "loader": size * _rate(task.batches, range(200)),
        "loader, raw files and np.add.at": size * _rate(plain, range(4)),
        "student": size * _rate(train, range(50)),
    }


def _rate(act: Callable[[Any], Any], items: Sequence[Any]) -> float:
    """Calls per second: the best of three rounds of at least a third of a second."""
    act(items[0])
    best = 0.0
    for _ in range(3):
        began, calls = time.perf_counter(), 0
        while (spent := time.perf_counter() - began) < _SECONDS / 3:
            act(items[calls % len(items)])
            calls += 1
        best = max(best, calls / spent)
    return best


def describe(found: DataBench) -> str:
    """The figures as a Markdown table."""
    rates = ([name, f"{value:,.0f}"] for name, value in found.rows.items())
    size = (
        f"{found.bytes_per_recording:,.0f} bytes per recording in the cache, "
        f"{found.dense_bytes:,} as dense float32 "
        f"({found.bytes_per_recording / found.dense_bytes:.1%}).\n"
    )
    return "\n".join([table(["what", "samples/s"], rates), ratio_table(found.ratios), size])
