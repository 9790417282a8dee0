"""The commands `teacher` and `train`."""

import sys
from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Any

_TOLD = ("selected_on", "val_top1", "test_top1", "best_epoch", "seconds")
_RECIPE_HELP = "a recipe file (YAML), or the name of a shipped one: {}"


def add_recipe_arguments(parser: ArgumentParser) -> None:
    """Add the recipe, and every setting that can be laid over it."""
    from spikebridge.settings.parsing import add_settings
    from spikebridge.settings.presets import recipe_names

    parser.add_argument("recipe", help=_RECIPE_HELP.format(", ".join(recipe_names())))
    add_settings(parser)


def _run_arguments(parser: ArgumentParser) -> None:
    add_recipe_arguments(parser)
    parser.usage = f"{parser.prog} RECIPE [--out DIR] [--resume] [--SETTING VALUE …]"
    parser.add_argument(
        "--out", type=str, help="the run's folder; null takes runs/RECIPE/METHOD-seedN"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")


def _train_arguments(parser: ArgumentParser) -> None:
    _run_arguments(parser)
    parser.add_argument(
        "--teacher_run",
        type=str,
        help="folder of the teacher, trained there if need be; null takes teacher-seedN beside the "
        "run",
    )


def experiment(given: Namespace) -> tuple[Any, Path]:
    """Configuration and the folder that runs of this recipe go to."""
    from spikebridge.settings.parsing import config_from
    from spikebridge.settings.presets import merge, read_recipe

    recipe = read_recipe(given.recipe, given.settings.get("method"))
    config = config_from(merge(recipe, given.settings), given.recipe)
    return config, Path("runs") / Path(given.recipe).stem


def _teacher(given: Namespace) -> None:
    """Train the ANN teacher on the recipe's photos.

    No photo of a validation or test recording is used. `train` does this by itself where a method
    needs a teacher and there is none.
    """
    from spikebridge.base.distributed import main_first, processes, rank
    from spikebridge.base.hooks import with_sources
    from spikebridge.data.prepared import prepare
    from spikebridge.run_folder import RunFolder
    from spikebridge.runs.train import train_teacher

    config, root = experiment(given)
    config = with_sources(config)  # Before data are prepared, which takes long.
    folder = Path(given.out or root / f"teacher-seed{config.seed}")
    already = RunFolder(folder).is_finished
    with processes(config.train.device):
        data = main_first(lambda: prepare(config.data, config.seed))
        result = train_teacher(config, data, folder, resume=given.resume)
        if rank() == 0:
            _print_result(folder, result, already)


def _train(given: Namespace) -> None:
    """Train a spiking student by CKD or one of its baselines.

    On several GPUs: torchrun --nproc-per-node N -m spikebridge train RECIPE.

    The best epoch is selected on validation; the test recordings are read once, at the end. Any
    setting of the recipe can be changed: --method kt --seed 1 --data.split.labelled_per_class 2.
    """
    from spikebridge.base.distributed import main_first, processes, rank
    from spikebridge.base.hooks import with_sources
    from spikebridge.data.datasets.folders import name_of
    from spikebridge.data.prepared import prepare
    from spikebridge.results.backbone import load_backbone, require_fitting
    from spikebridge.results.export import warn_before_training
    from spikebridge.run_folder import RunFolder
    from spikebridge.runs.train import train_student
    from spikebridge.settings.weights import with_weights_hash

    config, root = experiment(given)
    config = with_weights_hash(with_sources(config))  # Before data are prepared, which takes long.
    if config.student.weights is not None:
        names = {config.data.name, name_of(config.data)}
        require_fitting(load_backbone(config.student.weights), config.student, names)
    folder = Path(given.out or root / f"{config.method}-seed{config.seed}")
    already = RunFolder(folder).is_finished
    beside = folder.parent / f"teacher-seed{config.seed}"
    with processes(config.train.device):
        if rank() == 0 and not already:
            warn_before_training(config.student)
        data = main_first(
            lambda: prepare(
                config.data, config.seed, simulated_source=config.needs_simulated_source
            )
        )
        result = train_student(
            config,
            data,
            folder,
            teacher_folder=Path(given.teacher_run or beside),
            resume=given.resume,
        )
        if rank() == 0:
            _print_result(folder, result, already)


def _print_result(folder: Path, result: dict[str, Any], already: bool) -> None:
    from spikebridge.data.manifest import UNPROVED
    from spikebridge.results.tables import marks_of
    from spikebridge.run_folder import RunFolder

    if already:
        print(f"{folder}: trained already; delete it to train again", file=sys.stderr)
        result = RunFolder(folder).result(_TOLD)
    validated = [] if result["selected_on"] == "test" else ["the last epoch, for no photo selects"]
    if validated and result["val_top1"] is not None:
        validated = [f"validation {result['val_top1']:.2f} %"]
    print(
        f"{folder}: test top-1 {result['test_top1']:.2f} % "
        f"({', '.join([*marks_of(result), *validated])}, "
        f"epoch {result['best_epoch']}, {result['seconds']:.0f} s)"
        + (f", {UNPROVED}; spikebridge audit {folder} says why" if result.get("unproved") else "")
    )


COMMANDS = {
    "teacher": (_run_arguments, _teacher),
    "train": (_train_arguments, _train),
}
