"""A finished student on the test recordings of changed data: another sensor's, say."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from spikebridge.base.errors import UserError
from spikebridge.base.files import json_text, write_json
from spikebridge.data.prepared import prepare
from spikebridge.data.settings import DataConfig
from spikebridge.models.student import Student
from spikebridge.results.trained import evaluate, load_run
from spikebridge.run_folder import RunFolder


def retest(folder: Path, name: str, data: DataConfig) -> dict[str, Any]:
    """Evaluate a student on changed data, once, and keep the result in its folder.

    The split is drawn again on the changed data with the run's seed, and must be the run's.

    Args:
        folder: A finished run of a student.
        name: Name of the change; the result goes to ``retest-NAME.json``.
        data: The changed data settings.

    Returns:
        What the file holds: settings, top-1 in percent, loss, spike rates.

    Raises:
        UserError: no finished student there, the data cannot be read, or their test recordings are
            not those of the run.
    """
    if (kept := read_retest(folder, name, data)) is not None:
        return kept
    trained = load_run(folder)
    if not isinstance(trained.model, Student):
        raise UserError(f"{folder}: holds a teacher; only students are evaluated on changed data")
    run = RunFolder(folder)
    here = run.data_from_here(dataclasses.replace(data, unlabelled=None))
    there = prepare(here, trained.config.seed)
    if there.manifest.tested != run.manifest().tested:
        raise UserError(
            f"{folder}: under {name!r} other recordings are tested than those of this run; change "
            "only how recordings are made or framed"
        )
    evaluation = evaluate(trained, there, "test")
    result = {
        "data": _settings(data),
        "test_top1": evaluation.top1,
        "test_loss": evaluation.loss,
        "rates": evaluation.rates,
    }
    write_json(run.retest_file(name), result)
    return result


def read_retest(folder: Path, name: str, data: DataConfig) -> dict[str, Any] | None:
    """The result on changed data, where it is there already."""
    try:
        kept = json.loads(RunFolder(folder).retest_file(name).read_text(encoding="utf-8"))
        return kept if kept["data"] == _settings(data) else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _settings(data: DataConfig) -> Any:
    return json.loads(json_text(dataclasses.asdict(data)))
