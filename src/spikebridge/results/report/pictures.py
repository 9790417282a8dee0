"""Photos and network input as pictures inside the page."""

import base64
import io
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image

from spikebridge.results.report.palette import EMPTY_RGB, OFF_RGB, ON_RGB

_PHOTO_SIDE, _SHEET_SIDE = 160, 112
_GAP_RGB = (128, 128, 128)
_COLOURS = 48


def photo_uri(photo_HWC: np.ndarray) -> str:
    """A photo as data URI, at most 160 pixels long; small ones keep every pixel."""
    image = Image.fromarray(photo_HWC)
    small = max(image.size) <= _PHOTO_SIDE // 2
    image.thumbnail((_PHOTO_SIDE, _PHOTO_SIDE))
    return _uri(image, "PNG" if small else "JPEG")


def event_pictures(x_TCHW: np.ndarray) -> np.ndarray:
    """Network input as pictures_THWC: ON and OFF mixed by their values, brighter for larger ones.

    Args:
        x_TCHW: Scaled event counts; channel 0 is OFF, 1 is ON.
    """
    off_THW, on_THW = x_TCHW[:, 0].astype(float), x_TCHW[:, 1].astype(float)
    total_THW = off_THW + on_THW
    events = total_THW > 0
    brightest = float(np.quantile(total_THW[events], 0.95)) if events.any() else 1.0
    strength_THW1 = np.sqrt(np.minimum(total_THW / brightest, 1.0))[..., None]
    share_THW1 = np.divide(on_THW, total_THW, out=np.zeros_like(on_THW), where=events)[..., None]
    colour_THWC = share_THW1 * np.array(ON_RGB) + (1 - share_THW1) * np.array(OFF_RGB)
    pictures_THWC = strength_THW1 * colour_THWC + (1 - strength_THW1) * np.array(EMPTY_RGB)
    return pictures_THWC.round().astype(np.uint8)


def strip(pictures_THWC: np.ndarray) -> str:
    """All pictures in one row without gaps, as data URI: the frames of an animation."""
    return _sheet(pictures_THWC, len(pictures_THWC), gaps=False)


def grid(pictures_THWC: np.ndarray) -> str:
    """All pictures side by side in rows of four or five, as data URI."""
    count = len(pictures_THWC)
    return _sheet(pictures_THWC, math.ceil(count / math.ceil(count / 5)), gaps=True)


def _sheet(pictures_THWC: Sequence[np.ndarray] | np.ndarray, columns: int, *, gaps: bool) -> str:
    images = [Image.fromarray(picture) for picture in pictures_THWC]
    for image in images:
        image.thumbnail((_SHEET_SIDE, _SHEET_SIDE))
    width, height = images[0].size
    gap = max(1, width // 32) if gaps else 0
    rows = math.ceil(len(images) / columns)
    size = (columns * (width + gap) - gap, rows * (height + gap) - gap)
    sheet = Image.new("RGB", size, _GAP_RGB)
    for place, image in enumerate(images):
        row, column = divmod(place, columns)
        sheet.paste(image, (column * (width + gap), row * (height + gap)))
    return _uri(sheet.quantize(_COLOURS, dither=Image.Dither.NONE), "PNG")


def _uri(image: Image.Image, kind: str) -> str:
    buffer = io.BytesIO()
    image.save(buffer, kind, optimize=True)
    data = base64.b64encode(buffer.getvalue()).decode()
    return f"data:image/{kind.lower()};base64,{data}"
