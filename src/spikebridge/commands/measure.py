"""The commands `evaluate` and `compare`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a trained run")
    parser.add_argument(
        "--split", choices=["validation", "test"], default="test", help="which split of the run"
    )


def _evaluate(given: Namespace) -> None:
    """Measure a trained run again on its own validation or test split."""
    from spikebridge.data.manifest import UNPROVED
    from spikebridge.results.tables import marks_of
    from spikebridge.results.trained import evaluate_run
    from spikebridge.run_folder import RunFolder

    evaluation = evaluate_run(Path(given.run), given.split)
    result = RunFolder(Path(given.run)).result()
    marks = [*marks_of(result), *([UNPROVED] if result.get("unproved") else [])]
    print(
        f"{given.run}: {given.split} top-1 {evaluation.top1:.2f} %, loss {evaluation.loss:.4f}, "
        f"{len(evaluation.files)} samples" + "".join(f", {mark}" for mark in marks)
    )


def _compare_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge compare RUN… [--split validation] [--out FILE] [--per-run FILE]"
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument(
        "--out", type=str, help="also write the table: a .md, .tex, .csv or .json file"
    )
    parser.add_argument("--per-run", type=str, help="also write a CSV file with a row for each run")
    parser.add_argument(
        "--split",
        choices=["validation", "test"],
        default="test",
        help="accuracy on which split; settings are chosen on validation",
    )


def _compare(given: Namespace) -> None:
    """Compare finished runs: mean and 95 % interval over seeds, per method and its settings."""
    from spikebridge.results.compare import compare, markdown, write_per_run, write_table
    from spikebridge.run_folder import run_folders

    rows = compare(run_folders(given.runs), given.split)
    print(markdown(rows, given.split), end="")
    if given.out:
        chosen = [] if given.split == "test" else ["--split", given.split]
        command = ["spikebridge", "compare", *chosen, *given.runs]
        write_table(rows, Path(given.out), given.split, command)
    if given.per_run:
        write_per_run(rows, Path(given.per_run))


COMMANDS = {
    "evaluate": (_evaluate_arguments, _evaluate),
    "compare": (_compare_arguments, _compare),
}
