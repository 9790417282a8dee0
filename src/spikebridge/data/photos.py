"""Photos: ImageFolder layout and MNIST's IDX files."""

import gzip
import math
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spikebridge.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_IDX_UINT8 = 8


def list_photo_folder(
    root: str | os.PathLike[str], exclude: Sequence[str] = ()
) -> dict[str, list[Path]]:
    """Photos of each class below ROOT/CLASS, in order of name (ImageFolder layout).

    Hidden files and folders are passed over.

    Args:
        root: The folder.
        exclude: Classes to leave out.

    Raises:
        UserError: no such folder, no photo in it, or a class without a photo.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photos; set data.photos")
    classes = list_classes(folder, PHOTO_SUFFIXES, exclude)
    if not any(classes.values()):
        raise UserError(
            f"{folder}: no photo found; expected {folder}/CLASS/PHOTO with one of "
            f"{', '.join(PHOTO_SUFFIXES)}"
        )
    for name, files in classes.items():
        if not files:
            raise UserError(f"{folder / name}: class without a photo; add some or exclude it")
    return classes


def list_classes(
    folder: Path, suffixes: Sequence[str], exclude: Sequence[str]
) -> dict[str, list[Path]]:
    """Files with one of the suffixes in each subfolder, in order of name, none of them hidden."""
    return {
        child.name: sorted(
            file
            for file in child.iterdir()
            if file.suffix.lower() in suffixes and not file.name.startswith(".")
        )
        for child in sorted(folder.iterdir())
        if child.is_dir() and not child.name.startswith(".") and child.name not in exclude
    }


def read_photo(file: str | os.PathLike[str]) -> np.ndarray:
    """RGB photo_HWC as uint8, upright as its EXIF orientation says.

    Transparency is left out; 16 bits of grey are scaled to 8.

    Raises:
        UserError: the file is missing or does not decode.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(_as_rgb(ImageOps.exif_transpose(image)))
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: photo of more than 179 megapixels; scale it down") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        reason = "no such file" if isinstance(error, FileNotFoundError) else "it does not decode"
        raise UserError(f"{file}: unreadable photo ({reason}); replace or remove it") from error


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit grey to white
        image = Image.fromarray((np.asarray(image) // 256).clip(0, 255).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image.convert("RGB")


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Array of unsigned bytes in an IDX file (LeCun), plain or gzipped.

    Raises:
        UserError: missing, truncated, or not IDX.
    """
    file = Path(path)
    try:
        data = gzip.decompress(file.read_bytes()) if file.suffix == ".gz" else file.read_bytes()
    except FileNotFoundError as error:
        raise UserError(f"{file}: no such IDX file; check data.photos") from error
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: damaged gzip file; fetch it again") from error
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != _IDX_UINT8:
        raise UserError(f"{file}: not an IDX file of unsigned bytes; fetch it again")
    start = 4 + 4 * data[3]
    shape = [int.from_bytes(data[i : i + 4]) for i in range(4, min(start, len(data)), 4)]
    if len(data) - start != math.prod(shape):
        raise UserError(
            f"{file}: truncated or damaged, {len(data)} bytes for shape {tuple(shape)}; "
            "fetch it again"
        )
    return np.frombuffer(data, np.uint8, offset=start).reshape(shape)


def fit_photo(photo_HWC: np.ndarray, size: tuple[int, int], margin: float = 0.0) -> np.ndarray:
    """Stretch a photo to a size, with a black margin inside it.

    Photo and recording are stretched by the same rule, so that their contents coincide.

    Args:
        photo_HWC: RGB, uint8.
        size: Height and width of the result in pixels.
        margin: Black on every side, as a share of the result's height and width.
    """
    rows, columns = (min(round(margin * side), (side - 1) // 2) for side in size)
    image = Image.fromarray(photo_HWC).resize(
        (size[1] - 2 * columns, size[0] - 2 * rows), Image.Resampling.BILINEAR
    )
    return np.pad(np.asarray(image), ((rows, rows), (columns, columns), (0, 0)))
