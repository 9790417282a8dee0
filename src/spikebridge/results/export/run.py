"""Export a trained student: fold, write, run the file again, compare, and only then keep it."""

from dataclasses import dataclass
from pathlib import Path

import torch

from spikebridge.base.errors import UserError
from spikebridge.base.files import atomic_path, write_text
from spikebridge.models.student import Student
from spikebridge.results.energy import energy_of_run
from spikebridge.results.export.card import about, model_card
from spikebridge.results.export.formats import FORMATS, Format, obstacle
from spikebridge.results.export.graph import Graph, folded_graph
from spikebridge.results.export.outputs import Difference, difference, student_outputs
from spikebridge.results.trained import data_of_run, evenly, load_run

_COUNTED = 20


@dataclass(frozen=True)
class Exported:
    """A file that was written and checked."""

    file: Path
    card: Path
    """Markdown beside it: its name with .md after it."""
    difference: Difference
    """Between it and its student, on validation recordings of the run."""


def export_run(
    folder: Path, format_name: str, file: Path | None = None, *, check: int = 8
) -> Exported:
    """Write a finished run's student in another format, checked on its own recordings.

    BatchNorm is folded into the convolutions; the hybrid head is left out.

    Args:
        folder: The run's folder.
        format_name: "nir", "onnx" or "pt2".
        file: Where to; None takes student.FORMAT in the run's folder.
        check: Number of validation recordings to compare on, evenly spaced.

    Raises:
        UserError: no finished student there, one that the format cannot hold, a package that is
            missing, or a file that differs from the student by more than is allowed, which is not
            kept.
    """
    if check < 1:
        raise UserError(f"--check must be at least 1, got {check}")
    to = FORMATS[format_name]
    trained = load_run(folder)
    student, config = trained.model, trained.config
    if not isinstance(student, Student):
        raise UserError(f"{folder}: holds a teacher; only students are exported")
    if (reason := obstacle(config.student, to.name)) is not None:
        raise UserError(f"{folder}: cannot be exported to {to.title}: {reason}")
    to.require()
    file = file or folder / f"student.{to.name}"
    events = data_of_run(folder, trained).events["validation"]
    x_BTCHW = torch.from_numpy(events.input(evenly(len(events.label_N), check)))
    graph = folded_graph(student, config.data.size, config.data.time_steps)
    with atomic_path(file) as temporary:
        to.write(graph, temporary, about(trained))
        found = _checked(to, file, temporary, graph, student, x_BTCHW)
        energy = energy_of_run(folder, limit=_COUNTED)
        text = model_card(folder, trained, to, file, temporary.stat().st_size, found, energy)
    card = file.with_name(f"{file.name}.md")
    write_text(card, text)
    return Exported(file, card, found)


def _checked(
    to: Format, file: Path, written: Path, graph: Graph, student: Student, x_BTCHW: torch.Tensor
) -> Difference:
    """How far the file is from the student.

    Raises:
        UserError: too far, or the file cannot be run.
    """
    try:
        outputs = to.run(written, graph, x_BTCHW)
        found = difference(student_outputs(student, graph, x_BTCHW), outputs)
    except UserError:
        raise
    except Exception as error:  # Whatever a foreign runtime says of a file that it cannot run.
        words = " ".join(f"{type(error).__name__}: {error}".split())
        raise UserError(
            f"{file}: not written: {to.runtime} cannot run it ({words[:200]})"
        ) from error
    if not found.tolerable:
        raise UserError(f"{file}: not written: {to.runtime} gives something else on {found}")
    return found
