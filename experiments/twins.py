"""Simulated twins of N-Caltech101 and CEP-DVS, each in its own layout and format.

    python experiments/twins.py ncaltech101 ../shared/data runs/twins/ncaltech101
    python experiments/twins.py cep-dvs ../shared/data runs/twins/cep-dvs

The second argument is a folder with caltech101-full/CLASS/image_NNNN.jpg and
ncaltech101/Faces_easy/image_0001.bin. What is there already is kept: repeat the command to go on
where it was interrupted.

N-Caltech101: every class of at least 50 photos but Faces, the first 60 of each, and a recording of
each by a camera fitted to the real recording. CEP-DVS: the first 20 classes, in order of name, with
64 photos of which none looks like another, but Faces and BACKGROUND_Google; 40 of each are
recorded, the 24 others are the photos, so that no recording's photo is among them. A row of
pathFile.csv holds Caltech101's class and, as the class that counts, one of CIFAR-100's twenty
names, which stand for nothing here.
"""

import argparse
import shutil
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import numpy as np
from scipy.io import savemat

from spikebridge.base.console import each_in_threads
from spikebridge.base.files import atomic_path, write_text
from spikebridge.cli import main as spikebridge
from spikebridge.data.datasets.cepdvs import CLASSES
from spikebridge.data.events import Events
from spikebridge.data.hashes import SMALL_LOOK, look_hash, lookalikes
from spikebridge.data.photos import list_photo_folder, read_photo
from spikebridge.data.simulation.camera import Simulator
from spikebridge.data.simulation.simulate import simulate_photo

FEWEST, MOST = 50, 60
RECORDED, SHOWN = 40, 24
CEP_CAMERA = Simulator(width=128, height=128, motion="random", amplitude=8.0)


def main() -> int:
    parser = argparse.ArgumentParser(description="Make a twin of N-Caltech101 or CEP-DVS.")
    parser.add_argument("name", choices=["ncaltech101", "cep-dvs"])
    parser.add_argument("data", type=Path)
    parser.add_argument("out", type=Path)
    args = parser.parse_args()
    return {"ncaltech101": ncaltech101, "cep-dvs": cep_dvs}[args.name](args.data, args.out)


def ncaltech101(data: Path, out: Path) -> int:
    """Photos below OUT/photos, recordings below OUT/recordings."""
    for name, files in list_photo_folder(data / "caltech101-full", ["Faces"]).items():
        for file in files[:MOST] if len(files) >= FEWEST else ():
            copy(file, out / "photos" / name / file.name)
    like = ["--like", str(data / "ncaltech101/Faces_easy/image_0001.bin")]
    like += ["--photo", str(data / "caltech101-full/Faces_easy/image_0001.jpg")]
    folders = ["--photos", str(out / "photos"), "--out", str(out / "recordings")]
    return spikebridge(["simulate", *like, *folders])


def cep_dvs(data: Path, out: Path) -> int:
    """pathFile.csv, photos and recordings below OUT."""
    classes: dict[str, list[Path]] = {}
    for name, files in list_photo_folder(
        data / "caltech101-full", ["Faces", "BACKGROUND_Google"]
    ).items():
        if len(files) >= RECORDED + SHOWN and len(classes) < len(CLASSES):
            found = list(islice(unlike(files), RECORDED + SHOWN))
            if len(found) == RECORDED + SHOWN:
                classes[name] = found
    # As published, neighbours are of other classes.
    numbered = [
        (files[place], name, counted)
        for place in range(RECORDED + SHOWN)
        for (name, files), counted in zip(classes.items(), CLASSES, strict=True)
    ]
    rows = [
        f"{number} img/{number:05d}.jpg MAT/img/{number:05d}.mat {name} {counted} {file.stem}"
        for number, (file, name, counted) in enumerate(numbered)
    ]
    write_text(out / "pathFile.csv", "\n".join(["index image events fine coarse of", *rows]) + "\n")
    recorded = RECORDED * len(CLASSES)
    for number, (file, _, _) in enumerate(numbered[recorded:], recorded):
        copy(file, out / f"data/img/{number:05d}.jpg")

    def record(number: int) -> None:
        target = out / f"data/MAT/img/{number:05d}.mat"
        if not target.exists():
            events = simulate_photo(read_photo(numbered[number][0]), CEP_CAMERA, number)
            with atomic_path(target) as temporary, open(temporary, "wb") as stream:
                savemat(stream, as_published(events), do_compression=True)
                stream.seek(0)
                stream.write(b"MATLAB 5.0 MAT-file".ljust(116))  # It held the time.

    each_in_threads(record, range(recorded), "simulating recordings")
    return 0


def copy(file: Path, target: Path) -> None:
    if not target.exists():
        with atomic_path(target) as temporary:
            shutil.copyfile(file, temporary)


def unlike(files: list[Path]) -> Iterator[Path]:
    """Those that look like none before them."""
    looks = np.empty((0, 544), np.uint8)
    for file in files:
        look = look_hash(read_photo(file))
        if len(look) != SMALL_LOOK and not any(lookalikes(look[None], looks)):
            looks = np.concatenate([looks, look[None]])
            yield file


def as_published(events: Events) -> dict[str, np.ndarray]:
    """The variables of CEP-DVS's files, columns of doubles."""
    columns = {
        "x": events.x_N,
        "y": events.y_N,
        "ts": events.t_N,
        "p": np.where(events.polarity_N, 1, -1),
    }
    return {name: column.astype(np.float64)[:, None] for name, column in columns.items()}


if __name__ == "__main__":
    raise SystemExit(main())
