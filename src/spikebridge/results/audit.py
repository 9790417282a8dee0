"""The audit: does anything that tests a student touch what trained it or its teacher?"""

import math
from collections import Counter
from collections.abc import Iterator, Sequence, Set
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from spikebridge.base.errors import Unreadable, UserError
from spikebridge.base.hooks import bare, is_hook
from spikebridge.data.manifest import LAST_EPOCH, MARKS, Entry, Manifest
from spikebridge.data.pool import Pool, unchanged
from spikebridge.data.splits.draw import lookalike_photos
from spikebridge.run_folder import RunFolder


@dataclass(frozen=True)
class Leak:
    """Something that tests or validates, and the same thing where training sees it."""

    kind: Literal["pair", "content", "likeness", "recording", "session", "selection"]
    held: str
    """What validates or tests."""
    seen: str
    """What training saw."""
    where: str
    """Who saw it."""

    def __str__(self) -> str:
        return f"{self.kind}: {self.held} — {self.seen} ({self.where})"


@dataclass(frozen=True)
class Audit:
    """What was looked at, and what was found."""

    subject: str
    protocol: str
    checks: tuple[str, ...]
    """What was compared, one line each."""
    leaks: tuple[Leak, ...]
    allowed: tuple[Leak, ...]
    """What training saw of what tests, as the run's protocol or its settings allow and its figures
    say."""
    unproved: tuple[str, ...]
    """Why, where nothing was found, a leak cannot be excluded."""
    left_out: tuple[str, ...]
    """Copies and likenesses of held-out photos that the split kept out of training."""

    @property
    def verdict(self) -> Literal["clean", "leak", "unproved", "allowed"]:
        """`leak` if there is any; `unproved` if one cannot be excluded; `allowed`; else `clean`."""
        if self.leaks:
            return "leak"
        return "unproved" if self.unproved else "allowed" if self.allowed else "clean"

    def as_json(self) -> dict[str, Any]:
        """For a JSON file."""
        return {"verdict": self.verdict, **asdict(self)}


@dataclass(frozen=True)
class _Found:
    """What one part of the audit says."""

    checks: Sequence[str] = ()
    leaks: Sequence[Leak] = ()
    unproved: Sequence[str] = ()
    allowed: Sequence[Leak] = ()


def audit(path: Path, cache: Path) -> Audit:
    """Audit a run's folder, or a manifest alone.

    A photo of a validation or test recording must be neither among the student's sources nor in
    the training of its teacher or backbone: by pair, by content, by likeness
    (`spikebridge.data.hashes`). No recording may be in two splits, and validation, not test, must
    have chosen the checkpoint. What protocols `published` and `leaked` and `train.read_test` let
    training see is counted apart.

    Args:
        path: A run's folder, or a manifest.csv.
        cache: Folder where hashes are remembered.

    Raises:
        UserError: neither a run nor a manifest there.
    """
    run = RunFolder(path) if path.is_dir() else None
    if run is not None and run.is_finished:
        run.require_network()
    manifest = run.manifest() if run else Manifest.read(path)
    labelled, allowed = manifest.labelled_photos, manifest.allowed
    by_position = {e.sha256 for e in labelled} if manifest.protocol == "published" else set()
    seen: dict[str, tuple[list[Entry], Set[str]]] = {
        "photos of the labelled recordings": (labelled, by_position),
        "this split's photos": (
            manifest.teaching_photos + manifest.select("photo", "source"),
            allowed,
        ),
    }
    if unlabelled := manifest.select("photo", "unlabelled"):
        seen["this split's unlabelled photos"] = unlabelled, allowed
    found, origin = [_split(manifest)], None
    if run is not None:
        result, selection = _selection(run, manifest)
        teacher, doubts = _teacher(run, result, manifest)
        if teacher is not None:
            taught = {e.sha256 for e in manifest.teaching_photos} & allowed
            seen["the teacher's photos"] = teacher.teaching_photos, taught
            found[:1] = [_split(manifest, teacher)]
        found += [selection, _Found(unproved=[*result.get("unproved", []), *doubts])]
        origin = result.get("origin")
        found.append(_backbone(run, manifest, origin, cache))
    held_there = unchanged(manifest.held_photos, origin, cache)
    found += [
        _photos(manifest, where, photos, may, held_there, origin, cache)
        for where, (photos, may) in seen.items()
    ]
    return Audit(
        str(path),
        manifest.protocol,
        checks=tuple(check for part in found for check in part.checks),
        leaks=tuple(leak for part in found for leak in part.leaks),
        allowed=tuple(leak for part in found for leak in part.allowed),
        unproved=tuple(dict.fromkeys(doubt for part in found for doubt in part.unproved)),
        left_out=_left_out(manifest, held_there, origin, cache),
    )


def _split(manifest: Manifest, teacher: Manifest | None = None) -> _Found:
    """Whether each recording is in one split; what the manifest itself cannot tell."""
    checks = [
        f"recordings: {len(manifest.held_recordings)} validate or test, "
        f"{len(manifest.select('recording', 'train'))} train"
    ]
    if manifest.protocol in MARKS:
        tests = len(manifest.select("recording", "test"))
        shown = f"{len(manifest.leaked_recordings)} of {tests} are among the student's sources"
        if teacher is not None:
            taught = manifest.shown_by(teacher.teaching_photos)
            shown += f", of {len(taught)} in the teacher's training"
        checks.append(f"photos of test recordings: of {shown}")
    if elsewhere := manifest.shown_elsewhere:
        checks.append(
            f"pairs: {elsewhere} of the recordings that validate or test show photos that are "
            "known and not among these"
        )
    if alone := manifest.events_alone:
        checks.append(f"classes without photos: {', '.join(sorted(alone))}")
    return _Found(checks, list(_recordings_in_two_splits(manifest)), manifest.doubts)


def _recordings_in_two_splits(manifest: Manifest) -> Iterator[Leak]:
    first: dict[str, Entry] = {}
    sessions: dict[str, Entry] = {}
    for split in ("test", "validation", "train"):
        for entry in manifest.select("recording", split):
            here = f"{entry.file} ({split})"
            other = first.setdefault(entry.sha256, entry)
            if other.split != split:
                there = f"{other.file} ({other.split})"
                yield Leak("recording", there, here, "the same bytes in two splits")
            other = sessions.setdefault(entry.group, entry) if entry.group else entry
            if other.split != split:
                there = f"{other.file} ({other.split})"
                yield Leak("session", there, here, f"session {entry.group} is in two splits")


def _seen_photos(manifest: Manifest, photos: Sequence[Entry], where: str) -> Iterator[Leak]:
    recordings = {s: e for e in manifest.held_recordings if (s := manifest.scene(e))}
    contents = {e.sha256: e for e in manifest.held_photos}
    sessions = {e.group: e for e in manifest.held_recordings if e.group}
    for photo in photos:
        if (recording := recordings.get(manifest.scene(photo))) is not None:
            yield Leak("pair", f"{recording.file} ({recording.split})", photo.file, where)
        elif photo.group in sessions:
            recording = sessions[photo.group]
            yield Leak("session", f"{recording.file} ({recording.split})", photo.file, where)
        elif photo.sha256 in contents:
            yield Leak("content", contents[photo.sha256].file, photo.file, where)


def _photos(
    manifest: Manifest,
    where: str,
    photos: list[Entry],
    allowed: Set[str],
    held_there: list[Entry],
    origin: str | None,
    cache: Path,
) -> _Found:
    """Whether photos that training saw show what validates or tests.

    Photos whose content is allowed may.
    """
    held = manifest.held_photos
    check = (
        f"{where}: {len(photos)} seen in training, against {len(held)} photos "
        "of validation and test recordings, by pair, content and likeness"
    )
    may = [e for e in photos if e.sha256 in allowed]
    may_not = [e for e in photos if e.sha256 not in allowed]
    leaks = list(_seen_photos(manifest, may_not, where))
    known = list(_seen_photos(manifest, may, where))
    caught = {leak.seen for leak in (*leaks, *known)}
    others = [e for e in photos if e.file not in caught]
    others_there = unchanged(others, origin, cache)
    for first, second, likeness in lookalike_photos(held_there, others_there, cache):
        leak = Leak("likeness", first.file, f"{second.file} ({likeness})", where)
        (known if second.sha256 in allowed else leaks).append(leak)
    gone = len(held) + len(others) - len(held_there) - len(others_there)
    doubt = (
        f"{gone} photos are no longer where the manifest says, or have changed, and could "
        "not be compared; restore them and repeat the audit"
    )
    return _Found([check], leaks, [doubt] if gone else [], known)


def _backbone(run: RunFolder, manifest: Manifest, origin: str | None, cache: Path) -> _Found:
    """Whether the student's backbone, if it started from one, was taught on what is held out."""
    started = run.settings().get("student", {}).get("weights")
    if started is None:
        return _Found()
    pool = run.pool()
    if pool is None:
        doubt = f"{run.pool_file}, what the backbone was taught on, is missing; restore it"
        return _Found(unproved=[doubt])
    held, where = manifest.held_photos, f"the photos of the backbone {started}"
    there = unchanged(held, origin, cache)
    check = (
        f"{where}: {len(pool.photos)} seen, against {len(held)} photos of validation and test "
        "recordings, by pair, content and likeness, from the pool's own hashes"
    )
    doubt = (
        f"{len(held) - len(there)} photos are no longer where the manifest says, or have changed, "
        "and could not be held against the backbone's by likeness; restore them"
    )
    leaks = list(pool_leaks(manifest, pool, there, where, cache))
    return _Found([check], leaks, [doubt] if len(there) < len(held) else [])


def pool_leaks(
    manifest: Manifest, pool: Pool, held_there: list[Entry], where: str, cache: Path
) -> Iterator[Leak]:
    """Photos of a backbone's pool that a split holds out, by pair, content and likeness.

    Args:
        manifest: The split.
        pool: What the backbone was taught on.
        held_there: Photos that are held out and whose files are there.
        where: Who saw them, in words.
        cache: Folder where hashes are remembered.
    """
    caught = set()
    for leak in _seen_photos(manifest, pool.entries, where):
        caught.add(leak.seen)
        yield leak
    for held, seen, likeness in pool.alike(held_there, cache):
        if seen.file not in caught:
            yield Leak("likeness", held.file, f"{seen.file} ({likeness})", where)


def _left_out(
    manifest: Manifest, held_there: list[Entry], origin: str | None, cache: Path
) -> tuple[str, ...]:
    """Photos held out for their looks, each with the photos that it looks like."""
    own = {e.file for e in manifest.held_photos}
    excluded = [e for e in manifest.select("photo", "held-out") if e.file not in own]
    alike = lookalike_photos(held_there, unchanged(excluded, origin, cache), cache)
    return tuple(f"{second.file} — {first.file} ({likeness})" for first, second, likeness in alike)


def _selection(run: RunFolder, manifest: Manifest) -> tuple[dict[str, Any], _Found]:
    """The run's result, and whether validation chose the checkpoint, as every evaluation says."""
    try:
        result, evaluations = run.result(), run.metrics("eval")
        chosen = max(evaluations, key=lambda r: (r["top1"], -_loss(r), -r["epoch"]))
        splits = {r["split"] for r in evaluations}
        recorded, epoch = result["manifest_sha256"], result["best_epoch"]
    except Unreadable:
        raise
    except (ValueError, KeyError, TypeError, UserError) as error:
        raise UserError(
            f"{run}: no finished run, or its result.json or metrics.jsonl is damaged "
            f"({type(error).__name__}); train it again, or audit its manifest.csv alone"
        ) from error
    where = "the checkpoint"
    leaks, doubts, allowed = [], [], []
    # A teacher without photos to select on is evaluated once, and its last epoch taken.
    selected = splits != {LAST_EPOCH} or len(evaluations) > 1
    if selected and splits != {"validation"}:
        by_test = Leak("selection", "test recordings",
                       f"chose the epoch ({', '.join(sorted(splits))})", where)  # fmt: skip
        (allowed if splits == {manifest.selecting} else leaks).append(by_test)
    if chosen["epoch"] != epoch:
        leaks.append(Leak("selection", f"epoch {epoch} was kept",
                          f"validation chose epoch {chosen['epoch']}", where))  # fmt: skip
    if recorded != manifest.sha256:
        doubts.append(
            f"{run.manifest_file} is not the manifest that the run was trained with; restore it"
        )
    if read := len(run.metrics("test")):
        by_test = Leak("selection", "test recordings",
                       f"were read at {read} evaluations", "the training")  # fmt: skip
        (allowed if run.settings().get("train", {}).get("read_test") else leaks).append(by_test)
    check = f"selection: every evaluation of {run.metrics_file}"
    return result, _Found([check], leaks, doubts, allowed)


def _loss(evaluation: dict[str, Any]) -> float:
    """Null stands for what is not finite."""
    return math.inf if evaluation["loss"] is None else evaluation["loss"]


def _teacher(
    run: RunFolder, result: dict[str, Any], manifest: Manifest
) -> tuple[Manifest | None, list[str]]:
    """The manifest of a student's teacher, and what it does not tell."""
    teacher = run.settings().get("teacher")
    if not isinstance(teacher, dict) or not {"name", "weights"} <= teacher.keys():
        raise UserError(f"{run.config_file}: damaged; restore it or train the run again")
    started = teacher["name"], teacher["weights"]
    if result["method"] == "teacher":
        return None, teacher_doubts(manifest, *started)
    if result.get("teacher") is None:
        return None, []
    seen = run.teacher_manifest()
    doubts = teacher_doubts(seen, *started)
    alone = manifest.events_alone
    if seen is not None and (known := {e.class_name for e in seen.teaching_photos} & alone):
        doubts.append(
            f"the teacher was trained on photos of {', '.join(sorted(known))}, of which "
            "there are none here, and some may show recordings that validate or test"
        )
    return seen, doubts


def teacher_doubts(manifest: Manifest | None, name: str, weights: str | None) -> list[str]:
    """Why nobody can tell all that a teacher was trained on.

    Args:
        manifest: What it carries.
        name: What it is (``teacher.name``).
        weights: File of weights that it started from (``teacher.weights``).
    """
    doubts = []
    if is_hook(name):
        doubts.append(
            f"the teacher is built by {bare(name)}, and nothing tells which weights it started "
            "from; make sure that they were not trained on photos of this data set"
        )
    if weights is not None:
        doubts.append(
            f"the teacher started from {weights}, which carries no manifest; make sure that it was "
            "not trained on photos of this data set"
        )
    if manifest is None:
        doubts.append("the teacher carries no manifest; train it with spikebridge teacher")
    return doubts


def describe(found: Audit) -> str:
    """The audit in words, the verdict last."""
    lines = [f"{found.subject}: protocol {found.protocol}"]
    lines += [f"  checked   {check}" for check in found.checks]
    lines += [f"  left out  {line}" for line in found.left_out]
    counted = Counter((leak.kind, leak.where) for leak in found.allowed)
    lines += [
        f"  ALLOWED   {kind}: {number} found ({where})" for (kind, where), number in counted.items()
    ]
    lines += [f"  LEAK      {leak}" for leak in found.leaks]
    lines += [f"  UNPROVED  {doubt}" for doubt in found.unproved]
    verdict = {
        "clean": "clean: nothing held out was seen in training",
        "leak": f"{len(found.leaks)} leaks",
        "unproved": "no leak found, but none can be excluded",
        "allowed": "not clean: all that was seen, protocol or settings allow and figures say",
    }[found.verdict]
    return "\n".join([*lines, f"verdict: {verdict}"]) + "\n"
