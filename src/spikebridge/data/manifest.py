"""The manifest: every recording and photo of a split, its content hash and its role."""

import csv
import hashlib
import io
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import write_text

PROTOCOLS = ("clean", "few-shot", "published", "leaked")
UNKNOWN = -1
"""Label of a photo whose class nobody knows."""
LEAKED_ROLES = {
    ("photo", "source"): "source of the student alone",
    ("photo", "unused"): "unused: a photo of a test recording is a source in its place",
}
"""Of protocol `leaked` alone."""
ROLES = {
    ("recording", "train"): "labelled",
    ("recording", "validation"): "selects the student",
    ("recording", "test"): "tests the student",
    ("recording", "unused"): "unused",
    ("photo", "train"): "source and teacher training",
    ("photo", "validation"): "selects the teacher",
    ("photo", "test"): "tests the teacher",
    ("photo", "unlabelled"): "source without a label, where the student takes such",
    ("photo", "held-out"): "unused: held out, as its recording, its copy or its likeness is",
    **LEAKED_ROLES,
}
_PUBLISHED_ROLES = {
    ("recording", "test"): "selects and tests the student",
    ("photo", "test"): "selects and tests the teacher",
}
MARKS = {
    "published": "selected on test, sources show test recordings (protocol published)",
    "leaked": "leaked on purpose (protocol leaked)",
}
"""What every figure must say that was made by a protocol which lets training see what tests."""
TEST_READ = "test read during training"
"""What every figure must say of a run with `train.read_test`."""
LAST_EPOCH = "last epoch"
"""What stands in the place of the split that selects where there is none, and nothing to select."""
UNPROVED = "unproved: a leak cannot be excluded"
"""What every figure must say whose run has `unproved` reasons in its result."""


def caseless(name: str) -> str:
    """A name as it is compared: neither letter case nor Unicode form (NFC, NFD) matters."""
    return unicodedata.normalize("NFC", unicodedata.normalize("NFD", name).casefold())


def join_copies(recordings: Iterable[tuple[str, str]]) -> tuple[dict[str, str], dict[str, str]]:
    """The one pair of all recordings with the same bytes, which were made of the same photo.

    Args:
        recordings: Pair (empty where unknown) and SHA-256 of each.

    Returns:
        Pair by SHA-256, where it is known; and by pair, the one that stands for it.
    """
    stands_for: dict[str, str] = {}

    def first_of(pair: str) -> str:
        while stands_for[pair] != pair:
            pair = stands_for[pair]
        return pair

    of_content: dict[str, str] = {}
    for pair, sha in recordings:
        if pair:
            stands_for.setdefault(pair, pair)
            stands_for[first_of(pair)] = first_of(of_content.setdefault(sha, pair))
    stands_for = {pair: first_of(pair) for pair in stands_for}
    return {sha: stands_for[pair] for sha, pair in of_content.items()}, stands_for


@dataclass(frozen=True)
class Entry:
    """One line of a manifest."""

    kind: str
    """`recording` or `photo`."""
    file: str
    class_name: str
    """Empty of a photo of `data.unlabelled`, whose class nobody knows."""
    label: int
    """Class index; `UNKNOWN` where the class is."""
    number: str
    pair: str
    """Equal for a recording and the photo that it was made of; empty where that is unknown. One
    that no photo has says that the photo is not among these."""
    split: str
    """`train`, `validation`, `test`, `unused`; `source`, `held-out` or `unlabelled` (photos)."""
    sha256: str
    group: str = ""
    """Recording session, which is in one split only; empty where none is named."""

    @property
    def identity(self) -> tuple[str, str, str]:
        """What names it in its data set, wherever that is kept; copies may share it."""
        return self.kind, self.class_name, caseless(self.pair or self.number)


@dataclass(frozen=True)
class Manifest:
    """The whole split; saved beside every run."""

    entries: tuple[Entry, ...]
    protocol: str = "clean"
    """`clean`, `few-shot`, `published` or `leaked`."""

    def select(self, kind: str, *splits: str) -> list[Entry]:
        """Entries of one kind and of any of some splits, in manifest order."""
        return [e for e in self.entries if e.kind == kind and e.split in splits]

    def used(self, kind: str, split: str) -> list[Entry]:
        """Entries that serve as one split: protocol `published` validates on its test entries."""
        return self.select(kind, self.selecting if split == "validation" else split)

    @property
    def selecting(self) -> str:
        """The split on which epochs are selected."""
        return "test" if self.protocol == "published" else "validation"

    @property
    def held_recordings(self) -> list[Entry]:
        """Recordings that validate or test."""
        return self.select("recording", "validation") + self.select("recording", "test")

    @property
    def held_groups(self) -> set[str]:
        """Recording sessions that validate or test, as far as they are named."""
        return {e.group for e in self.held_recordings} - {""}

    @property
    def seen_photos(self) -> list[Entry]:
        """Photos that training sees: sources and what trains or selects the teacher."""
        return self.teaching_photos + self.select("photo", "source", "unlabelled")

    @property
    def teaching_photos(self) -> list[Entry]:
        """Photos with labels that training sees: they train or select the teacher."""
        return self.select("photo", "train") + self.select("photo", "validation")

    @property
    def sources(self) -> list[Entry]:
        """Photos with labels that the student's hybrid stream takes, in manifest order."""
        return self.select("photo", "train", "source")

    @property
    def tested(self) -> list[tuple[str, str, str]]:
        """What names its test recordings, wherever they are kept, in manifest order."""
        return [e.identity for e in self.select("recording", "test")]

    @property
    def leaked_recordings(self) -> list[Entry]:
        """Test recordings whose own photo is a source, as far as pairs tell."""
        return self.shown_by(self.sources)

    @property
    def allowed(self) -> set[str]:
        """Contents of the photos that the protocol lets training see, whatever they show."""
        if self.protocol == "published":
            return {e.sha256 for e in self.seen_photos}
        if self.protocol == "leaked":
            tested = {self.scene(e) for e in self.select("recording", "test")} - {""}
            return {e.sha256 for e in self.sources if self.scene(e) in tested}
        return set()

    def shown_by(self, photos: Iterable[Entry]) -> list[Entry]:
        """Test recordings that were made of some photos, of any manifest, as far as pairs tell."""
        scenes = {self.scene(e) for e in photos} - {""}
        return [e for e in self.select("recording", "test") if self.scene(e) in scenes]

    @property
    def held_photos(self) -> list[Entry]:
        """Photos that validation and test recordings were made of, as far as pairs tell."""
        return self._photos_of(self.held_recordings)

    @property
    def labelled_photos(self) -> list[Entry]:
        """Photos that labelled training recordings were made of, as far as pairs tell."""
        return self._photos_of(self.select("recording", "train"))

    @property
    def events_alone(self) -> set[str]:
        """Classes without a photo."""
        recorded, shown = (
            {e.class_name for e in self.entries if e.kind == kind}
            for kind in ("recording", "photo")
        )
        return recorded - shown

    @property
    def shown_elsewhere(self) -> int:
        """Recordings that validate or test, whose photos are known and not in this manifest."""
        photos = {self.scene(e) for e in self.entries if e.kind == "photo"} | {""}
        return sum(self.scene(e) not in photos for e in self.held_recordings)

    @property
    def has_strangers(self) -> bool:
        """Whether there are photos that nobody has sorted, those of `data.unlabelled`."""
        return any(e.label == UNKNOWN for e in self.select("photo", "unlabelled"))

    @property
    def without_strangers(self) -> "Manifest":
        """The same without the photos that nobody has sorted, held out or not."""
        return replace(self, entries=tuple(e for e in self.entries if e.label != UNKNOWN))

    def scene(self, entry: Entry) -> str:
        """Equal for a recording, its copies, and the photos that it was made of.

        Empty where that photo is unknown. A photo may be of another manifest.
        """
        of_content, stands_for = self._joined
        if entry.kind == "recording":
            return of_content.get(entry.sha256, "")
        pair = caseless(entry.pair)
        return stands_for.get(pair, pair)

    @cached_property
    def _joined(self) -> tuple[dict[str, str], dict[str, str]]:
        recordings = [e for e in self.entries if e.kind == "recording"]
        return join_copies((caseless(e.pair), e.sha256) for e in recordings)

    def _photos_of(self, recordings: list[Entry]) -> list[Entry]:
        scenes = {self.scene(e) for e in recordings} - {""}
        return [e for e in self.entries if e.kind == "photo" and self.scene(e) in scenes]

    @property
    def labelled_recordings(self) -> tuple[int, int]:
        """Fewest and most labelled training recordings of a class."""
        counts = dict.fromkeys((e.class_name for e in self.entries if e.kind == "recording"), 0)
        for entry in self.select("recording", "train"):
            counts[entry.class_name] += 1
        return min(counts.values()), max(counts.values())

    @property
    def doubts(self) -> list[str]:
        """Why a leak cannot be excluded, as far as the split tells: photos that are not known.

        Nothing leaks of a class without photos, unless there are photos that nobody has sorted.
        """
        held, alone = self.held_recordings, self.events_alone
        strangers = self.has_strangers
        unknown = [
            e.file for e in held if (strangers or e.class_name not in alone) and not self.scene(e)
        ]
        doubts = []
        if unknown:
            names = ", ".join(unknown[:_NAMED]) + (", …" if len(unknown) > _NAMED else "")
            doubts.append(
                f"which photo they show is unknown of {len(unknown)} of {len(held)} recordings "
                f"that validate or test ({names}), so that it may be among the training photos; "
                "say so with the figures"
            )
        if strangers and (elsewhere := self.shown_elsewhere):
            doubts.append(
                f"{elsewhere} recordings that validate or test show photos that are not among "
                "data.photos, so that nobody would know them among those of data.unlabelled; say "
                "so with the figures"
            )
        return doubts

    def role(self, entry: Entry) -> str:
        """What an entry is for, in words."""
        key = (entry.kind, entry.split)
        published = _PUBLISHED_ROLES if self.protocol == "published" else {}
        return published.get(key, ROLES[key])

    def text(self) -> str:
        """As CSV."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        columns = COLUMNS + (("group",) if any(e.group for e in self.entries) else ())
        writer.writerow(columns)
        for entry in self.entries:
            row = dict(vars(entry)) | ({"label": ""} if entry.label == UNKNOWN else {})
            row |= {"class": row.pop("class_name"), "role": self.role(entry)}
            row["protocol"] = self.protocol
            writer.writerow([row[column] for column in columns])
        return text.getvalue()

    @property
    def sha256(self) -> str:
        """Hash of the CSV text."""
        return hashlib.sha256(self.text().encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write as CSV, atomically."""
        write_text(path, self.text())

    @classmethod
    def read(cls, path: Path) -> "Manifest":
        """Read a manifest.

        Raises:
            UserError: no file, or it is damaged.
        """
        try:
            return cls.parse(path.read_bytes().decode("utf-8-sig"))
        except FileNotFoundError as error:
            raise UserError(f"{path}: no such manifest; is it a run's folder?") from error
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror}); check the path") from error
        except (KeyError, ValueError, csv.Error) as error:
            raise UserError(
                f"{path}: not a manifest, or damaged ({error}); expected the columns "
                f"{', '.join(COLUMNS)}: train the run again"
            ) from error

    @classmethod
    def parse(cls, text: str) -> "Manifest":
        """From CSV text.

        Raises:
            ValueError: not a manifest.
            csv.Error: not a manifest.
        """
        rows = list(csv.DictReader(io.StringIO(text, newline=""), strict=True))
        if not rows:
            raise ValueError("no entry")
        entries = tuple(_entry(row) for row in rows)
        protocols = {row["protocol"] for row in rows}
        if len(protocols) > 1 or not protocols <= set(PROTOCOLS):
            raise ValueError("wrong protocol")
        return cls(entries, protocols.pop())


_NAMED = 3
COLUMNS = (
    "kind", "file", "class", "label", "number", "pair", "protocol", "split", "role", "sha256",
)  # fmt: skip


def _entry(row: dict[str, str]) -> Entry:
    if set(row) - {"group"} != set(COLUMNS) or None in row.values():
        raise ValueError("wrong columns")
    if (row["kind"], row["split"]) not in ROLES or len(row["sha256"]) != 64:
        raise ValueError("wrong values")
    strange = row["split"] in ("unlabelled", "held-out") and row["class"] == row["label"] == ""
    label = UNKNOWN if strange else int(row["label"])
    if len(bytes.fromhex(row["sha256"])) != 32 or (label < 0 and not strange):
        raise ValueError("wrong values")
    row = {"group": "", **row}
    values = {f.name: row["class" if f.name == "class_name" else f.name] for f in fields(Entry)}
    return Entry(**{**values, "label": label})  # pyright: ignore[reportArgumentType]
