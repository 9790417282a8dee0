"""The report of `spikebridge data check` as plain text."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import astuple, fields

from spikebridge.data.check import ClassReport, Report, Tally
from spikebridge.data.datasets import Finding

_SHOWN = 10
_NAME_WIDTH = 31
_RECORDINGS = (("found", 7), ("missing", 8), ("empty", 6), ("bad", 4), ("twice", 6), ("alone", 7))
_PHOTOS = (("found", 8), ("empty", 6), ("bad", 4), ("twice", 6), ("alone", 7))
_HEADINGS = {
    "empty": "that are empty",
    "unreadable": "that cannot be read",
    "duplicated": "with the content of another",
    "unpaired": "without a partner",
    "missing": "that are missing",
    "layout": "that do not lie as expected",
    "left out": "that are left out",
    "out of order": "with events out of order",
    "series": "that look like series",
    "sensor": "of a sensor that nothing tells",
}


def check_page(report: Report) -> str:
    """Table by class, findings by file (the first of each sort), no verdict."""
    lines = [
        f"{report.dataset}: recordings in {report.events}, photos in {report.photos}",
        "",
        *_table(report.classes),
        *_strangers(report),
        "",
        "bad: cannot be read; twice: same content as another file; alone: its partner is not here",
        *_listed(report.findings),
    ]
    return "\n".join(lines) + "\n"


def _strangers(report: Report) -> Iterator[str]:
    """A line for the photos without labels."""
    if report.unlabelled is not None:
        one = report.strangers
        yield ""
        yield (
            f"photos without labels in {report.unlabelled}: {one.found:,} found, {one.empty:,} "
            f"empty, {one.unreadable:,} bad, {one.duplicated:,} twice"
        )


def _table(classes: Sequence[ClassReport]) -> Iterator[str]:
    name = min(_NAME_WIDTH, max((len(one.name) for one in classes), default=0) + 1)
    name = max(name, len("class "))
    left, right = (sum(width for _, width in columns) for columns in (_RECORDINGS, _PHOTOS))
    groups = (" recordings ".center(left - 2, "-"), " photos ".center(right - 3, "-"))
    yield f"{'':{name}}  {groups[0]}   {groups[1]}"
    words = (f"{word:>{width}}" for word, width in (*_RECORDINGS, *_PHOTOS))
    yield f"{'class':{name}}" + "".join(words)
    for one in classes:
        yield _row(name, one.name, one.recordings, one.photos)
    recordings, photos = _sum([c.recordings for c in classes]), _sum([c.photos for c in classes])
    yield _row(name, "all", recordings, photos)


def _row(width: int, name: str, recordings: Tally, photos: Tally) -> str:
    if len(name) > width:
        name = name[: width - 1] + "…"
    found, _, *troubles = astuple(photos)
    cells = _cells(astuple(recordings), _RECORDINGS) + _cells((found, *troubles), _PHOTOS)
    return f"{name:{width}}{cells}"


def _cells(numbers: Sequence[int], columns: Sequence[tuple[str, int]]) -> str:
    return "".join(
        f"{f'{number:,}' if number else '-':>{width}}"
        for number, (_, width) in zip(numbers, columns, strict=True)
    )


def _sum(tallies: Sequence[Tally]) -> Tally:
    names = (field.name for field in fields(Tally))
    return Tally(*(sum(getattr(tally, name) for tally in tallies) for name in names))


def _listed(findings: Sequence[Finding]) -> Iterator[str]:
    """By severity and sort, each with its first lines."""
    sorts: dict[tuple[str, str, str], list[Finding]] = defaultdict(list)
    for finding in findings:
        sorts[finding.severity, finding.trouble, finding.kind or ""].append(finding)
    for (severity, trouble, kind), some in sorts.items():
        number = f" ({len(some):,})" if len(some) > 1 else ""
        yield ""
        yield f"{severity}: {kind + 's' if kind else 'files'} {_HEADINGS[trouble]}{number}"
        yield from (f"  {finding.message}" for finding in some[:_SHOWN])
        if len(some) > _SHOWN:
            yield f"  … and {len(some) - _SHOWN:,} more (--json FILE has all)"
