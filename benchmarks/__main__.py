"""Measure speed: `python -m benchmarks data`, `run`, `training` or `inference`."""

import sys
import tempfile
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from spikebridge import cli
from spikebridge.commands.train import add_recipe_arguments, experiment


def _data_arguments(parser: ArgumentParser) -> None:
    parser.usage = "python -m benchmarks data RECIPE [--json FILE] [--SETTING VALUE …]"
    add_recipe_arguments(parser)
    _add_json(parser)


def _data(given: Namespace) -> None:
    """Samples per second of files, the cache and the loader, on a recipe's data."""
    from benchmarks.data import bench_data, describe

    config, _ = experiment(given)
    with tempfile.TemporaryDirectory() as scratch:
        found = bench_data(config, Path(scratch))
    _show(describe(found), found.as_json(), given)


def _run_arguments(parser: ArgumentParser) -> None:
    parser.usage = "python -m benchmarks run RECIPE [--json FILE] [--SETTING VALUE …]"
    add_recipe_arguments(parser)
    _add_json(parser)


def _run(given: Namespace) -> None:
    """Seconds of a whole training run, beside a plain loop over the same batches.

    Steps, teacher, evaluation and loading by themselves; shorten the run by --train.epochs and
    --train.batches_per_epoch.
    """
    from benchmarks.run import bench_run, describe

    config, _ = experiment(given)
    found = bench_run(config)
    _show(describe(found), found.as_json(), given)


def _training_arguments(parser: ArgumentParser) -> None:
    parser.usage = (
        "python -m benchmarks training [--student NAME] [--width N] [--rows A,B] [--json FILE] …"
    )
    _add_settings(parser, "reference,spikingjelly,ours,relu-bound", batch=16, repeats=15)
    parser.add_argument(
        "--memory",
        choices=["normal", "low"],
        default="normal",
        help="low also times `ours` with train.memory low, beside `ours`",
    )
    parser.add_argument(
        "--sweep-time-steps", action="store_true", help="also time ours for T = 2, 4, 8 and 16"
    )


def _training(given: Namespace) -> None:
    """Milliseconds and memory of one training step, both streams and all losses.

    Beside ours: the plain loop over time steps, the same network of SpikingJelly's modules, and
    the same convolutions with ReLU for the neurons, compiled.
    """
    from benchmarks.training import bench_training, describe

    found = bench_training(
        _settings(given),
        rows=given.rows.split(","),
        repeats=given.repeats,
        low_memory=given.memory == "low",
        sweep=given.sweep_time_steps,
    )
    _show(describe(found), found.as_json(), given)


def _inference_arguments(parser: ArgumentParser) -> None:
    parser.usage = (
        "python -m benchmarks inference [--student NAME] [--width N] [--rows A,B] [--json FILE] …"
    )
    _add_settings(parser, "reference,spikingjelly,ours", batch=1, repeats=100)


def _inference(given: Namespace) -> None:
    """Latency of classifying one recording: median and 99th percentile.

    Beside ours: the plain loop over time steps, and the same network of SpikingJelly's modules.
    """
    from benchmarks.inference import bench_inference, describe

    rows = given.rows.split(",")
    found = bench_inference(_settings(given), rows=rows, repeats=given.repeats)
    _show(describe(found), found.as_json(), given)


def _add_settings(parser: ArgumentParser, rows: str, *, batch: int, repeats: int) -> None:
    add = parser.add_argument
    add("--student", choices=["vgg-snn", "resnet18-snn"], default="vgg-snn", help="architecture")
    add("--width", type=float, default=1.0, help="channel multiplier; 1 is the published size")
    add("--size", type=int, default=48, help="height and width of the frames in pixels")
    add("--time-steps", type=int, default=10, help="number of time steps (T)")
    add("--batch", type=int, default=batch, help="samples per stream")
    add("--classes", type=int, default=101, help="number of classes")
    add(
        "--precision",
        choices=["auto", "float32", "bfloat16"],
        default="auto",
        help="precision of convolutions in all rows but `reference`, which is float32",
    )
    add(
        "--neuron-backend",
        choices=["auto", "eager", "native", "triton"],
        default="auto",
        help="what computes the neurons of `ours`",
    )
    add("--device", type=str, default="auto", help="auto takes a CUDA device where there is one")
    add("--threads", type=int, help="CPU threads; null leaves it to PyTorch")
    add("--repeats", type=int, default=repeats, help="timed calls of each row")
    add("--rows", type=str, default=rows, help="what to measure, separated by commas")
    _add_json(parser)


def _add_json(parser: ArgumentParser) -> None:
    parser.add_argument("--json", type=str, help="also write the figures as JSON")


def _settings(given: Namespace) -> Any:
    from dataclasses import fields

    from benchmarks.problem import BenchSettings

    names = {field.name for field in fields(BenchSettings)} - {"memory", "cuda_graph"}
    return BenchSettings(**{name: getattr(given, name) for name in names})


def _show(page: str, figures: dict[str, Any], given: Namespace) -> None:
    from spikebridge.base.files import write_json

    print(page, end="")
    if given.json:
        write_json(given.json, figures)


COMMANDS = {
    "data": (_data_arguments, _data),
    "run": (_run_arguments, _run),
    "training": (_training_arguments, _training),
    "inference": (_inference_arguments, _inference),
}
_DESCRIPTION = "Measure speed, each figure beside a plain baseline in the same run."


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one benchmark; arguments, result and errors are those of `spikebridge.cli.main`."""
    return cli.main(arguments, COMMANDS, "python -m benchmarks", _DESCRIPTION)


if __name__ == "__main__":
    sys.exit(main())
