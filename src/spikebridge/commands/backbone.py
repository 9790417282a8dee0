"""The command `backbone`."""

import os
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

from spikebridge.base.errors import UserError


def _backbone_arguments(parser: ArgumentParser) -> None:
    from spikebridge.settings.parsing import add_settings
    from spikebridge.settings.presets import recipe_names

    parser.usage = (
        "spikebridge backbone --photos DIR … --out DIR [--recipe RECIPE] [--manifest FILE] "
        "[--resume] [--SETTING VALUE …]"
    )
    parser.add_argument("--out", type=str, required=True, help="the run's folder")
    for name, told in (
        ("photos", "folders of photos, at any depth; short for --backbone.photos"),
        ("unlabelled", "folders of photos without labels; short for --backbone.unlabelled"),
        ("exclude", "folders below these to pass over; short for --backbone.exclude"),
    ):
        parser.add_argument(f"--{name}", nargs="+", action="extend", type=str, help=told)
    parser.add_argument(
        "--recipe",
        type=str,
        help="whose students the backbone is for: data, student and teacher are taken from it, and "
        f"what its split (by --seed) holds out is left out; a file, or {', '.join(recipe_names())}",
    )
    parser.add_argument(
        "--manifest",
        type=str,
        help="manifest.csv of a split whose held-out photos are left out; `spikebridge prepare` "
        "writes it",
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_settings(parser)


def _settings(given: Namespace) -> Any:
    """The configuration: the package's defaults, the recipe's, the command line's."""
    from spikebridge.settings.parsing import config_from
    from spikebridge.settings.presets import merge, read_backbone_defaults, read_recipe

    settings = read_backbone_defaults()
    if given.recipe:
        recipe = read_recipe(given.recipe)
        taken = ("seed", "data", "student", "teacher")
        settings = merge(settings, {k: v for k, v in recipe.items() if k in taken})
    own = {n: v for n in ("photos", "unlabelled", "exclude") if (v := getattr(given, n))}
    settings = merge(merge(settings, given.settings), {"backbone": own})
    return config_from(settings, given.recipe or "spikebridge backbone")


def _backbone(given: Namespace) -> None:
    """Teach a spiking backbone on photos of anything, before any recording is seen.

    Photos become events inside the step, by a simulated camera, each time by another view and
    another take. Their labels are their folders'; without labels, --backbone.learn embedding
    learns where the teacher puts them. `student.weights` starts a student from the run.
    """
    from spikebridge.data.manifest import Manifest
    from spikebridge.data.prepared import open_split
    from spikebridge.run_folder import RunFolder
    from spikebridge.runs.backbone import train_backbone

    if int(os.environ.get("WORLD_SIZE", 1)) > 1:
        raise UserError("spikebridge backbone runs in one process; start it without torchrun")
    if given.recipe and given.manifest:
        raise UserError("--recipe draws a split of its own; give it, or --manifest, not both")
    config, folder = _settings(given), Path(given.out)
    if not config.backbone.photos and not config.backbone.unlabelled:
        raise UserError("no photos; give --photos DIR, or --unlabelled DIR")
    already, held = RunFolder(folder).is_finished, None
    if given.manifest:
        held = Manifest.read(Path(given.manifest))
    elif given.recipe and not already:
        held = open_split(config.data, config.seed)[1]
    result = train_backbone(config, folder, held=held, resume=given.resume)
    print(
        f"{folder}: {'taught already' if already else 'taught'} on {result['photos']['train']:,} "
        f"photos; {result['val_top1_is']} {result['val_top1']:.1f} % (last epoch, "
        f"{result['seconds']:.0f} s); --student.weights {folder} starts a student from it"
    )


COMMANDS = {
    "backbone": (_backbone_arguments, _backbone),
}
