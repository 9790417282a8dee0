"""Draws the picture of docs/simulation.md: python docs/simulation.py PHOTOS N-CALTECH101.

PHOTOS holds Caltech101's folders, N-CALTECH101 those of its recordings; Faces_easy/image_0001 must
be among both. Frames are of the package's own: eventcv's recording, the converter's, the camera's.
"""

import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure
from pictures import coloured, save, show

from spikebridge.data.events import Events, read_events
from spikebridge.data.frames import frame_events, network_input
from spikebridge.data.photos import fit_photo, read_photo
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.converter import Converter
from spikebridge.data.simulation.fit import fit_camera
from spikebridge.data.simulation.simulate import picture_size, recorded_size, simulate_photo
from spikebridge.results.report.svg import drawing

STEPS = 3
SEED = 1
PHOTOS = ("stop_sign/image_0005.jpg", "okapi/image_0003.jpg")
REAL = "Faces_easy/image_0001"
RECIPE = Simulator(
    width=96, height=96, aspect="stretch", amplitude=8.0, pos_threshold=0.3, neg_threshold=0.3
)


def main(photos: Path, recordings: Path) -> None:
    """The picture."""
    rows: list[tuple[np.ndarray, Simulator, Events | None]] = [
        (read_photo(photos / name), RECIPE, None) for name in PHOTOS
    ]
    face = read_photo(photos / f"{REAL}.jpg")
    recorded = read_events(recordings / f"{REAL}.bin", (240, 180))
    rows.append((face, fit_camera(recorded, face).simulator, recorded))
    figure = Figure(figsize=(6.6, 3.5), layout="constrained")
    blocks = figure.subfigures(1, len(rows), wspace=0.02)
    for block, (photo_HWC, camera, real) in zip(blocks, rows, strict=True):
        lines = {
            "eventcv": _simulated(photo_HWC, camera),
            "converter": _converted(photo_HWC, camera),
        }
        if real is not None:
            events = replace(real, sensor=(camera.width, camera.height))
            lines["real camera"] = _framed(events, camera, photo_HWC)
        above, below = block.subfigures(2, 1, height_ratios=[1, 3])
        show(above.subplots(), photo_HWC / 255)
        axes = below.subplots(3, STEPS, gridspec_kw={"wspace": 0.03, "hspace": 0.03})
        for row, (name, frames_TCHW) in zip(axes, lines.items(), strict=False):
            for axis, frame_CHW in zip(row, frames_TCHW, strict=True):
                show(axis, coloured(frame_CHW))
            row[0].set_ylabel(name, fontsize=7.5)
        for row in axes[len(lines) :]:
            for axis in row:
                axis.set_axis_off()
    save(figure, "simulation")


def _simulated(photo_HWC: np.ndarray, camera: Simulator) -> np.ndarray:
    return _framed(simulate_photo(photo_HWC, camera, SEED), camera, photo_HWC)


def _converted(photo_HWC: np.ndarray, camera: Simulator) -> np.ndarray:
    height, width = _cells(camera)
    fitted = fit_photo(photo_HWC, picture_size(*photo_HWC.shape[:2], camera), camera.margin)
    photo_B3HW = torch.from_numpy(fitted.transpose(2, 0, 1)[None].copy()).float() / 255
    made = Converter(replace(camera, margin=0.0), (height, width), STEPS)
    counts_BTCHW = made(photo_B3HW, made.takes([camera], [SEED]))
    return _cut(
        network_input(counts_BTCHW.round().int().numpy(), "recording")[0], camera, photo_HWC
    )


def _framed(events: Events, camera: Simulator, photo_HWC: np.ndarray) -> np.ndarray:
    counts_TCHW = frame_events(events, STEPS, _cells(camera))
    return _cut(network_input(counts_TCHW[None], "recording")[0], camera, photo_HWC)


def _cells(camera: Simulator) -> tuple[int, int]:
    return camera.height // 2, camera.width // 2


def _cut(frames_TCHW: np.ndarray, camera: Simulator, photo_HWC: np.ndarray) -> np.ndarray:
    """Where the photo is."""
    height, width = recorded_size(*photo_HWC.shape[:2], camera)
    return frames_TCHW[..., : height // 2, : width // 2]


if __name__ == "__main__":
    with drawing(), rc_context({"svg.fonttype": "path", "svg.hashsalt": "spikebridge"}):
        main(Path(sys.argv[1]), Path(sys.argv[2]))
