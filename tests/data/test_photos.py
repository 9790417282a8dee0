"""Photos: upright RGB whatever the file's mode, IDX files, and the stretch to a size."""

import gzip
import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from factories import idx_bytes, photo_folder, picture, refused
from spikebridge.base.errors import UserError
from spikebridge.data.photos import (
    PHOTO_SUFFIXES,
    fit_photo,
    list_photo_folder,
    read_idx,
    read_photo,
)


def test_a_folder_lists_classes_and_photos_in_order(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/10.JPG", "b/1.jpeg", "a/x.webp", "b/notes.txt", "a/x.bin"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "list.csv").touch()
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "b" / "._2.png").touch()
    classes = list_photo_folder(tmp_path)
    assert list(classes) == ["a", "b"]
    assert classes == {
        "a": [tmp_path / "a/x.webp"],
        "b": [tmp_path / "b/1.jpeg", tmp_path / "b/10.JPG", tmp_path / "b/2.png"],
    }


def test_a_folder_without_photos_is_refused(tmp_path: Path) -> None:
    missing = tmp_path / "none"
    refused(lambda: list_photo_folder(missing), missing, "no such folder", "check the path")
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x.txt").touch()
    refused(lambda: list_photo_folder(tmp_path), tmp_path, "no photo", "CLASS/PHOTO", ".png")


def test_a_class_without_a_photo_is_refused(tmp_path: Path) -> None:
    photo_folder(tmp_path, ("a",), 1)
    (tmp_path / "empty").mkdir()
    refused(lambda: list_photo_folder(tmp_path), tmp_path / "empty", "class without a photo")


def test_rgb_is_read_as_it_is(tmp_path: Path) -> None:
    photo_HWC = picture(0)
    for suffix in (".png", ".bmp"):
        Image.fromarray(photo_HWC).save(tmp_path / f"a{suffix}")
        read = read_photo(tmp_path / f"a{suffix}")
        assert read.dtype == np.uint8
        np.testing.assert_array_equal(read, photo_HWC)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_makes_photos_upright(tmp_path: Path, orientation: int) -> None:
    # What a camera stores of an upright photo when it is held as the tag says.
    upright_HWC = np.zeros((16, 24, 3), np.uint8)
    upright_HWC[:8, :8] = 250
    upright_HWC[:8, 16:] = 120
    stored = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: np.rot90(a, 1),
        7: lambda a: a[::-1, ::-1].transpose(1, 0, 2),
        8: lambda a: np.rot90(a, -1),
    }[orientation](upright_HWC)
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "a.jpg"
    Image.fromarray(np.ascontiguousarray(stored)).save(file, exif=exif, quality=100)
    read = read_photo(file)
    assert read.shape == upright_HWC.shape
    assert np.abs(read.astype(int) - upright_HWC).max() < 12


@pytest.mark.parametrize("mode", ["L", "1", "LA", "RGBA", "P", "CMYK", "I;16"])
def test_every_mode_becomes_rgb(tmp_path: Path, mode: str) -> None:
    grey_HW = np.repeat(np.array([[0, 255, 51, 204]], np.uint8), 4, 0)
    if mode == "I;16":
        image = Image.fromarray(grey_HW.astype(np.uint16) * 257)
    elif mode == "1":
        grey_HW = np.where(grey_HW > 127, 255, 0).astype(np.uint8)
        image = Image.fromarray(grey_HW).convert("1")
    else:
        image = Image.fromarray(np.stack([grey_HW] * 3, -1)).convert(mode)
    assert image.mode == mode
    file = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    image.save(file, **({"quality": 100} if mode == "CMYK" else {}))
    read = read_photo(file)
    assert read.shape == (4, 4, 3)
    assert np.abs(read.astype(int) - grey_HW[..., None]).max() <= (30 if mode == "CMYK" else 1)


def _png_of_16_bits(photo: np.ndarray, kind: int) -> bytes:
    def chunk(name: bytes, data: bytes = b"") -> bytes:
        length, check = struct.pack(">I", len(data)), struct.pack(">I", zlib.crc32(name + data))
        return length + name + data + check

    height, width = photo.shape[:2]
    rows = photo.astype(">u2").reshape(height, -1)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))
    data = chunk(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows)))
    return b"\x89PNG\r\n\x1a\n" + header + data + chunk(b"IEND")


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_grey_of_fewer_than_16_bits_in_16_is_no_black_photo(tmp_path: Path, bits: int) -> None:
    ramp_HW1 = np.linspace(0, (1 << bits) - 1, 64).astype(np.uint16).reshape(8, 8, 1)
    file = tmp_path / "a.png"
    file.write_bytes(_png_of_16_bits(ramp_HW1, 0))
    read = read_photo(file)
    np.testing.assert_array_equal(read, np.repeat(ramp_HW1 >> bits - 8, 3, 2))
    assert read.max() == 255
    # A photo that is dark by itself stays so.
    file.write_bytes(_png_of_16_bits(ramp_HW1 // 2 + (1 << 15), 0))
    assert read_photo(file).max() == ((1 << 15) + (1 << bits) // 2 - 1) >> 8


@pytest.mark.parametrize(("kind", "channels"), [(2, 3), (4, 2), (6, 4)])
def test_colour_of_few_bits_in_16_is_refused_not_read_as_black(
    tmp_path: Path, kind: int, channels: int
) -> None:
    file = tmp_path / "a.png"
    for bits in (10, 12, 14, 16):
        photo = np.full((4, 4, channels), (1 << bits) - 1)
        if channels != 3:
            photo[..., -1] = (1 << 16) - 1  # opaque
        file.write_bytes(_png_of_16_bits(photo, kind))
        if bits == 16:
            assert (read_photo(file) == 255).all()
        else:
            refused(lambda: read_photo(file), file, "16 bits per colour", "8 bits per colour")


def test_a_palette_with_transparent_entries_becomes_rgb(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 0]], np.uint8), mode=None).convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    image.save(tmp_path / "a.png", transparency=bytes([0, 128, 255]))
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [10, 20, 30]]]
    assert read_photo(tmp_path / "a.png").tolist() == expected


@pytest.mark.parametrize("suffix", PHOTO_SUFFIXES)
def test_an_undecodable_photo_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    file.write_bytes(b"no photo at all")
    refused(lambda: read_photo(file), file, "does not decode", "replace or remove it")
    file.write_bytes(b"")
    refused(lambda: read_photo(file), file, "does not decode")
    refused(lambda: read_photo(file.with_stem("b")), "no such file")


@pytest.mark.parametrize("suffix", PHOTO_SUFFIXES)
def test_a_truncated_photo_is_refused(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    Image.fromarray(noise).save(file)
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    refused(lambda: read_photo(file), file, "does not decode", "replace or remove it")


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@given(
    suffix=st.sampled_from(PHOTO_SUFFIXES),
    changes=st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), max_size=8),
    cut=st.floats(0.2, 1),
)
def test_a_damaged_photo_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory,
    suffix: str,
    changes: list[tuple[int, int]],
    cut: float,
) -> None:
    buffer = io.BytesIO()
    kind = {"jpg": "JPEG"}.get(suffix[1:], suffix[1:].upper())
    Image.fromarray(picture(1)).save(buffer, kind)
    data = bytearray(buffer.getvalue())
    for place, value in changes:
        data[place % len(data)] = value
    file = tmp_path_factory.getbasetemp() / f"damaged{suffix}"
    file.write_bytes(data[: int(cut * len(data))])
    try:
        outcome = read_photo(file)
    except UserError as error:
        outcome = str(error)
    if isinstance(outcome, str):
        assert str(file) in outcome
        assert "\n" not in outcome
    else:
        assert outcome.dtype == np.uint8
        assert outcome.shape[2] == 3


def test_a_decompression_bomb_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    Image.fromarray(picture(1)).save(tmp_path / "a.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    refused(lambda: read_photo(tmp_path / "a.png"), tmp_path / "a.png", "megapixels", "scale")


# IDX ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "t10k-images-idx3-ubyte.gz"])
def test_idx_plain_and_gzipped(tmp_path: Path, name: str) -> None:
    photos_NHW = np.arange(3 * 4 * 5, dtype=np.uint8).reshape(3, 4, 5)
    data = idx_bytes(photos_NHW)
    assert data[:16] == bytes([0, 0, 8, 3, 0, 0, 0, 3, 0, 0, 0, 4, 0, 0, 0, 5])
    (tmp_path / name).write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    np.testing.assert_array_equal(read_idx(tmp_path / name), photos_NHW)


IDX = idx_bytes(np.arange(60, dtype=np.uint8).reshape(3, 4, 5))


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (IDX[:-1], "truncated"),
        (IDX + b"\0", "(3, 4, 5)"),
        (IDX[:10], "truncated"),
        (IDX[:3], "not an IDX file"),
        (b"", "not an IDX file"),
        (b"\1" + IDX[1:], "not an IDX file"),
        (IDX[:2] + b"\x0d" + IDX[3:], "not an IDX file"),  # floats
        (IDX[:4] + b"\0\0\1\0" + IDX[8:], "(256, 4, 5)"),
        # 2^64 bytes, which is 0 in 64-bit arithmetic.
        (b"\0\0\x08\x04" + b"\0\1\0\0" * 4, "65536"),
        (IDX[:3] + b"\xff" + IDX[4:], "not an IDX file"),
    ],
    ids=range(10),
)
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_a_damaged_idx_is_refused(tmp_path: Path, data: bytes, word: str, suffix: str) -> None:
    file = tmp_path / f"images{suffix}"
    file.write_bytes(gzip.compress(data) if suffix else data)
    refused(lambda: read_idx(file), file, word, "fetch it again")


def test_a_damaged_gzip_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "images.gz"
    good = gzip.compress(IDX)
    for data in (good[:-9], good[:12], b"plain", good[:20] + b"\xff\xff" + good[22:], b""):
        file.write_bytes(data)
        refused(lambda: read_idx(file), file, "fetch it again")
    refused(lambda: read_idx(tmp_path / "none.gz"), "no such IDX file", "data.photos")


# The stretch to a size ---------------------------------------------------------------------------


def test_fit_photo_keeps_what_fits() -> None:
    photo_HWC = picture(3)
    np.testing.assert_array_equal(fit_photo(photo_HWC, (16, 16)), photo_HWC)


def test_fit_photo_stretches_both_sides_apart() -> None:
    photo_HWC = np.zeros((10, 40, 3), np.uint8)
    photo_HWC[:5, :20] = (200, 100, 50)
    fitted = fit_photo(photo_HWC, (20, 8))
    assert fitted.shape == (20, 8, 3)
    np.testing.assert_array_equal(fitted[:8, :3], np.broadcast_to((200, 100, 50), (8, 3, 3)))
    assert not fitted[12:].any()
    assert not fitted[:, 5:].any()


def test_fit_photo_puts_a_black_margin_inside() -> None:
    white = np.full((30, 30, 3), 255, np.uint8)
    fitted = fit_photo(white, (20, 40), 0.1)
    expected = np.zeros((20, 40, 3), np.uint8)
    expected[2:18, 4:36] = 255
    np.testing.assert_array_equal(fitted, expected)


@given(st.integers(4, 20), st.integers(4, 20), st.floats(0, 0.499))
def test_fit_photo_keeps_the_size_at_any_margin(height: int, width: int, margin: float) -> None:
    fitted = fit_photo(np.full((9, 9, 3), 255, np.uint8), (height, width), margin)
    assert fitted.shape == (height, width, 3)
    assert fitted.any()
