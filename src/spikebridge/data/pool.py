"""A pool: photos of anything that a backbone is taught on, and what they look like.

The pool's list travels with the weights. It holds hashes, so that it can be held against a split's
photos where the pool's own files are not.
"""

import base64
import csv
import io
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from spikebridge.base.errors import UserError, reading_failed
from spikebridge.base.files import expand_path, is_named, not_named, write_text
from spikebridge.data.collection import PhotoReader, file_from, place_of
from spikebridge.data.datasets.walk import CROPPED, CROPS, composed
from spikebridge.data.hashes import SMALL_LOOK, file_hashes, look_hashes, unreadable
from spikebridge.data.manifest import Entry, Manifest, caseless
from spikebridge.data.photos import PHOTO_SUFFIXES
from spikebridge.data.splits.draw import pairs_alike, photo_looks

_SPLITS = ("train", "validation", "teacher")
_COLUMNS = ("file", "class", "pair", "split", "sha256", "look")
_SIGNS, _LOW = 32, 256


@dataclass(frozen=True)
class PoolPhoto:
    """A photo of a pool."""

    file: str
    class_name: str
    """Its own folder, below the one that was given; empty where it has no label."""
    pair: str
    """Its folder's name and its own, as a split's photos of published data sets have it."""
    split: str
    """`train`; `validation`, which is not trained on; `teacher`, what its teacher learnt from."""
    sha256: str
    look: bytes = b""
    """What it looks like, packed; empty where nobody could look."""


@dataclass(frozen=True)
class Pool:
    """The photos of a pool, each content once."""

    photos: tuple[PoolPhoto, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """Labels of the photos that train or validate, in order of name."""
        own = {p.class_name for p in self.photos if p.split != "teacher"}
        return tuple(sorted(own - {""}))

    def select(self, split: str) -> list[PoolPhoto]:
        """The photos of one split."""
        return [p for p in self.photos if p.split == split]

    @cached_property
    def entries(self) -> list[Entry]:
        """The photos as lines of a manifest have them."""
        return [
            Entry("photo", p.file, p.class_name, 0, "", p.pair, "train", p.sha256)
            for p in self.photos
        ]

    def alike(self, held: Sequence[Entry], cache: Path) -> list[tuple[Entry, Entry, str]]:
        """Photos of a split, each with one of the pool that it looks like, and how much, in words.

        Args:
            held: Photos whose files are there.
            cache: Folder where hashes are remembered.
        """
        looks, pool = photo_looks(held, cache), zip(self.entries, self.photos, strict=True)
        return pairs_alike(
            [(e, looks[e.sha256]) for e in held],
            [(e, _unpacked(p.look)) for e, p in pool if p.look],
        )

    def text(self) -> str:
        """As CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for p in self.photos:
            look = base64.b64encode(p.look).decode()
            writer.writerow((p.file, p.class_name, p.pair, p.split, p.sha256, look))
        return text.getvalue()

    def write(self, path: Path) -> None:
        """Write as CSV, atomically."""
        write_text(path, self.text())

    @classmethod
    def read(cls, path: Path) -> "Pool":
        """Read a pool's list.

        Raises:
            UserError: no file, it cannot be read, or it is damaged.
        """
        try:
            return cls.parse(path.read_text(encoding="utf-8"))
        except PermissionError as error:
            raise reading_failed(path, error) from error
        except (OSError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path}: missing or damaged; restore it or train the run again"
            ) from error

    @classmethod
    def parse(cls, text: str) -> "Pool":
        """From CSV text.

        Raises:
            ValueError: not a pool's list.
            csv.Error: not a pool's list.
        """
        rows = list(csv.reader(io.StringIO(text, newline=""), strict=True))
        if not rows or tuple(rows[0]) != _COLUMNS or any(len(r) != len(_COLUMNS) for r in rows):
            raise ValueError("wrong columns")
        return cls(tuple(_photo(*row) for row in rows[1:]))


def _photo(file: str, class_name: str, pair: str, split: str, sha: str, look: str) -> PoolPhoto:
    packed = base64.b64decode(look, validate=True)
    if split not in _SPLITS or len(bytes.fromhex(sha)) != 32:
        raise ValueError("wrong values")
    if len(packed) not in (0, SMALL_LOOK, _SIGNS + _LOW):
        raise ValueError("wrong look")
    return PoolPhoto(file, class_name, pair, split, sha, packed)


def _packed(look: np.ndarray | None) -> bytes:
    """A `look_hash` in about half its bytes: frequencies of 8 bits, relative to the largest."""
    if look is None:
        return b""
    if len(look) == SMALL_LOOK:
        return look.tobytes()
    low_256 = np.ascontiguousarray(look[_SIGNS:]).view(np.float16).astype(np.float32)
    scaled_256 = np.round(127 * low_256 / max(float(np.abs(low_256).max()), 1e-9))
    return look[:_SIGNS].tobytes() + scaled_256.astype(np.int8).tobytes()


def _unpacked(packed: bytes) -> np.ndarray:
    signs = np.frombuffer(packed, np.uint8, _SIGNS)
    if len(packed) == SMALL_LOOK:
        return signs
    low_256 = np.frombuffer(packed, np.int8, _LOW, _SIGNS).astype(np.float32)
    low_256 /= max(float(np.linalg.norm(low_256)), 1e-9)
    return np.concatenate([signs, low_256.astype(np.float16).view(np.uint8)])


@dataclass(frozen=True)
class _Listed:
    file: str
    class_name: str
    pair: str


@dataclass(frozen=True)
class Gathered:
    """A pool, and what was left out of it, one line each."""

    pool: Pool
    left_out: tuple[str, ...]


def gather_pool(
    photos: Sequence[str],
    unlabelled: Sequence[str],
    *,
    exclude: Sequence[str],
    held: Manifest | None,
    share: float,
    named: bool,
    seed: int,
    cache: Path,
) -> Gathered:
    """List photos at any depth, and leave out what cannot be read and what a split holds out.

    A photo's label is its own folder, named by its path below the one that was given; photos that
    lie in that one itself have none. Of copies, byte for byte, the first is taken. Caltech101's
    `Faces` is left out where `Faces_easy` lies beside it.

    Args:
        photos: Folders.
        unlabelled: Folders whose photos have no labels.
        exclude: Names of folders below these that are passed over.
        held: A split whose held-out photos are left out: by content, name, and likeness.
        share: Share of the photos that is not trained on.
        named: Whether the photos' names are kept, by which other splits may hold them out.
        seed: Of that share.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: no such folder, or no photo is left.
    """
    left_out: list[str] = []
    listed = [one for root in photos for one in _listed(root, exclude, left_out)]
    nameless = [one for root in unlabelled for one in _listed(root, exclude, left_out)]
    listed += [replace(one, class_name="") for one in nameless]
    listed, lost = _openable(listed)
    left_out += lost
    hashes = file_hashes([one.file for one in listed], cache)
    of_content = dict(zip(reversed(hashes), reversed(listed), strict=True))
    of_content = {sha: of_content[sha] for sha in dict.fromkeys(hashes)}
    read = PhotoReader()
    readers = [(sha, lambda one=one: read(one)) for sha, one in of_content.items()]
    reasons = unreadable(readers, cache)
    left_out += reasons.values()
    readers = [(sha, reader) for sha, reader in readers if sha not in reasons]
    looks = look_hashes(readers, cache)
    if copies := len(listed) - len(of_content):
        left_out.append(f"{copies} copies, byte for byte, of other photos")
    found = [
        PoolPhoto(
            one.file,
            one.class_name,
            one.pair,
            "train",
            sha,
            _packed(looks[sha]),
        )
        for sha, one in of_content.items()
        if sha not in reasons
    ]
    if held is not None:
        unfit, gone = _held_out(Pool(tuple(found)), held, cache)
        if gone:
            left_out.append(
                f"{gone} held-out photos are not where the split says, or have changed: what they "
                "show is left out by content and name alone"
            )
        left_out += [f"{p.file}: {unfit[p.file]}" for p in found if p.file in unfit]
        found = [p for p in found if p.file not in unfit]
    if len(found) < 2:
        raise UserError(
            f"{', '.join([*photos, *unlabelled])}: {len(found)} photos are left to learn from "
            f"({len(left_out)} lines of what was left out); give folders of photos, one of "
            f"{', '.join(PHOTO_SUFFIXES)}"
        )
    order = np.random.default_rng([0xB0017, seed]).permutation(len(found))
    validates = set(order[: min(max(1, round(share * len(found))), len(found) - 1)].tolist())
    found = [replace(p, split="validation") if i in validates else p for i, p in enumerate(found)]
    if not named:
        found = [replace(p, pair="") for p in found]
    return Gathered(Pool(tuple(found)), tuple(left_out))


def _listed(given: str, exclude: Sequence[str], left_out: list[str]) -> list[_Listed]:
    """The photos of a folder and those below it, in order of name; hidden ones are passed over."""
    root = expand_path(given)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder of photos; check the path")
    found, excluded, walked = [], {composed(name) for name in exclude}, set()
    for folder, below, files in os.walk(root, onerror=_refuse, followlinks=True):
        if (real := os.path.realpath(folder)) in walked:  # A link to a folder above.
            below.clear()
            continue
        walked.add(real)
        if CROPPED in below and CROPS in below:
            below.remove(CROPS)
            left_out.append(
                f"{Path(folder, CROPS)}: left out, for it shows the photos of {CROPPED}"
            )
        below[:] = sorted(n for n in below if n[0] != "." and composed(n) not in excluded)
        name = composed(Path(folder).relative_to(root).as_posix())
        own = Path(os.path.abspath(folder)).name
        own = CROPPED if own == CROPS else composed(own)
        found += [
            _Listed(
                str(Path(folder, file)),
                "" if name == "." else name,
                f"{own}/{caseless(Path(file).stem)}",
            )
            for file in sorted(files)
            if file[0] != "." and Path(file).suffix.lower() in PHOTO_SUFFIXES
        ]
    return found


def _refuse(error: OSError) -> None:
    raise UserError(
        f"{error.filename}: cannot be read ({error.strerror}); check its permissions"
    ) from error


def _openable(listed: list[_Listed]) -> tuple[list[_Listed], list[str]]:
    """What can be opened at all, and what not."""
    fine, lost = [], []
    for one in listed:
        if not is_named(one.file):
            lost.append(not_named(one.file))
        elif not os.path.isfile(one.file) or not os.access(one.file, os.R_OK):
            lost.append(f"{one.file}: unreadable photo (no file that can be opened)")
        else:
            fine.append(one)
    return fine, lost


def with_teachers_photos(pool: Pool, teacher: Manifest, origin: str | None, cache: Path) -> Pool:
    """The pool, and what the backbone's teacher was trained on, as far as it is not in it.

    Args:
        pool: The backbone's own photos.
        teacher: What its teacher carries; photos that are gone or changed get no look.
        origin: Folder where that teacher was trained; None where it is not known.
        cache: Folder where hashes are remembered.
    """
    known = {p.sha256 for p in pool.photos}
    seen = list({e.sha256: e for e in teacher.seen_photos if e.sha256 not in known}.values())
    looks = photo_looks(unchanged(seen, origin, cache), cache)
    others = tuple(
        PoolPhoto(
            e.file,
            e.class_name,
            e.pair,
            "teacher",
            e.sha256,
            _packed(looks.get(e.sha256)),
        )
        for e in seen
    )
    return Pool(pool.photos + others)


def _held_out(pool: Pool, split: Manifest, cache: Path) -> tuple[dict[str, str], int]:
    """Why photos of a pool are none to learn from, by file; and held photos that are gone."""
    held = held_photos(split)
    contents = {e.sha256: e.file for e in held}
    scenes = {s: e.file for e in split.held_recordings if (s := split.scene(e))}
    found = {}
    for entry in pool.entries:
        if (other := contents.get(entry.sha256)) is not None:
            same = os.path.realpath(other) == os.path.realpath(entry.file)
            found[entry.file] = "held out" if same else f"held out as {other} is, its copy"
        elif (other := scenes.get(split.scene(entry))) is not None:
            found[entry.file] = f"held out, its name is that of the photo of {other}"
    there = unchanged(held, None, cache)
    for other, entry, likeness in pool.alike(there, cache):
        found.setdefault(entry.file, f"held out, it looks like {other.file} ({likeness})")
    return found, len(held) - len(there)


def held_photos(split: Manifest) -> list[Entry]:
    """Photos that a split holds out: of validation and test recordings, and their likenesses."""
    held = {e.file: e for s in ("test", "held-out") for e in split.select("photo", s)}
    return list((held | {e.file: e for e in split.held_photos}).values())


def unchanged(entries: Iterable[Entry], origin: str | None, cache: Path) -> list[Entry]:
    """Entries whose file is there as it was; those inside a file of many are taken as they are.

    Args:
        entries: Lines of a manifest.
        origin: Folder that their paths may be relative to; None where that is not known.
        cache: Folder where hashes are remembered.
    """
    found = [replace(e, file=file_from(origin, e.file)) for e in entries]
    there = [(e, *place_of(e.file)) for e in found]
    there = [(e, index) for e, path, index in there if Path(path).is_file()]
    inside = [e for e, index in there if index is not None]
    whole = [e for e, index in there if index is None]
    hashes = file_hashes([e.file for e in whole], cache)
    return inside + [e for e, sha in zip(whole, hashes, strict=True) if sha == e.sha256]
