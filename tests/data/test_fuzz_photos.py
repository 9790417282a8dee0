"""Whatever bytes a photo or an IDX file holds, it is read, or refused in one line that names it."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from fuzz_seeds import IDX, IDX_ARRAY, PHOTOS, anything, photo
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from factories import idx_bytes, picture, refused
from spikebridge.base.errors import UserError
from spikebridge.data import photos
from spikebridge.data.photos import fit_photo, read_idx, read_photo

FUZZ = settings(max_examples=80, suppress_health_check=[HealthCheck.function_scoped_fixture])


def outcome(read, file: Path) -> np.ndarray | None:
    try:
        array = read(file)
    except UserError as error:
        line = str(error)
        assert str(file) in line
        assert line.isprintable()
        assert len(line) < 600
        return None
    assert array.dtype == np.uint8
    assert array.size > 0
    return array


@pytest.mark.filterwarnings("ignore:::PIL")  # as `photos` sets it where no test framework does
@pytest.mark.parametrize("kind", PHOTOS)
@given(draw=st.data())
@FUZZ
def test_any_bytes_are_a_photo_or_refused(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], kind: str, draw: st.DataObject
) -> None:
    suffix, data = PHOTOS[kind]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(draw.draw(anything(suffix, data)))
    photo_HWC = outcome(read_photo, file)
    if photo_HWC is not None:
        assert photo_HWC.shape == (*photo_HWC.shape[:2], 3)
        assert fit_photo(photo_HWC, (8, 8)).shape == (8, 8, 3)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("kind", IDX)
@given(draw=st.data())
@FUZZ
def test_any_bytes_are_an_array_or_refused(tmp_path: Path, kind: str, draw: st.DataObject) -> None:
    suffix, data = IDX[kind]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(draw.draw(anything(suffix, data)))
    outcome(read_idx, file)


@pytest.mark.parametrize("kind", IDX)
def test_an_idx_file_cut_anywhere_is_refused(tmp_path: Path, kind: str) -> None:
    suffix, data = IDX[kind]
    file = tmp_path / f"a{suffix}"
    file.write_bytes(data)
    np.testing.assert_array_equal(read_idx(file), IDX_ARRAY)
    for length in range(len(data)):
        file.write_bytes(data[:length])
        refused(lambda: read_idx(file), file)


@pytest.mark.parametrize(
    "data",
    [
        bytes([0, 0, 8, 0, 7]),
        bytes([0, 0, 8, 65]) + bytes([0, 0, 0, 1]) * 65 + b"\7",
        bytes([0, 0, 8, 255]) + bytes([0, 0, 0, 1]) * 255 + b"\7",
        idx_bytes(np.zeros((0, 28, 28), np.uint8)),
        bytes([0, 0, 8, 3]) + bytes(4) + b"\xff" * 8,
    ],
    ids=["no axis", "65 axes", "255 axes", "no photo", "no photo of impossible size"],
)
def test_idx_of_impossible_shape_is_refused(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.idx").write_bytes(data)
    refused(lambda: read_idx(tmp_path / "a.idx"), tmp_path / "a.idx", "fetch it again")


def test_idx_with_many_axes_keeps_its_line_short(tmp_path: Path) -> None:
    file = tmp_path / "a.idx"
    file.write_bytes(bytes([0, 0, 8, 200]) + b"\xee" * 800)
    assert len(refused(lambda: read_idx(file), file)) < 300


def test_a_photo_of_too_many_pixels_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "a.png"
    Image.fromarray(picture(1)).save(file)
    monkeypatch.setattr(photos, "_MAX_PIXELS", 255)
    refused(lambda: read_photo(file), file, "megapixels", "scale it down")
    monkeypatch.setattr(photos, "_MAX_PIXELS", 256)
    np.testing.assert_array_equal(read_photo(file), picture(1))


def test_other_formats_are_no_photos_whatever_their_name(tmp_path: Path) -> None:
    """Pillow knows forty formats; one of them, EPS, runs a program."""
    for kind in ("GIF", "TIFF", "EPS", "PPM"):
        file = tmp_path / f"{kind}.jpg"
        file.write_bytes(photo(kind))
        refused(lambda f=file: read_photo(f), file, "does not decode")
    file = tmp_path / "a.jpg"
    file.write_bytes(photo("PNG"))
    np.testing.assert_array_equal(read_photo(file), picture(1))


def test_nothing_is_said_of_damaged_photos_but_the_line(tmp_path: Path) -> None:
    """Pillow warns of damaged EXIF and of photos between 89 and 179 megapixels."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "made by hand"
    data = bytearray(photo("JPEG", exif=exif))
    place = data.index(b"Exif\0\0") + 16
    data[place : place + 4] = b"\xff" * 4
    (tmp_path / "exif.jpg").write_bytes(data)
    large = bytearray(photo("BMP"))
    large[18:26] = (10_000).to_bytes(4, "little") * 2
    (tmp_path / "large.bmp").write_bytes(large)
    code = (
        "import sys; from spikebridge.data.photos import read_photo\n"
        "from spikebridge.base.errors import UserError\n"
        "for name in sys.argv[1:]:\n"
        "    try: print(read_photo(name).shape)\n"
        "    except UserError as error: print(error)\n"
    )
    files = [str(tmp_path / "exif.jpg"), str(tmp_path / "large.bmp")]
    for options in ([], ["-W", "error"], ["-W", "always"]):
        done = subprocess.run(
            [sys.executable, *options, "-c", code, *files], capture_output=True, text=True
        )
        lines = done.stdout.splitlines()
        assert done.stderr == ""
        assert lines[0] == "(16, 16, 3)" or "does not decode" in lines[0]
        assert "megapixels" in lines[1]
