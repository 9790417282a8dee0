"""The command `report`."""

import shlex
from argparse import ArgumentParser, Namespace
from pathlib import Path


def _report_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge report RUN… [--out report.html] [--title TEXT]"
    parser.add_argument(
        "runs", nargs="+", help="folders of finished runs: students, and teachers if any"
    )
    parser.add_argument("--out", type=str, default="report.html", help="the page")
    parser.add_argument("--title", type=str, default="", help="its heading; empty names the data")


def _report(given: Namespace) -> None:
    """Write one self-contained HTML page about finished runs of one data set and label budget.

    Accuracy against the baselines first; then curves, alignment, classes, recordings, spikes,
    energy and the audit's verdict. Nothing is fetched, neither to write it nor to read it.
    """
    from spikebridge.results.report import write_report
    from spikebridge.run_folder import run_folders

    page = Path(given.out)
    note = shlex.join(["spikebridge", "report", *given.runs, "--out", given.out])
    write_report(run_folders(given.runs), page, title=given.title, note=note)
    print(f"{page}: {page.stat().st_size / 1e6:.1f} MB")


COMMANDS = {"report": (_report_arguments, _report)}
