"""The command `energy`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.table import Table

    from spikebridge.results.energy import EnergyReport

_WIDTH = 110


def _energy_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge energy RUN [--split NAME] [--limit N] [--json FILE]"
    parser.add_argument("run", help="folder of a trained student")
    parser.add_argument(
        "--split",
        choices=["validation", "test"],
        default="validation",
        help="whose recordings are counted",
    )
    parser.add_argument(
        "--limit", type=int, help="count at most so many recordings, evenly spaced; null takes all"
    )
    parser.add_argument(
        "--teacher_run",
        type=str,
        help="folder of the teacher; null takes teacher.checkpoint or teacher-seedN beside the run",
    )
    parser.add_argument(
        "--json", type=str, help="write all, each step too, as JSON to a file; - prints it instead"
    )


def _energy(given: Namespace) -> None:
    """Spikes, operations and energy of a trained student, beside its ANN and its teacher.

    Energy follows the field's convention: 45 nm, 4.6 pJ per MAC, 0.9 pJ per accumulate. What else
    the figures rest on is printed with them.
    """
    from rich.console import Console

    from spikebridge.base.files import json_text, write_json
    from spikebridge.results.energy import energy_of_run

    teacher = Path(given.teacher_run) if given.teacher_run else None
    report = energy_of_run(Path(given.run), given.split, limit=given.limit, teacher_folder=teacher)
    if given.json == "-":
        print(json_text(report.as_json()), end="")
        return
    page = Console(highlight=False, markup=False, width=_WIDTH)
    tables = (_layers(report), *([_steps(report)] if report.spiking else []), _networks(report))
    for table in tables:
        page.print(table)
        page.print()
    page.print("Assumptions")
    for line in report.assumptions:
        page.print(f"- {line}")
    if given.json:
        write_json(Path(given.json), report.as_json())


def _layers(report: "EnergyReport") -> "Table":
    title = (
        f"{report.run}: {report.student}, {report.split}, mean of {report.recordings} recordings "
        f"of {report.time_steps} steps"
    )
    table = _table(title, "layer", "spikes in", "SOPs", "MACs", "nJ", "share", "ANN MACs", "ANN nJ")
    for layer in report.operations.layers:
        nj = float(layer.pj_NT.sum(1).mean()) / 1e3
        table.add_row(
            layer.name,
            f"{layer.spikes_NT.sum(1).mean():,.1f}" if layer.spiking else "",
            f"{layer.sops_NT.sum(1).mean():,.0f}" if layer.spiking else "",
            f"{report.time_steps * layer.macs:,}" if layer.macs else "",
            f"{nj:,.1f}",
            f"{100 * nj / report.nj:.1f} %",
            "" if layer.identity else f"{report.time_steps * layer.dense:,}",
            f"{report.time_steps * layer.dense_pj / 1e3:,.1f}",
        )
    table.add_section()
    table.add_row(
        "all",
        f"{report.spikes:,.1f}",
        f"{report.sops:,.0f}",
        f"{report.macs:,}",
        f"{report.nj:,.1f}",
        "",
        f"{report.ann_macs:,}",
        f"{report.ann_nj:,.1f}",
    )
    return table


def _steps(report: "EnergyReport") -> "Table":
    table = _table("SOPs by time step", "layer", *(f"t={t}" for t in range(report.time_steps)))
    for layer in report.operations.layers:
        if layer.spiking:
            table.add_row(layer.name, *(_short(x) for x in layer.sops_NT.mean(0)))
    return table


def _networks(report: "EnergyReport") -> "Table":
    table = _table("Energy per recording", "network", "nJ", "× student")
    rows = [("student", report.nj)]
    if report.spiking:
        rows.append(("student, its neurons' updates too", report.nj + report.updates_nj))
        rows.append(("student, all MACs behind its pools", report.pools_as_macs_nj))
    rows += [(name, nj) for name, _, nj in report.beside]
    for name, nj in rows:
        table.add_row(name, f"{nj:,.1f}", f"{nj / report.nj:.2f}")
    if report.teacher_missing is not None:
        table.add_row(f"teacher: {report.teacher_missing}", "", "")
    return table


def _table(title: str, first: str, *columns: str) -> "Table":
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=SIMPLE_HEAD)
    table.add_column(first)
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)
    return table


def _short(count: float) -> str:
    """Four significant digits, in thousands or millions where that is shorter."""
    for unit, name in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if count >= 10 * unit:
            return f"{count / unit:,.4g} {name}"
    return f"{count:,.5g}"


COMMANDS = {"energy": (_energy_arguments, _energy)}
