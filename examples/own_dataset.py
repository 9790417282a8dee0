"""A custom data set: recordings and photos of your own become folders, then a trained student.

python examples/own_dataset.py [FOLDER]
"""

import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from sklearn.datasets import load_digits

from spikebridge import Simulator, config_from, load_run, prepare, simulate_photo, train_student
from spikebridge.results.predict import predict

CAMERA = Simulator(width=32, height=32, pos_threshold=0.6, neg_threshold=0.6)


def main(root: Path) -> None:
    """Write EVENTS/CLASS/NAME.npz and PHOTOS/CLASS/NAME.png, train on them, and predict."""
    digits: Any = load_digits(n_class=3)  # Put your reader here.
    for number, (grey_HW, label) in enumerate(
        zip(digits.images[:240], digits.target, strict=False)
    ):
        photo_HWC = np.repeat((15 * grey_HW).astype(np.uint8)[..., None], 3, 2)
        for kind in ("events", "photos"):
            (root / kind / str(label)).mkdir(parents=True, exist_ok=True)
        Image.fromarray(photo_HWC).save(root / "photos" / str(label) / f"{number:04d}.png")
        if number < 60:  # Few recordings, many photos; equal names mean the same scene.
            e = simulate_photo(photo_HWC, CAMERA, seed=number)
            file = root / "events" / str(label) / f"{number:04d}.npz"
            np.savez(file, x=e.x_N, y=e.y_N, t=e.t_N, p=e.polarity_N)  # t in microseconds
    settings = {
        "data": {
            "name": "folders",
            "events": str(root / "events"),
            "photos": str(root / "photos"),
            "sensor": [32, 32],
            "size": [16, 16],
            "split": {"labelled_per_class": 4, "validation_per_class": 4, "test_per_class": 8},
        },
        "student": {"width": 0.125},
        "teacher": {"width": 0.25, "epochs": 4, "batch_size": 32, "lr": 0.01},
        "train": {
            "epochs": 8,
            "batches_per_epoch": 6,
            "batch_size": 12,
            "lr": 0.4,
            "warmup_epochs": 1,
        },
    }
    config = config_from(settings, "own_dataset.py")
    data = prepare(config.data, config.seed)
    result = train_student(config, data, root / "ckd", teacher_folder=root / "teacher")
    print(f"test accuracy {result['test_top1']:.1f} %")
    print(predict(load_run(root / "ckd"), [file], top=1))


if __name__ == "__main__":
    main(Path(sys.argv[1] if len(sys.argv) > 1 else "runs/own-dataset"))
