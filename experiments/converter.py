"""The converter beside eventcv: how alike their frames are, and what both cost; Markdown tables.

    python experiments/converter.py --photos CALTECH101 --digits MNIST [--count 200] [--cost-only]

Both see the same photos (of Caltech101 as the recipe keeps them, 160×160), paths and cameras. Cost
is CPU time of one thread, the median of turns that the rows take there and back.
"""

import argparse
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from benchmarks.problem import BenchSettings
from benchmarks.training import starter
from spikebridge.data.feed.source import draw_camera
from spikebridge.data.frames import frame_events
from spikebridge.data.photos import fit_photo, list_photo_folder, read_idx, read_photo
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.converter import Converter
from spikebridge.data.simulation.simulate import simulate_photo
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.teacher import build_teacher

STEPS = 4
SUB_FRAMES = (12, 24, 36, 60)
CLEAN = {
    "threshold_sigma": 0.0,
    "refractory_us": 0,
    "leak_rate_hz": 0.0,
    "shot_noise_hz": 0.0,
    "background_hz": 0.0,
}


@dataclass(frozen=True)
class Scene:
    """Photos before a camera."""

    name: str
    photos: Sequence[np.ndarray]
    camera: Simulator
    size: tuple[int, int]


def scenes(caltech: Path, digits: Path, count: int) -> list[Scene]:
    """Recipe caltech101's photos and camera; MNIST's before a sensor of N-MNIST's."""
    files = [f for of in list_photo_folder(caltech, ["Faces"]).values() for f in of]
    chosen = files[:: max(1, len(files) // count)][:count]
    recipe = Simulator(
        width=96, height=96, aspect="stretch", amplitude=8.0, pos_threshold=0.3, neg_threshold=0.3
    )
    screen = Simulator(margin=0.09, pos_threshold=0.8, neg_threshold=0.8)
    return [
        Scene(
            "Caltech101", [fit_photo(read_photo(f), (160, 160)) for f in chosen], recipe, (32, 32)
        ),
        Scene("digits", digit_photos(digits, count), screen, (34, 34)),
    ]


def digit_photos(folder: Path, count: int) -> list[np.ndarray]:
    """MNIST's first test photos."""
    grey_NHW = read_idx(next(folder.glob("t10k-images*")))[:count]
    return [np.repeat(grey_HW[..., None], 3, 2) for grey_HW in grey_NHW]


def fidelity(scene: Scene) -> None:
    """Print a row for each kind of camera and each number of sub-frames."""
    photo_B3HW = as_tensor(scene.photos)
    for kind in ("clean", "all on", "all on, randomised"):
        camera = replace(scene.camera, **CLEAN) if kind == "clean" else scene.camera
        spread = 0.3 if kind.endswith("randomised") else 0.0
        cameras = [draw_camera(camera, spread, f"{seed:x}") for seed in range(len(scene.photos))]
        wanted = np.stack(
            [
                frame_events(simulate_photo(photo, one, seed), STEPS, scene.size)
                for seed, (photo, one) in enumerate(zip(scene.photos, cameras, strict=True))
            ]
        ).astype(float)
        for sub_frames in SUB_FRAMES:
            made = Converter(camera, scene.size, STEPS, sub_frames=sub_frames)
            found = made(photo_B3HW, made.takes(cameras, range(len(cameras)))).double().numpy()
            apart = " | ".join(f"{100 * x:+.1f} %" for x in differences(found, wanted))
            alike = likeness(found, wanted)
            print(f"| {scene.name} | {kind} | {sub_frames} | {alike:.3f} | {apart} |", flush=True)


def as_tensor(photos: Sequence[np.ndarray]) -> torch.Tensor:
    """Photos as a step has them, photo_B3HW in [0, 1]."""
    return torch.from_numpy(np.stack(photos).transpose(0, 3, 1, 2)).float() / 255


def likeness(found: np.ndarray, wanted: np.ndarray) -> float:
    """Correlation of a recording's frames with eventcv's, mean."""
    pairs = zip(found.reshape(len(found), -1), wanted.reshape(len(wanted), -1), strict=True)
    return float(np.mean([np.corrcoef(a, b)[0, 1] for a, b in pairs]))


def differences(found: np.ndarray, wanted: np.ndarray) -> list[float]:
    """Of events per recording, ON share, active cells, and the farthest time bin's rate."""

    def of(x_BTCHW: np.ndarray) -> tuple[float, ...]:
        total = x_BTCHW.sum()
        rate_T = x_BTCHW.sum((0, 2, 3, 4)) / total
        return (
            total / len(x_BTCHW),
            x_BTCHW[:, :, 1].sum() / total,
            (x_BTCHW.sum((1, 2)) > 0).mean(),
            *rate_T,
        )

    apart = [a / b - 1 for a, b in zip(of(found), of(wanted), strict=True)]
    return [*apart[:3], max(apart[3:], key=abs)]


def cost(scene: Scene, turns: int) -> None:
    """Print what 40 photos cost beside a step of the student and a pass of the teacher."""
    torch.set_num_threads(1)
    photos = [*scene.photos[:40]]
    photo_B3HW, cameras = as_tensor(photos), [scene.camera] * len(photos)
    made = Converter(scene.camera, scene.size, STEPS)
    plain = Converter(scene.camera, scene.size, STEPS, native=False)
    takes = made.takes(cameras, range(len(photos)))
    settings = BenchSettings(width=0.25, size=32, time_steps=STEPS, classes=25, batch=20, threads=1)
    step_20, step_40 = (starter("ours", replace(settings, batch=b))()[0] for b in (20, 40))
    config = TeacherConfig(name="efficientnet-lite0")
    teacher = build_teacher(config, 25, pretrained=False).eval()

    def recorded() -> None:
        for seed, photo in enumerate(photos[:8]):
            frame_events(simulate_photo(photo, scene.camera, seed), STEPS, scene.size)

    rows: dict[str, tuple[Callable[[], object], float]] = {
        "converter": (lambda: made(photo_B3HW, takes), 1),
        "its paths and cameras, drawn": (lambda: made.takes(cameras, range(len(photos))), 1),
        "converter in PyTorch": (lambda: plain(photo_B3HW, takes), 1),
        "eventcv": (recorded, len(photos) / 8),
        "student's step, 20 + 20": (lambda: step_20(0), 1),
        "student's step, 40 + 40": (lambda: step_40(0), 1),
        "teacher's pass, efficientnet-lite0": (torch.no_grad()(lambda: teacher(photo_B3HW)), 1),
    }
    taken: dict[str, list[float]] = {name: [] for name in rows}
    for turn in range(turns + 1):
        for name in [*rows][:: -1 if turn % 2 else 1]:
            call, times = rows[name]
            began = time.process_time()
            call()
            if turn:  # The first one warms.
                taken[name].append(1000 * times * (time.process_time() - began))
    medians = {name: statistics.median(of) for name, of in taken.items()}
    step = medians["student's step, 40 + 40"]
    print(f"\n| {len(photos)} photos, {scene.name}, one thread | ms | of a step of 40 + 40 |")
    print("| --- | ---: | ---: |")
    for name, ms in medians.items():
        print(f"| {name} | {ms:.1f} | {100 * ms / step:.0f} % |")


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Hold the converter against eventcv.")
    parser.add_argument("--photos", type=Path, required=True, help="folder CLASS/PHOTO")
    parser.add_argument("--digits", type=Path, required=True, help="folder of MNIST's IDX files")
    parser.add_argument("--count", type=int, default=200, help="photos of each kind")
    parser.add_argument("--turns", type=int, default=9, help="turns that each row of costs takes")
    parser.add_argument("--cost-only", action="store_true", help="leave fidelity out")
    args = parser.parse_args()
    both = scenes(args.photos, args.digits, args.count)
    if not args.cost_only:
        print("| photos | camera | sub-frames | correlation | events | ON share | active | rate |")
        print("| --- | --- | ---: | ---: | ---: | ---: | ---: | ---: |")
        for scene in both:
            fidelity(scene)
    cost(both[0], args.turns)


if __name__ == "__main__":
    main()
