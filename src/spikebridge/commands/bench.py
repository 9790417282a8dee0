"""The command `bench`."""

import tempfile
from pathlib import Path

from jsonargparse import ArgumentParser, Namespace

from spikebridge.commands.train import add_recipe_arguments, experiment


def _bench_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge bench data RECIPE [--json FILE] [--SETTING VALUE …]"
    parser.add_argument("what", choices=["data"], help="data: files, cache and loader")
    add_recipe_arguments(parser)
    parser.add_argument("--json", type=str, help="also write the figures as JSON")


def _bench(given: Namespace) -> None:
    """Measure speed, each figure beside a plain baseline in the same run."""
    from spikebridge.bench.data import bench_data, describe
    from spikebridge.files import write_json

    config, _ = experiment(given)
    with tempfile.TemporaryDirectory() as scratch:
        found = bench_data(config, Path(scratch))
    print(describe(found), end="")
    if given.get("json"):
        write_json(given.json, found.as_json())


COMMANDS = {"bench": (_bench_arguments, _bench)}
