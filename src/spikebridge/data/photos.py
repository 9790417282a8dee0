"""Photos: ImageFolder layout and MNIST's IDX files."""

import gzip
import math
import os
import warnings
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from spikebridge.base.errors import UserError

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp")

_FORMATS = ("JPEG", "PNG", "BMP", "WEBP")
_MAX_PIXELS = 1 << 26
_GREY_BITS = (8, 10, 12, 14, 16)
_LARGEST_GREY = (1 << 16) - 1
_SMALLEST_OF_16_BITS = 1 << 14 - 8
_IDX_UINT8 = 8
_IDX_MAX_SIZE = 1 << 30
_IDX_MAX_AXES = 8
_GZIP_MAX_GROWTH = 1100

# What Pillow says of damaged files, to stderr, is said by `read_photo`, or does not matter.
warnings.filterwarnings("ignore", module=r"PIL\.")


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
        raise UserError(f"{folder}: no such folder of photos; check the path")
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

    Transparency is left out. Grey of 16 bits is scaled to 8 from as many bits, of 8, 10, 12, 14 and
    16, as its largest value takes: cameras of 10 or 12 bits leave the upper ones empty.

    Raises:
        UserError: the file is missing, does not decode, has more than 67 megapixels, or is of 16
            bits in colour, of which 14 hold all: they decode to 8 bits that are nearly black.
    """
    if not os.path.isfile(file):
        raise UserError(f"{file}: unreadable photo (no such file); replace or remove it")
    if not os.access(file, os.R_OK):
        raise UserError(f"{file}: unreadable photo (no permission); change its permissions")
    try:
        with Image.open(file, formats=_FORMATS) as image:
            if image.width * image.height > _MAX_PIXELS:
                raise Image.DecompressionBombError
            ImageOps.exif_transpose(image, in_place=True)
            photo_HWC = np.asarray(_as_rgb(image))
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise UserError(f"{file}: photo of more than 67 megapixels; scale it down") from error
    except Exception as error:  # Pillow's decoders raise a dozen kinds on damaged files
        raise UserError(
            f"{file}: unreadable photo (it does not decode); replace or remove it"
        ) from error
    if _is_colour_of_16_bits(file) and photo_HWC.max() < _SMALLEST_OF_16_BITS:
        raise UserError(
            f"{file}: photo of 16 bits per colour whose values take 14 at most, so that it would "
            "read as nearly black; save it with 8 bits per colour"
        )
    return photo_HWC


def _as_rgb(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):  # Pillow clips 16-bit grey to white
        grey_HW = np.asarray(image).clip(0, _LARGEST_GREY)
        bits = next(bits for bits in _GREY_BITS if grey_HW.max() < 1 << bits)
        image = Image.fromarray((grey_HW >> bits - 8).astype(np.uint8))
    elif image.mode == "P" and "transparency" in image.info:
        image = image.convert("RGBA")
    return image if image.mode == "RGB" else image.convert("RGB")


def _is_colour_of_16_bits(file: str | os.PathLike[str]) -> bool:
    """Whether a file is a PNG of such a kind; Pillow keeps the upper 8."""
    with open(file, "rb") as stream:
        start = stream.read(26)
    return start.startswith(b"\x89PNG") and start[24:25] == b"\x10" and start[25:26] != b"\0"


def read_idx(path: str | os.PathLike[str]) -> np.ndarray:
    """Array of unsigned bytes in an IDX file (LeCun), plain or gzipped.

    Raises:
        UserError: missing, truncated, not IDX, or of more than 1 GiB.
    """
    file = Path(path)
    if not os.path.isfile(file):
        raise UserError(f"{file}: no such IDX file; check data.photos")
    try:
        with gzip.open(file) if file.suffix == ".gz" else open(file, "rb") as stream:
            start = stream.read(4)
            axes = start[3] if len(start) == 4 else 0
            if start[:3] != bytes([0, 0, _IDX_UINT8]) or not 1 <= axes <= _IDX_MAX_AXES:
                raise UserError(f"{file}: not an IDX file of unsigned bytes; fetch it again")
            sizes = stream.read(4 * axes)
            shape = tuple(int.from_bytes(sizes[i : i + 4]) for i in range(0, len(sizes), 4))
            size = math.prod(shape)
            if len(sizes) < 4 * axes:
                raise EOFError("truncated header")
            if not 0 < size <= _IDX_MAX_SIZE:
                raise UserError(f"{file}: empty, too large or damaged, {shape}; fetch it again")
            # What is asked for is taken from memory before it is read.
            possible = file.stat().st_size * (_GZIP_MAX_GROWTH if file.suffix == ".gz" else 1)
            data = stream.read(size + 1) if size <= possible else b""
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{file}: unreadable or damaged ({error}); fetch it again") from error
    if len(data) != size:
        raise UserError(f"{file}: truncated or damaged, shape {shape}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(shape)


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
