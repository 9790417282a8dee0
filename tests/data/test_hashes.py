"""Content hashes that are remembered rightly, and perceptual hashes that find likenesses."""

import hashlib
import io
import os
import sqlite3
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from factories import picture, refused
from spikebridge.data import hashes
from spikebridge.data.hashes import (
    LOOKALIKE_BITS,
    LOOKALIKE_CORRELATION,
    SMALL_LOOK,
    file_hashes,
    look_hash,
    look_hashes,
    lookalikes,
)


def _sha(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _files(root: Path, count: int = 5) -> list[str]:
    for index in range(count):
        (root / f"{index}.bin").write_bytes(bytes([index]) * 100)
    return [str(root / f"{index}.bin") for index in range(count)]


def test_hashes_are_those_of_the_content_and_are_remembered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(tmp_path)
    expected = [_sha(bytes([index]) * 100) for index in range(5)]
    assert file_hashes(files, tmp_path / "cache") == expected
    assert file_hashes([files[3], files[0], files[3]], tmp_path / "cache") == [
        expected[3], expected[0], expected[3],
    ]  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr(hashes, "file_sha256", lambda file: pytest.fail("read again"))
        assert file_hashes(files, tmp_path / "cache") == expected


def test_a_changed_file_is_read_again(tmp_path: Path) -> None:
    (file, *_) = files = _files(tmp_path)
    file_hashes(files, tmp_path / "cache")
    times = os.stat(file).st_atime_ns, os.stat(file).st_mtime_ns
    Path(file).write_bytes(b"x" * 100)
    os.utime(file, ns=times)  # the same size and time, but for that of the change
    assert file_hashes(files, tmp_path / "cache")[0] == _sha(b"x" * 100)


@pytest.mark.parametrize("content", [b"no data base", b""], ids=["damaged", "empty"])
def test_a_lost_memory_only_costs_time(tmp_path: Path, content: bytes) -> None:
    files = _files(tmp_path)
    cache = tmp_path / "cache"
    cache.mkdir()
    (cache / "hashes.sqlite").write_bytes(content)
    assert file_hashes(files, cache)[1] == _sha(b"\1" * 100)
    (tmp_path / "blocked").touch()
    assert file_hashes(files, tmp_path / "blocked")[1] == _sha(b"\1" * 100)


def test_a_locked_memory_is_waited_for_or_done_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = _files(tmp_path)
    file_hashes(files[:1], tmp_path)
    connect = sqlite3.connect
    monkeypatch.setattr(hashes.sqlite3, "connect", lambda path, **_: connect(path, timeout=0.05))
    other = connect(tmp_path / "hashes.sqlite")
    other.execute("BEGIN EXCLUSIVE")
    assert file_hashes(files, tmp_path)[2] == _sha(b"\2" * 100)
    other.close()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    refused(lambda: file_hashes([str(tmp_path / "gone.bin")], tmp_path), "gone.bin", "restore it")


def test_the_perceptual_hash_is_imagehashs() -> None:
    # str(imagehash.phash(photo, hash_size=16)) of ImageHash 4.3.2
    expected = {
        1: "c644e4b2716edb2c836625668f769b2c5b6ec364517319b88baad30a5751d599",
        2: "b552f1ea0758a43b74aa5328f0aac4ab156be43317a9542feaada4948cf5aaad",
    }
    for seed, value in expected.items():
        found = look_hash(picture(seed, 96))
        assert found is not None
        assert found[:32].tobytes().hex() == value


def test_small_photos_are_known_by_their_pixels_alone(tmp_path: Path) -> None:
    small = look_hash(picture(1, 31))
    assert len(small) == SMALL_LOOK < len(look_hash(picture(1, 32)))
    np.testing.assert_array_equal(small, look_hash(picture(1, 31).copy()))
    turned = picture(1, 31)[:, :20]
    for other in (picture(1, 31) ^ 1, turned, turned.reshape(20, 31, 3)):
        assert small.tobytes() != look_hash(other).tobytes()
    assert look_hash(turned).tobytes() != look_hash(turned.reshape(20, 31, 3)).tobytes()
    photos = [("a" * 64, lambda: picture(1, 31)), ("b" * 64, lambda: picture(1, 64))]
    look_hashes(photos, tmp_path)
    # Remembered: neither is read again.
    photos = [(sha, lambda: pytest.fail("read again")) for sha, _ in photos]
    found = look_hashes(photos, tmp_path)
    np.testing.assert_array_equal(found["a" * 64], small)
    np.testing.assert_array_equal(found["b" * 64], look_hash(picture(1, 64)))


def test_small_photos_of_which_an_earlier_version_remembered_nothing_are_looked_at(
    tmp_path: Path,
) -> None:
    photos = [("a" * 64, lambda: picture(1, 31))]
    look_hashes(photos, tmp_path)
    with sqlite3.connect(tmp_path / "hashes.sqlite") as memory:
        memory.execute("UPDATE looks SET value = ?", (b"",))
    memory.close()
    np.testing.assert_array_equal(
        look_hashes(photos, tmp_path)["a" * 64], look_hash(picture(1, 31))
    )


def _as_jpeg(photo: Image.Image, quality: int) -> Image.Image:
    data = io.BytesIO()
    photo.save(data, "JPEG", quality=quality)
    return Image.open(data)


@pytest.mark.parametrize(
    "change",
    [
        lambda photo: _as_jpeg(photo, 30),
        lambda photo: photo.resize((71, 50)),
        lambda photo: ImageEnhance.Brightness(photo).enhance(1.3),
        lambda photo: photo.convert("L"),
        lambda photo: photo.crop((1, 1, 95, 94)),
    ],
    ids=["jpeg", "smaller", "brighter", "grey", "cropped"],
)
def test_a_changed_copy_looks_alike_and_another_photo_does_not(change) -> None:
    originals = [picture(seed, 96) for seed in range(12)]
    copies = [np.asarray(change(Image.fromarray(p)).convert("RGB")) for p in originals]
    first, second = (np.stack([look_hash(p) for p in some]) for some in (originals, copies))
    assert [pair[:2] for pair in lookalikes(first, second)] == [(i, i) for i in range(12)]


def test_distance_and_correlation_are_what_they_say() -> None:
    random = np.random.default_rng(0)
    base_256, low_256 = random.integers(0, 2, 256), random.normal(size=256)
    low_256 /= np.linalg.norm(low_256)
    aside_256 = random.normal(size=256)
    aside_256 -= aside_256 @ low_256 * low_256
    aside_256 /= np.linalg.norm(aside_256)
    rows = []
    for flips, cosine in ((0, 0.1), (5, 0.2), (48, 0.3), (49, 0.9), (256, 0.98), (256, 0.94)):
        bits_256 = base_256.copy()
        bits_256[random.permutation(256)[:flips]] ^= 1
        other_256 = cosine * low_256 + np.sqrt(1 - cosine**2) * aside_256
        parts = np.packbits(bits_256), other_256.astype(np.float16).view(np.uint8)
        rows.append(np.concatenate(parts))
    mine = np.concatenate([np.packbits(base_256), low_256.astype(np.float16).view(np.uint8)])
    found = list(lookalikes(mine[None], np.stack(rows)))
    assert [(i, j, bits) for i, j, bits, _ in found] == [
        (0, 0, 0), (0, 1, 5), (0, 2, LOOKALIKE_BITS), (0, 4, 256),
    ]  # fmt: skip
    assert [value for *_, value in found] == pytest.approx([0.1, 0.2, 0.3, 0.98], abs=2e-3)
    assert LOOKALIKE_CORRELATION == 0.96
