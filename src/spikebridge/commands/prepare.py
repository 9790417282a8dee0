"""The commands `prepare` and `audit`."""

import time
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from spikebridge.base.errors import UserError
from spikebridge.commands.train import add_recipe_arguments, experiment

if TYPE_CHECKING:
    from spikebridge.data.manifest import Manifest


def _prepare_arguments(parser: ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.usage = "spikebridge prepare RECIPE [--jobs N] [--out FILE] [--SETTING VALUE …]"
    parser.add_argument(
        "--out", type=str, help="the split's CSV file; null takes runs/RECIPE/manifest-seedN.csv"
    )
    parser.add_argument("--jobs", type=int, help="processes; null takes as many as there are cores")


def _prepare(given: Namespace) -> None:
    """Split, frame and cache the data of a recipe; `train` does this by itself.

    What is there already is kept: repeat the command to go on where it was interrupted. The split
    is written as a CSV file, which data.split.manifest takes, edited or as it is.
    """
    from spikebridge.data.datasets.catalog import cache_folder
    from spikebridge.data.feed.cache import CachedArrays
    from spikebridge.data.manifest import MARKS
    from spikebridge.data.prepared import SPLITS, prepare

    if given.jobs is not None and given.jobs < 1:
        raise UserError(f"--jobs must be at least 1, got {given.jobs}")
    config, root = experiment(given)
    began = time.monotonic()
    data = prepare(
        config.data,
        config.seed,
        simulated_source=config.needs_simulated_source,
        processes=given.jobs,
    )
    protocol = data.manifest.protocol
    of = ", recordings simulated from the photos" if config.data.events is None else ""
    print(f"{data.name}: protocol {protocol}, {len(data.classes)} classes{of}")
    if mark := MARKS.get(protocol):
        shown = len(data.manifest.leaked_recordings)
        tests = len(data.manifest.select("recording", "test"))
        print(f"{mark}: sources show {shown} of {tests} test recordings")
    for kind, sets in (
        ("recordings", [data.events[s].frames_NTCHW for s in SPLITS]),
        ("photos", [data.photos[s].photos_N3HW for s in SPLITS]),
    ):
        counts = ", ".join(f"{len(some)} {s}" for s, some in zip(SPLITS, sets, strict=True))
        number = sum(map(len, sets))
        stored = sum(cast(CachedArrays, some).stored_bytes for some in sets)
        dense = sum(4 * some.size for some in sets)
        print(
            f"{kind}: {counts}; {stored / number:,.0f} bytes each, "
            f"{stored / dense:.0%} of dense float32"
        )
    if data.unlabelled is not None:
        print(f"photos without labels: {len(data.unlabelled.files)}")
    _write_split(data.manifest, Path(given.out or root / f"manifest-seed{config.seed}.csv"), given)
    print(f"{cache_folder(config.data)}: ready after {time.monotonic() - began:.0f} s")


def _write_split(manifest: "Manifest", file: Path, given: Namespace) -> None:
    """Write the split; a file that is there and differs may have been edited, and stays."""
    text = manifest.text()
    try:
        there = file.read_text(encoding="utf-8")
    except (OSError, ValueError):
        there = None
    if there is None or given.out:
        manifest.write(file)
    elif there != text:
        print(f"{file}: holds another split and stays as it is; --out FILE writes this one")
        return
    print(f"{file}: the split; data.split.manifest takes it, edited or as it is")


def _audit_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge audit RUN|MANIFEST [--json FILE]"
    parser.add_argument("subject", help="folder of a finished run, or a manifest.csv")
    parser.add_argument("--json", type=str, help="also write the findings as JSON")
    parser.add_argument(
        "--cache", type=str, help="folder of prepared data; null takes the run's data.cache"
    )


def _audit(given: Namespace) -> int:
    """Prove that nothing held out was seen in training; exits 1 when it finds a leak.

    Photos are compared by pair, by content and by likeness; what cannot be proved exits 2, and 3 a
    run of which nothing was seen but what its protocol allows and its figures say.
    """
    from spikebridge.base.files import write_json
    from spikebridge.data.datasets.catalog import cache_folder
    from spikebridge.data.settings import DataConfig
    from spikebridge.results.audit import audit, describe
    from spikebridge.run_folder import RunFolder

    subject = Path(given.subject)
    cache = RunFolder(subject).cache() if given.cache is None else given.cache
    found = audit(subject, cache_folder(DataConfig(cache=cache)))
    print(describe(found), end="")
    if given.json:
        write_json(given.json, found.as_json())
    return {"clean": 0, "leak": 1, "unproved": 2, "allowed": 3}[found.verdict]


COMMANDS = {
    "prepare": (_prepare_arguments, _prepare),
    "audit": (_audit_arguments, _audit),
}
