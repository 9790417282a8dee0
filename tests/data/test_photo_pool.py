"""A pool of photos: what is found, what is left out and why, and its list without the photos."""

import os
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from factories import photo_folder, picture, png_bytes, refused
from spikebridge.base.errors import UserError
from spikebridge.base.files import file_sha256
from spikebridge.data.hashes import look_hash, lookalikes
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.data.pool import Pool, _packed, _unpacked, gather_pool, unchanged


def gather(tmp_path, photos=("pool",), unlabelled=(), exclude=(), held=None, **options):
    settings = {"share": 0.2, "named": True, "seed": 0} | options
    return gather_pool(
        [str(tmp_path / name) for name in photos],
        [str(tmp_path / name) for name in unlabelled],
        exclude=exclude,
        held=held,
        cache=tmp_path / "cache",
        **settings,
    )


def write(file: Path, data: bytes) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(data)
    return file


def labels(pool: Pool) -> dict[str, str]:
    return {Path(p.file).name: p.class_name for p in pool.photos}


def test_a_photos_label_is_its_own_folder_at_any_depth(tmp_path):
    write(tmp_path / "pool/flat.png", png_bytes(0))
    write(tmp_path / "pool/cup/a.png", png_bytes(1, side=40))
    write(tmp_path / "pool/animals/dog/b.JPG", png_bytes(2, "jpeg", side=24))
    write(tmp_path / "pool/.hidden/c.png", png_bytes(3))
    write(tmp_path / "pool/cup/.d.png", png_bytes(4))
    write(tmp_path / "pool/cup/notes.txt", b"no photo")
    write(tmp_path / "pool/saw/e.png", png_bytes(5))
    write(tmp_path / "other/saw/f.png", png_bytes(6))
    found = gather(tmp_path, photos=["pool"], unlabelled=["other"])
    assert labels(found.pool) == {
        "flat.png": "", "a.png": "cup", "b.JPG": "animals/dog", "e.png": "saw", "f.png": ""
    }  # fmt: skip
    assert found.pool.classes == ("animals/dog", "cup", "saw")
    assert found.left_out == ()
    left = gather(tmp_path, exclude=["animals"]).pool
    assert set(labels(left)) == {"flat.png", "a.png", "e.png"}


def test_broken_files_are_named_and_left_out_each_time(tmp_path):
    photo_folder(tmp_path / "pool")
    damaged = [
        write(tmp_path / "pool/cup/damaged.jpg", png_bytes(9, "jpeg")[:120]),
        write(tmp_path / "pool/cup/empty.png", b""),
        write(tmp_path / "pool/saw/text.webp", b"no photo at all"),
    ]
    os.symlink(tmp_path / "gone.png", tmp_path / "pool/saw/link.png")
    os.mkfifo(tmp_path / "pool/saw/pipe.png")
    other = os.fsdecode(os.fsencode(tmp_path) + b"/pool/saw/caf\xe9.png")
    write(Path(other), png_bytes(10))
    for _ in range(2):  # What is remembered of them must not bring them back.
        found = gather(tmp_path)
        assert len(found.pool.photos) == 12
        for file in (*damaged, tmp_path / "pool/saw/link.png", tmp_path / "pool/saw/pipe.png"):
            (line,) = [line for line in found.left_out if str(file) in line]
            assert "unreadable photo" in line
        assert any("caf\\xe9.png: the name is not UTF-8" in line for line in found.left_out)


def test_copies_count_once_and_links_in_circles_end(tmp_path):
    photo_folder(tmp_path / "pool")
    shutil.copy(tmp_path / "pool/cup/image_0001.png", tmp_path / "pool/saw/copy.png")
    os.symlink(tmp_path / "pool", tmp_path / "pool/cup/again")
    found = gather(tmp_path)
    assert len(found.pool.photos) == 12
    assert labels(found.pool)["image_0001.png"]
    assert found.left_out == ("1 copies, byte for byte, of other photos",)


def test_a_seeded_share_is_not_trained_on(tmp_path):
    photo_folder(tmp_path / "pool", count=10)
    one, same, other = (gather(tmp_path, seed=seed).pool for seed in (0, 0, 1))
    assert one == same != other
    assert (len(one.select("train")), len(one.select("validation"))) == (16, 4)
    few = gather(tmp_path, share=1e-6).pool
    assert len(few.select("validation")) == 1


def test_no_folder_no_photo(tmp_path):
    refused(lambda: gather(tmp_path, photos=["nowhere"]), tmp_path / "nowhere", "no such folder")
    (tmp_path / "pool").mkdir()
    write(tmp_path / "pool/one.png", png_bytes(0))
    refused(lambda: gather(tmp_path), "1 photos are left", ".png")


# What a split holds out ---------------------------------------------------------------------------


def split_of(photos: list[Path], held: Path, pair: str = "") -> Manifest:
    """A split that tests on a recording of one of some photos."""
    pairs = {p: f"{p.parent.name}/{p.stem}" for p in photos}
    entries = [
        Entry("photo", str(p), p.parent.name, 0, p.stem, pairs[p],
              "test" if p == held else "train", file_sha256(p)) for p in photos
    ]  # fmt: skip
    recording = Entry("recording", "r.bin", "cup", 0, held.stem, pair or pairs[held], "test",
                      "0" * 64)  # fmt: skip
    return Manifest((*entries, recording))


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    """Photos of a split, large enough to be compared by likeness."""
    return sorted(photo_folder(tmp_path / "split", count=4, side=48).glob("*/*.png"))


def test_a_pool_leaves_out_copies_namesakes_and_likenesses_of_held_out_photos(tmp_path, photos):
    for index in range(3):
        write(tmp_path / f"pool/sub/dog/{index}.png", png_bytes(90 + index, side=48))
    copy = write(tmp_path / "pool/any/copy.png", photos[0].read_bytes())
    namesake = write(tmp_path / f"pool/{photos[0].parent.name}/IMAGE_0001.png", png_bytes(77))
    alike = tmp_path / "pool/any/alike.jpg"
    Image.open(photos[0]).resize((64, 64)).save(alike, quality=80)
    found = gather(tmp_path, held=split_of(photos, photos[0]))
    for file, why in ((copy, "its copy"), (namesake, "its name"), (alike, "it looks like")):
        (line,) = [line for line in found.left_out if line.startswith(str(file))]
        assert why in line
    own = {Path(p.file).parent.name for p in found.pool.photos}
    assert "dog" in own
    assert not {copy, namesake, alike} & {Path(p.file) for p in found.pool.photos}
    assert len(gather(tmp_path).pool.photos) == len(found.pool.photos) + 3
    # The very photo is no copy of itself.
    assert (
        f"{photos[0]}: held out"
        in gather(tmp_path, photos=["split", "pool"], held=split_of(photos, photos[0])).left_out
    )


def test_held_photos_that_are_gone_are_said(tmp_path, photos):
    photo_folder(tmp_path / "pool", count=3)
    split = split_of(photos, photos[0])
    photos[0].unlink()
    found = gather(tmp_path, held=split)
    assert any("1 held-out photos are not where the split says" in x for x in found.left_out)


def test_faces_show_the_photos_of_faces_easy(tmp_path, photos):
    photo_folder(tmp_path / "both", classes=("cup",), count=2)
    for index in range(3):
        write(tmp_path / f"both/Faces/image_{index:04d}.png", png_bytes(50 + index))
        write(tmp_path / f"both/Faces_easy/image_{index:04d}.png", png_bytes(60 + index))
    found = gather(tmp_path, photos=["both"])
    assert found.pool.classes == ("Faces_easy", "cup")
    (line,) = found.left_out
    assert str(tmp_path / "both/Faces") in line
    assert "Faces_easy" in line
    # Alone, only the held one goes; its crop need not look like it.
    shutil.rmtree(tmp_path / "both/Faces_easy")
    assert gather(tmp_path, photos=["both"]).pool.classes == ("Faces", "cup")
    held = split_of(photos, photos[0], pair="Faces_easy/image_0001")
    left = gather(tmp_path, photos=["both"], held=held)
    names = {p.file for p in left.pool.photos if p.class_name == "Faces"}
    assert {Path(name).stem for name in names} == {"image_0000", "image_0002"}


# Its list -----------------------------------------------------------------------------------------


def test_the_list_tells_likenesses_where_no_photo_of_the_pool_is_left(tmp_path, photos):
    for index in range(4):
        write(tmp_path / f"pool/{'ab'[index % 2]}/{index}.png", png_bytes(80 + index, side=48))
    alike = tmp_path / "pool/a/alike.jpg"
    Image.open(photos[0]).resize((64, 64)).save(alike, quality=80)
    small = write(tmp_path / "pool/b/small.png", png_bytes(5, side=20))
    copied = write(tmp_path / "small.bmp", png_bytes(5, "bmp", side=20))
    pool = gather(tmp_path).pool
    pool.write(tmp_path / "pool.csv")
    shutil.rmtree(tmp_path / "pool")
    there = Pool.read(tmp_path / "pool.csv")
    assert there == pool
    held = split_of([copied], copied).held_photos
    assert [(own.file, other.file, words) for own, other, words in there.alike(held, tmp_path)] == [
        (str(copied), str(small), "the same pixels")
    ]
    held = split_of(photos, photos[0]).held_photos
    ((own, other, words),) = there.alike(held, tmp_path / "cache")
    assert (own.file, other.file) == (str(photos[0]), str(alike))
    assert "of 256 bits" in words


def test_packed_looks_are_nearly_what_they_were():
    looks = [look_hash(picture(seed, 48)) for seed in range(6)]
    kept = [_unpacked(_packed(look)) for look in looks]
    assert all(len(_packed(look)) == 288 for look in looks)
    for index, (look, other) in enumerate(zip(looks, kept, strict=True)):
        assert (look[:32] == other[:32]).all()
        found = list(lookalikes(look[None], np.stack(kept)))
        assert [(bits, index) for _, at, bits, _ in found if at == index] == [(0, index)]
        assert next(same for _, at, _, same in found if at == index) > 0.999
    uniform = look_hash(np.full((40, 40, 3), 7, np.uint8))
    assert len(_unpacked(_packed(uniform))) == 544


@pytest.mark.parametrize(
    "text",
    ["", "a,b\n1,2\n", "file,class,pair,split,sha256,look\nx,y,z,test," + "0" * 64 + ",\n",
     "file,class,pair,split,sha256,look\nx,y,z,train,00,\n",
     "file,class,pair,split,sha256,look\nx,y,z,train," + "0" * 64 + ",AAAA\n"],
)  # fmt: skip
def test_a_damaged_list_is_refused(tmp_path, text):
    (tmp_path / "pool.csv").write_text(text)
    refused(lambda: Pool.read(tmp_path / "pool.csv"), tmp_path / "pool.csv", "damaged")


def test_unchanged_photos_are_those_that_are_there_as_they_were(tmp_path, photos):
    entries = split_of(photos, photos[0]).select("photo", "train")
    assert unchanged(entries, None, tmp_path / "cache") == entries
    photos[-1].write_bytes(png_bytes(123))
    photos[-2].unlink()
    left = unchanged(entries, None, tmp_path / "cache")
    assert left == entries[:-2]
    moved = [replace(e, file=os.path.relpath(e.file, tmp_path)) for e in left]
    assert unchanged(moved, str(tmp_path), tmp_path / "cache") == left
    with pytest.raises(UserError):
        Pool.read(tmp_path / "nowhere.csv")
