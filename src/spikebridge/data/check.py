"""Reading the folders of a data set, file by file, and saying all that is wrong with them."""

import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from spikebridge.base.console import each_in_threads
from spikebridge.base.errors import UserError, system_refused
from spikebridge.base.files import file_sha256, is_named, not_named
from spikebridge.data.collection import PhotoReader
from spikebridge.data.datasets import DATASETS, Dataset, Finding, Found, Listing
from spikebridge.data.datasets.dataset import Kind, Trouble
from spikebridge.data.datasets.folders import untold_sensor
from spikebridge.data.datasets.pairing import (
    compare_classes,
    known_pairs,
    pairs_of,
    same_photo,
    without_classes,
)
from spikebridge.data.datasets.walk import (
    composed,
    counted,
    list_unlabelled,
    others_left_out,
)
from spikebridge.data.events import Events, read_events
from spikebridge.data.settings import DataConfig
from spikebridge.data.splits.sessions import named_like_series

_NAMES_SHOWN = 8


@dataclass(frozen=True)
class Tally:
    """How many recordings or photos of a class are here, and what is wrong with how many."""

    found: int
    missing: int
    """Of the published number; 0 for photos and for a person's own folders."""
    empty: int
    unreadable: int
    duplicated: int
    """With the content of another file."""
    unpaired: int
    """Without a partner, where recordings and photos pair at all."""


@dataclass(frozen=True)
class ClassReport:
    """One line of the table."""

    name: str
    recordings: Tally
    photos: Tally


@dataclass(frozen=True)
class Report:
    """All that was found."""

    dataset: str
    events: str | None
    photos: str | None
    paired: bool
    events_alone: Sequence[str]
    """Classes that train without photos."""
    unlabelled: str | None
    """Folder of photos without labels."""
    strangers: Tally
    """Those photos."""
    classes: Sequence[ClassReport]
    findings: Sequence[Finding]
    """Errors first, notes last."""

    @property
    def errors(self) -> list[Finding]:
        """What training would stop at."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def verdict(self) -> str:
        """One line."""
        if self.errors:
            return (
                f"{self.dataset} cannot be used for training: "
                f"{counted(len(self.errors), 'error')}, the first {self.errors[0].message}"
            )
        used = [
            report
            for report in self.classes
            if (report.photos.found or report.name in self.events_alone)
            and (report.recordings.found or self.events is None)
        ]
        shown = [report for report in used if report.name not in self.events_alone]
        recordings = sum(report.recordings.found for report in used)
        photos = sum(report.photos.found for report in used)
        partners = sum(report.recordings.found - report.recordings.unpaired for report in shown)
        alone = counted(len(used) - len(shown), "class") + " on events alone; "
        warnings = sum(finding.severity == "warning" for finding in self.findings)
        return (
            f"{self.dataset} can be used: {counted(len(used), 'class')}, "
            f"{counted(recordings, 'recording')}, {counted(photos, 'photo')}; "
            + (alone if len(shown) < len(used) else "")
            + (f"{partners:,} pairs; " if self.paired else "joined by class only; ")
            + self._without_labels
            + counted(warnings, "warning")
        )

    @property
    def _without_labels(self) -> str:
        if self.unlabelled is None:
            return ""
        own = self.strangers
        usable = own.found - own.empty - own.unreadable - own.duplicated
        return f"{counted(usable, 'photo')} without labels; "

    def as_json(self) -> dict[str, Any]:
        """JSON value."""
        return {"usable": not self.errors, "verdict": self.verdict, **asdict(self)}


def check(config: DataConfig) -> Report:
    """Read every recording and photo of a configuration's folders.

    Nothing is raised for what is wrong with them: it is in the report.
    """
    dataset = DATASETS[config.name]
    simulated = config.events is None and not dataset.published
    recordings = _listed("recording", lambda: dataset.list_recordings(config), simulated)
    photos = _listed("photo", lambda: dataset.list_photos(config))
    findings = [*recordings.findings, *photos.findings]
    paired = False
    if recordings.classes and photos.classes:
        findings += compare_classes(dataset, recordings, photos, config.events_alone)
        findings += same_photo(recordings)
        photos = without_classes(photos, config.events_alone)
        known, _, paired = known_pairs(dataset, recordings, photos)
        findings += _pairing_findings(dataset, paired, known, photos)
    findings += _missing(dataset, recordings, config.exclude)
    if not dataset.published:
        findings += _sensor(config, recordings)
        if config.split.group is None:
            findings += _series(recordings)
    sensor = config.sensor or dataset.sensor
    reader = PhotoReader()
    findings += _read_all(
        "recording",
        recordings,
        lambda one: read_events(one.file, sensor),
        lambda one: file_sha256(one.file),
    )
    unsorted, others = _unlabelled(config.unlabelled)
    read = _read_all(
        "photo", replace(photos, classes={**photos.classes, "": unsorted}), reader, reader.sha256
    )
    findings += [finding for finding in read if finding.class_name]
    strangers, trouble = _strangers(len(unsorted), [f for f in read if not f.class_name])
    findings += [*trouble, *others]
    order = ("error", "warning", "note")
    names = {**recordings.classes, **photos.classes, **dict.fromkeys(dataset.published)}
    return Report(
        dataset.name,
        config.events,
        config.photos,
        paired,
        [composed(name) for name in config.events_alone],
        config.unlabelled,
        strangers,
        [
            ClassReport(
                name,
                _tally("recording", name, dataset, recordings, findings),
                _tally("photo", name, dataset, photos, findings),
            )
            for name in sorted(names)
            if name not in config.exclude
        ],
        sorted(findings, key=lambda finding: order.index(finding.severity)),
    )


def _listed(kind: Kind, listing: Callable[[], Listing], simulated: bool = False) -> Listing:
    if simulated:
        message = "no folder of recordings is given; training would simulate one of every photo"
        return Listing("", {}, [Finding("note", "left out", kind, "", message)])
    try:
        return listing()
    except (UserError, OSError) as error:
        return Listing("", {}, [_unlisted(kind, error)])


def _unlisted(kind: Kind, error: UserError | OSError) -> Finding:
    told = system_refused(error) if isinstance(error, OSError) else error
    return Finding("error", "missing", kind, "", str(told))


def _pairing_findings(
    dataset: Dataset, paired: bool, recordings: Listing, photos: Listing
) -> list[Finding]:
    if not paired:
        message = (
            "recordings and photos are joined by class only, so the photo of a test recording may "
            "be among the training photos"
        )
        if dataset.paired is None:
            message = f"no recording has the file name of a photo of its class: {message}"
        severity = "note" if dataset.paired is False else "warning"
        return [Finding(severity, "unpaired", None, "", message)]
    unknown = "which photo it shows is unknown, so that the audit cannot exclude a leak"
    if dataset.paired is None:
        unknown = f"no photo of its class has its name: {unknown}"
    return [
        *(
            Finding(
                "warning",
                "unpaired",
                "recording",
                name,
                f"{one.file}: {'its photo is not here' if one.pair else unknown}",
            )
            for name, one in _alone(recordings, photos)
        ),
        *(
            Finding("note", "unpaired", "photo", name, f"{one.file}: no recording of it is here")
            for name, one in _alone(photos, recordings)
        ),
    ]


def _alone(listing: Listing, others: Listing) -> Iterator[tuple[str, Found]]:
    """Files without a partner, of the classes that both have."""
    pairs = pairs_of(others)
    for name, found in listing.classes.items():
        if others.classes.get(name):
            yield from ((name, one) for one in found if one.pair not in pairs)


def _sensor(config: DataConfig, recordings: Listing) -> Iterator[Finding]:
    """Recordings that need not tell the sensor, where it is not set."""
    if suffix := untold_sensor(config, recordings):
        message = (
            f"{recordings.root}: {suffix} recordings need not tell the camera's width and height; "
            "training refuses them unless data.sensor is set, or data.extent is recording"
        )
        yield Finding("warning", "sensor", "recording", "", message)


def _series(recordings: Listing) -> Iterator[Finding]:
    """Classes whose recordings seem to be of a few sessions."""
    for name, found in recordings.classes.items():
        if series := named_like_series(one.number for one in found):
            (first, last, count), *others = series
            more = f" and {counted(len(others), 'other')}" if others else ""
            message = (
                f"{recordings.root}/{name}: {first} … {last} ({count}){more} look like recordings "
                "made in a row, which are near copies, and a random split puts them on both sides; "
                "name their sessions by data.split.group, '(.+)_' say"
            )
            yield Finding("warning", "series", "recording", name, message)


def _missing(dataset: Dataset, recordings: Listing, exclude: Sequence[str]) -> list[Finding]:
    """Published classes and recordings that are not here."""
    if not recordings.classes:
        return []
    expected = {name: n for name, n in dataset.published.items() if name not in exclude}
    findings = []
    if absent := [name for name in expected if name not in recordings.classes]:
        names = ", ".join(absent[:_NAMES_SHOWN]) + (", …" if len(absent) > _NAMES_SHOWN else "")
        message = (
            f"{recordings.root}: {len(absent)} of {len(expected)} published classes are not here "
            f"({names}); training would go on without them"
        )
        findings.append(Finding("warning", "missing", "recording", "", message))
    for name, number in expected.items():
        here = len(recordings.classes.get(name, ()))
        if 0 < here < number:
            message = (
                f"{recordings.root}: class {name!r} has {here:,} of {number:,} published recordings"
            )
            findings.append(Finding("warning", "missing", "recording", name, message))
    return findings


def _read_all(
    kind: Kind,
    listing: Listing,
    read: Callable[[Found], object],
    sha256: Callable[[Found], str],
) -> list[Finding]:
    """What is wrong with the files: unreadable, out of order, or the same as another."""
    files = [(name, one) for name, found in listing.classes.items() for one in found]

    def examine(job: tuple[str, Found]) -> tuple[str, int] | Finding:
        name, one = job
        if not is_named(one.file):
            return Finding("error", "unreadable", kind, name, not_named(one.file))
        try:
            content = read(one)
            return sha256(one), content.late if isinstance(content, Events) else 0
        except UserError as error:
            return Finding("error", _trouble(one, str(error)), kind, name, str(error))
        except OSError as error:
            message = f"{one.file}: cannot be read ({error.strerror or error}); replace it"
            return Finding("error", "unreadable", kind, name, message)

    results = each_in_threads(examine, files, f"reading {kind}s")
    findings: list[Finding] = []
    first: dict[str, tuple[str, Found]] = {}
    readable: Counter[str] = Counter()
    for (name, one), result in zip(files, results, strict=True):
        if isinstance(result, Finding):
            findings.append(result)
            continue
        readable[name] += 1
        content, late = result
        if late:
            message = f"{one.file}: {counted(late, 'event')} came late and were put in order"
            findings.append(Finding("note", "out of order", kind, name, message))
        if content in first:
            other_name, other = first[content]
            where = "" if other_name == name else f" of class {other_name!r}"
            message = f"{one.file}: the same content as {other.file}{where}; keep one of them"
            findings.append(Finding("warning", "duplicated", kind, name, message))
        first.setdefault(content, (name, one))
    for name, found in listing.classes.items():
        if found and not readable[name]:
            message = (
                f"{listing.root}: none of the {counted(len(found), kind)} of class {name!r} can be "
                "read; replace them or list it in data.exclude"
            )
            findings.append(Finding("error", "missing", kind, name, message))
    return findings


def _unlabelled(folder: str | None) -> tuple[list[Found], list[Finding]]:
    """The photos without labels, and what is wrong with their folder."""
    if folder is None:
        return [], []
    try:
        files, others = list_unlabelled(folder)
    except (UserError, OSError) as error:
        return [], [_unlisted("photo", error)]
    findings = [others_left_out(folder, "photo", "", others)] if others else []
    return [Found(str(file), file.name, "") for file in files], findings


def _strangers(found: int, read: Sequence[Finding]) -> tuple[Tally, list[Finding]]:
    """The photos without labels; training leaves out what is wrong with them, and says so."""
    findings = [
        replace(finding, severity="note" if finding.trouble == "duplicated" else "warning")
        for finding in read
        if finding.trouble != "missing"
    ]
    troubles = Counter(finding.trouble for finding in findings)
    empty, unreadable, duplicated = (troubles[t] for t in ("empty", "unreadable", "duplicated"))
    return Tally(found, 0, empty, unreadable, duplicated, 0), findings


def _trouble(one: Found, message: str) -> Trouble:
    """Whether a file that could not be read is empty."""
    empty = "holds no event" in message or (
        os.path.isfile(one.file) and os.path.getsize(one.file) == 0
    )
    return "empty" if empty else "unreadable"


def _tally(
    kind: Kind, name: str, dataset: Dataset, listing: Listing, findings: Sequence[Finding]
) -> Tally:
    found = len(listing.classes.get(name, ()))
    troubles = Counter(
        finding.trouble
        for finding in findings
        if (finding.kind, finding.class_name) == (kind, name)
    )
    published = dataset.published.get(name, 0) if kind == "recording" and listing.classes else 0
    return Tally(
        found,
        max(0, published - found),
        *(troubles[t] for t in ("empty", "unreadable", "duplicated", "unpaired")),
    )
