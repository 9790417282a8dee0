"""Energy of the shown student beside networks that do not spike."""

from dataclasses import dataclass
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.results.energy import EnergyReport, energy_of_run
from spikebridge.results.report.read import Run

RECORDINGS = 100
"""At most so many validation recordings are counted."""


@dataclass(frozen=True)
class Network:
    """One line of the table of energies."""

    name: str
    spikes: float | None
    sops: float | None
    macs: float | None
    nj: float
    times: float
    """Energy over the student's."""


@dataclass(frozen=True)
class Costs:
    """What the networks cost, or why that cannot be counted."""

    report: EnergyReport | None
    networks: tuple[Network, ...]
    missing: str = ""
    """A sentence; empty where the report is there."""


def costs(run: Run, teacher_folder: Path | None) -> Costs:
    """Count a student's operations on up to 100 of its validation recordings.

    Args:
        run: A student's run.
        teacher_folder: Its teacher; None looks where `energy_of_run` does.
    """
    try:
        report = energy_of_run(run.folder, limit=RECORDINGS, teacher_folder=teacher_folder)
    except UserError as error:
        return Costs(None, (), f"The energy could not be counted: {error}.")
    spikes, sops = (report.spikes, report.sops) if report.spiking else (None, None)
    student = Network("student", spikes, sops, report.macs, report.nj, 1.0)
    networks = [Network(n, None, None, macs, nj, nj / report.nj) for n, macs, nj in report.beside]
    return Costs(report, (student, *networks))
