"""Photos: ImageFolder layout and MNIST's IDX files."""

import gzip
import os
import zlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from spikebridge.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_IDX_UINT8 = 8


def list_photo_folder(root: str | os.PathLike[str]) -> dict[str, list[Path]]:
    """Photos of each class below ROOT/CLASS, in order of name (ImageFolder layout).

    Raises:
        UserError: no such folder, no photo in it, or a class without a photo.
    """
    folder = Path(root)
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of photos; set data.photos")
    classes = {
        child.name: sorted(f for f in child.iterdir() if f.suffix.lower() in PHOTO_SUFFIXES)
        for child in sorted(folder.iterdir())
        if child.is_dir()
    }
    if not any(classes.values()):
        raise UserError(
            f"{folder}: no photo found; expected {folder}/CLASS/PHOTO with one of "
            f"{', '.join(PHOTO_SUFFIXES)}"
        )
    return classes


def read_photo(file: str | os.PathLike[str]) -> np.ndarray:
    """RGB photo_HWC as uint8, upright as its EXIF orientation says.

    Raises:
        UserError: the file is missing or does not decode.
    """
    try:
        with Image.open(file) as image:
            return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        reason = "no such file" if isinstance(error, FileNotFoundError) else "it does not decode"
        raise UserError(f"{file}: unreadable photo ({reason}); replace or remove it") from error
    except Image.DecompressionBombError as error:
        raise UserError(f"{file}: photo of more than 179 megapixels; scale it down") from error


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
    dimensions = data[3]
    start = 4 + 4 * dimensions
    shape = np.frombuffer(data[4:start], ">u4").astype(np.int64)
    if len(shape) < dimensions or len(data) - start != shape.prod():
        raise UserError(
            f"{file}: truncated, {len(data)} bytes for shape {tuple(shape)}; fetch it again"
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
    rows, columns = (round(margin * side) for side in size)
    image = Image.fromarray(photo_HWC).resize(
        (size[1] - 2 * columns, size[0] - 2 * rows), Image.Resampling.BILINEAR
    )
    return np.pad(np.asarray(image), ((rows, rows), (columns, columns), (0, 0)))
