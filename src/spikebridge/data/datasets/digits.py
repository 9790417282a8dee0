"""Scikit-learn's handwritten digits, embedded; their recordings are simulated."""

import hashlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from spikebridge.base.files import atomic_path, settings_key
from spikebridge.data.collection import cache_folder
from spikebridge.data.datasets.folders import FOLDERS
from spikebridge.data.settings import DataConfig

_COUNTS = (178, 182, 177, 183, 181, 182, 181, 179, 174, 180)


def digits_folder(config: DataConfig) -> Path:
    """The 1,797 digits as PNG files in ImageFolder layout, kept in the cache."""
    from sklearn.datasets import load_digits

    digits: Any = load_digits()
    photos_NHW = np.round(digits.images * (255 / 16)).astype(np.uint8)
    key = settings_key("digits", hashlib.sha256(photos_NHW.tobytes()).hexdigest())
    root = cache_folder(config) / f"digits-{key}"
    done = root / "complete"
    if not done.exists():
        for index, (photo_HW, label) in enumerate(zip(photos_NHW, digits.target, strict=True)):
            with atomic_path(root / "photos" / str(label) / f"image_{index:04d}.png") as temporary:
                Image.fromarray(photo_HW).save(temporary, format="PNG")
        done.touch()
    return root / "photos"


DIGITS = replace(
    FOLDERS,
    name="digits",
    title="Handwritten digits of scikit-learn, embedded",
    published=dict(zip("0123456789", _COUNTS, strict=True)),
    classes_note="1,797 photos of 8x8 pixels; the demo's data",
    camera="simulated (data.simulator)",
    licence="CC BY 4.0 (UCI, Optical Recognition of Handwritten Digits)",
    source="comes with scikit-learn; nothing to fetch",
    events_layout=("nothing: recordings are simulated into the cache",),
    photos_layout=("nothing",),
    pairing="each recording is simulated of one photo",
    recipes=("digits",),
    page="README.md",
)
