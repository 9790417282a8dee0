"""The command `calibrate`."""

from argparse import ArgumentParser, Namespace
from dataclasses import asdict
from typing import Any

from spikebridge.commands.train import add_recipe_arguments, experiment


def _calibrate_arguments(parser: ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.usage = "spikebridge calibrate RECIPE [--json] [--SETTING VALUE …]"
    parser.add_argument("--json", action="store_true", help="print all as JSON")


def _calibrate(given: Namespace) -> None:
    """Find the simulated camera that sees the photos as the training recordings are.

    Labels, and validation and test recordings, are not looked at. Prints the statistics before and
    after, and the settings as YAML for a recipe; `data.source.calibrate true` does the same by
    itself.
    """
    import yaml

    from spikebridge.base.files import json_text
    from spikebridge.data.calibrate import calibrate
    from spikebridge.data.prepared import open_split

    config, _ = experiment(given)
    collection, manifest = open_split(config.data, config.seed)
    found = calibrate(config.data, manifest, collection.sensor)
    if given.json:
        print(json_text(asdict(found)), end="")
        return
    columns = found.recorded, found.before, found.simulated
    print(f"{'':24}{'recorded':>12}{'before':>12}{'calibrated':>12}")
    for name, values in _rows(columns, found.likeness_before, found.likeness):
        print(f"{name:24}{''.join(f'{value:>12}' for value in values)}")
    before = config.data.simulator.settings()
    changes = {k: v for k, v in found.simulator.settings().items() if v != before[k]}
    print()
    settings = {"data": {"source": {"simulator": changes}}}
    print(yaml.safe_dump(settings, sort_keys=False, default_flow_style=None, width=96), end="")


def _rows(columns: Any, before: float, after: float) -> list[tuple[str, list[str]]]:
    return [
        ("recordings", [f"{c.recordings}" for c in columns]),
        ("events, median", [f"{c.events:,.0f}" for c in columns]),
        ("their spread", [f"{c.spread:.0%}" for c in columns]),
        ("ON share", [f"{c.on_share:.1%}" for c in columns]),
        ("active pixels", [f"{c.active:.1%}" for c in columns]),
        ("ON per quiet pixel", [f"{c.quiet_on:.3f}" for c in columns]),
        ("OFF per quiet pixel", [f"{c.quiet_off:.3f}" for c in columns]),
        ("duration in ms", [f"{c.duration_ms:.1f}" for c in columns]),
        *(
            (f"events in tenth {tenth + 1}", [f"{c.rate[tenth]:.1%}" for c in columns])
            for tenth in range(len(columns[0].rate))
        ),
        ("likeness", ["", f"{before:.3f}", f"{after:.3f}"]),
    ]


COMMANDS = {
    "calibrate": (_calibrate_arguments, _calibrate),
}
