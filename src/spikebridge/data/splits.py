"""Protocol `clean`: who trains, validates and tests, joined by class and image number."""

import csv
import io
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

import numpy as np

from spikebridge.config import SplitConfig
from spikebridge.data.catalog import Collection, Item, PhotoReader
from spikebridge.errors import UserError
from spikebridge.files import file_sha256, write_text

ROLES = {
    ("recording", "train"): "labelled",
    ("recording", "validation"): "selects the student",
    ("recording", "test"): "tests the student",
    ("recording", "unused"): "unused",
    ("photo", "train"): "source and teacher training",
    ("photo", "validation"): "selects the teacher",
    ("photo", "test"): "tests the teacher",
    ("photo", "held-out"): "unused: held out, as its recording or its copy is",
}


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    kind: str
    """`recording` or `photo`."""
    file: str
    class_name: str
    label: int
    number: str
    pair: str
    split: str
    """`train`, `validation`, `test`, `unused` (recordings) or `held-out` (photos)."""
    sha256: str

    @property
    def role(self) -> str:
        """What it is for, in words."""
        return ROLES[self.kind, self.split]


@dataclass(frozen=True)
class Manifest:
    """The whole split; saved beside every run."""

    entries: tuple[Entry, ...]

    def select(self, kind: str, split: str) -> list[Entry]:
        """Entries of one kind and split, in manifest order."""
        return [e for e in self.entries if e.kind == kind and e.split == split]

    def write(self, path: Path) -> None:
        """Write as CSV, atomically."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_COLUMNS)
        for entry in self.entries:
            row = asdict(entry)
            row["class"], row["role"] = row.pop("class_name"), entry.role
            writer.writerow([row[column] for column in _COLUMNS])
        write_text(path, text.getvalue())

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            UserError: no file, or it is damaged.
        """
        try:
            text = io.StringIO(path.read_bytes().decode("utf-8"), newline="")
            entries = tuple(_entry(row) for row in csv.DictReader(text, strict=True))
            if not entries:
                raise ValueError("no entry")
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such manifest; is it a run's folder?") from error
        except (KeyError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path}: not a manifest, or damaged ({error}); expected the columns "
                f"{', '.join(_COLUMNS)}: train the run again"
            ) from error
        return cls(entries)


_COLUMNS = ("kind", "file", "class", "label", "number", "pair", "split", "role", "sha256")


def _entry(row: dict[str, str]) -> Entry:
    if set(row) != set(_COLUMNS) or None in row.values():
        raise ValueError("wrong columns")
    if (row["kind"], row["split"]) not in ROLES or len(row["sha256"]) != 64:
        raise ValueError("wrong values")
    values = {f.name: row["class" if f.name == "class_name" else f.name] for f in fields(Entry)}
    return Entry(**{**values, "label": int(row["label"])})  # pyright: ignore[reportArgumentType]


def make_split(collection: Collection, config: SplitConfig, seed: int) -> Manifest:
    """Split per class: validation and test first, then k labelled, then the legal photos.

    A photo whose recording validates or tests is never a source nor seen in the teacher's
    training. Where photos are paired with no recording here, `photo_test` of them test the teacher.

    Args:
        collection: Recordings and photos.
        config: Numbers and shares.
        seed: Used when ``config.seed`` is None.

    Raises:
        UserError: a class has too few recordings or photos.
    """
    random = np.random.default_rng([0x5B11, seed if config.seed is None else config.seed])
    recordings: list[tuple[Item, str]] = []
    photos: list[tuple[Item, str]] = []
    for label, name in enumerate(collection.classes):
        of_class = [item for item in collection.recordings if item.label == label]
        split_recordings = _split_recordings(of_class, name, config, random)
        taken = {item.pair: split for item, split in split_recordings}
        recordings += split_recordings
        photos += _split_photos(
            [item for item in collection.photos if item.label == label], name, taken, config, random
        )
    reader = PhotoReader()
    return _without_copies(
        tuple(
            Entry(kind, i.file, collection.classes[i.label], i.label, i.number, i.pair, split, sha)
            for kind, items in (("recording", recordings), ("photo", photos))
            for i, split in items
            for sha in [file_sha256(i.file) if kind == "recording" else reader.sha256(i)]
        )
    )


def _without_copies(entries: tuple[Entry, ...]) -> Manifest:
    """Hold out training photos whose bytes are those of a photo that is held out."""
    held = {e.sha256 for e in entries if e.kind == "photo" and e.split in ("test", "held-out")}
    return Manifest(
        tuple(
            replace(e, split="held-out")
            if e.kind == "photo" and e.split in ("train", "validation") and e.sha256 in held
            else e
            for e in entries
        )
    )


def _split_recordings(
    items: list[Item], name: str, config: SplitConfig, random: np.random.Generator
) -> list[tuple[Item, str]]:
    order = [items[i] for i in random.permutation(len(items))]
    validation, labelled = config.validation_per_class, config.labelled_per_class
    test = config.test_per_class
    if test is None:
        test = len(items) - validation - labelled if labelled else max(1, len(items) // 5)
    needed = validation + max(test, 1) + (labelled or 1)
    if needed > len(items):
        raise UserError(
            f"class {name!r} has {len(items)} recordings, but the split needs {needed} "
            f"(validation {validation}, test {max(test, 1)}, labelled {labelled or 1}); "
            "lower data.split.*_per_class or exclude the class"
        )
    splits = ["validation"] * validation + ["test"] * test
    splits += ["train"] * (labelled or len(items) - len(splits))
    splits += ["unused"] * (len(items) - len(splits))
    return list(zip(order, splits, strict=True))


def _split_photos(
    items: list[Item],
    name: str,
    taken: dict[str, str],
    config: SplitConfig,
    random: np.random.Generator,
) -> list[tuple[Item, str]]:
    order = [items[i] for i in random.permutation(len(items))]
    held = {"validation": "held-out", "test": "test"}
    result = [(item, held[taken[item.pair]]) for item in order if taken.get(item.pair) in held]
    legal = [item for item in order if taken.get(item.pair) not in held]
    has_test = any(split == "test" for _, split in result)
    test = 0 if has_test else max(1, round(config.photo_test * len(legal)))
    validation = max(1, round(config.photo_validation * len(legal)))
    if len(legal) < test + validation + 1:
        raise UserError(
            f"class {name!r} has {len(legal)} photos that no validation or test recording was "
            "made of, which is too few to train on; add photos or lower data.split.test_per_class"
        )
    splits = ["test"] * test + ["validation"] * validation
    splits += ["train"] * (len(legal) - len(splits))
    return result + list(zip(legal, splits, strict=True))
