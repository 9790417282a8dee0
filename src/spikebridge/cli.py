"""The command `spikebridge`: parsing and calling, nothing else."""

import os
import sys
import threading
from argparse import RawDescriptionHelpFormatter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jsonargparse import ArgumentError, ArgumentParser, Namespace

from spikebridge.errors import UserError

_DESCRIPTION = """Cross Knowledge Distillation: train a spiking network on event recordings
with help from labelled photos of the same classes and from an ANN that knows them.

Start with: spikebridge demo"""

_WITH_RECIPE = ("teacher", "train")
_RECIPE_HELP = "a recipe file (YAML), or the name of a shipped one: {}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, 2 for bad input, 130 for Ctrl-C)."""
    from spikebridge.training.loop import Interrupted

    threading.excepthook = _quiet_about_full_disks
    try:
        return _run(list(sys.argv[1:] if arguments is None else arguments))
    except UserError as error:
        return _complain(str(error), 2)
    except Interrupted as stop:
        return _complain(str(stop), 130)
    except KeyboardInterrupt:
        return _complain("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _quiet_about_full_disks(failure: threading.ExceptHookArgs) -> None:
    """TensorBoard's writing thread also hands its error to the thread that logs."""
    if not issubclass(failure.exc_type, OSError):
        threading.__excepthook__(failure)


def _complain(message: str, code: int) -> int:
    prefix = "error: " if code == 2 else ""
    print(f"spikebridge: {prefix}{message}", file=sys.stderr)
    return code


def _run(arguments: list[str]) -> int:
    parser, commands = _parser()
    if not arguments:
        parser.print_help()
        return 2
    name = arguments[0]
    if name in ("-h", "--help"):
        parser.print_help()
        return 0
    if name == "--version":
        from importlib.metadata import version

        print(version("spikebridge"))
        return 0
    if name not in commands:
        raise UserError(
            f"unknown command {name!r}{_near(name, list(commands))}; see spikebridge --help"
        )
    build, run = commands[name]
    command = ArgumentParser(
        prog=f"spikebridge {name}", description=run.__doc__, exit_on_error=False, allow_abbrev=False
    )
    build(command)
    try:
        # A recipe's settings give way to what is given here, not to defaults.
        given = command.parse_args(arguments[1:], defaults=name not in _WITH_RECIPE)
    except ArgumentError as error:
        raise UserError(f"{_explained(error, command)}; see spikebridge {name} --help") from error
    run(given)
    return 0


_Build = Callable[[ArgumentParser], None]
_Command = Callable[[Namespace], None]


def _parser() -> tuple[ArgumentParser, dict[str, tuple[_Build, _Command]]]:
    commands: dict[str, tuple[_Build, _Command]] = {
        "demo": (_demo_arguments, _demo),
        "simulate": (_simulate_arguments, _simulate),
        "teacher": (_recipe_arguments, _teacher),
        "train": (_train_arguments, _train),
        "evaluate": (_evaluate_arguments, _evaluate),
        "predict": (_predict_arguments, _predict),
        "compare": (_compare_arguments, _compare),
    }
    lines = [
        f"  {name:<10}{(run.__doc__ or '').splitlines()[0]}" for name, (_, run) in commands.items()
    ]
    parser = ArgumentParser(
        prog="spikebridge",
        usage="spikebridge COMMAND …",
        description=_DESCRIPTION + "\n\ncommands:\n" + "\n".join(lines),
        epilog="spikebridge COMMAND --help explains one command.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action="store_true", help="print the version")
    return parser, commands


def _explained(error: ArgumentError, parser: ArgumentParser) -> str:
    from spikebridge.settings import one_line

    message = one_line(error)
    unknown = "unrecognized arguments: "
    if unknown in message:
        option = message.split(unknown)[1].split()[0].split("=")[0]
        known = [s for action in parser._actions for s in action.option_strings]
        return f"unknown option {option}{_near(option, known)}"
    return message


def _near(name: str, known: list[str]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.5)
    return f" (did you mean {near[0]}?)" if near else ""


# demo ------------------------------------------------------------------------------------------


def _demo_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge demo [--out DIR] [--seeds N]"
    parser.add_argument("--out", type=str, default="demo", help="folder of everything it makes")
    parser.add_argument("--seeds", type=int, default=3, help="number of repetitions")


def _demo(given: Namespace) -> None:
    """See CKD and its baselines at work on handwritten digits: 5 minutes, no download.

    Repeat the command to go on where it was interrupted.
    """
    from spikebridge.demo import run_demo

    run_demo(Path(given.out), given.seeds)


# simulate --------------------------------------------------------------------------------------


def _simulate_arguments(parser: ArgumentParser) -> None:
    from spikebridge.data.simulate import Simulator
    from spikebridge.settings import add_settings

    parser.usage = "spikebridge simulate --photos DIR --out DIR [--seed N] [--simulator.… VALUE]"
    parser.add_argument("--photos", type=str, required=True, help="folder with CLASS/PHOTO.jpg")
    parser.add_argument(
        "--out", type=str, required=True, help="folder of the recordings, CLASS/PHOTO.bin"
    )
    parser.add_argument("--seed", type=int, default=0, help="seed of thresholds and noise")
    add_settings(parser, Simulator, "simulator")


def _simulate(given: Namespace) -> None:
    """Turn a folder of photos into simulated event recordings (N-Caltech101's layout).

    Recordings that are there already are kept; repeat the command to go on where it was
    interrupted.
    """
    from spikebridge.data.simulate import Simulator, simulate_folder

    try:
        simulator = Simulator(**given.simulator.as_dict())
    except ValueError as error:
        raise UserError(str(error)) from error
    out, seed = Path(given.out), given.seed
    made = simulate_folder(given.photos, out, simulator, seed=seed)
    print(f"{out}: {made} recordings made")


# teacher and train -----------------------------------------------------------------------------


def _recipe_arguments(parser: ArgumentParser) -> None:
    from spikebridge.recipes import recipe_names
    from spikebridge.settings import add_settings

    parser.usage = f"{parser.prog} RECIPE [--out DIR] [--resume] [--SETTING VALUE …]"
    parser.add_argument("recipe", help=_RECIPE_HELP.format(", ".join(recipe_names())))
    parser.add_argument(
        "--out", type=str, help="the run's folder; null takes runs/RECIPE/METHOD-seedN"
    )
    parser.add_argument("--resume", action="store_true", help="go on with an interrupted run")
    add_settings(parser)


def _train_arguments(parser: ArgumentParser) -> None:
    _recipe_arguments(parser)
    parser.add_argument(
        "--teacher_run",
        type=str,
        help="folder of the teacher, trained there if need be; null takes teacher-seedN beside the "
        "run",
    )


def _experiment(given: Namespace) -> tuple[Any, Path]:
    """Configuration and the folder that runs of this recipe go to."""
    from spikebridge.recipes import merge, read_recipe
    from spikebridge.settings import config_from

    overrides = given.as_dict()
    recipe = overrides.pop("recipe")
    for name in ("out", "resume", "teacher_run"):
        overrides.pop(name, None)
    settings = merge(read_recipe(recipe, overrides.get("method")), overrides)
    return config_from(settings, recipe), Path("runs") / Path(recipe).stem


def _teacher(given: Namespace) -> None:
    """Train the ANN teacher on the recipe's photos.

    No photo of a validation or test recording is used. `train` does this by itself where a method
    needs a teacher and there is none.
    """
    from spikebridge.data.prepared import prepare
    from spikebridge.runs import train_teacher

    config, root = _experiment(given)
    folder = Path(given.get("out", root / f"teacher-seed{config.seed}"))
    already = (folder / "result.json").exists()
    data = prepare(config.data, config.seed)
    result = train_teacher(config, data, folder, resume=given.get("resume", False))
    _print_result(folder, result, already)


def _train(given: Namespace) -> None:
    """Train a spiking student by CKD or one of its baselines.

    The best epoch is selected on validation; the test recordings are read once, at the end. Any
    setting of the recipe can be changed: --method kt --seed 1 --data.split.labelled_per_class 2.
    """
    from spikebridge.data.prepared import prepare
    from spikebridge.runs import train_student

    config, root = _experiment(given)
    folder = Path(given.get("out", root / f"{config.method}-seed{config.seed}"))
    already = (folder / "result.json").exists()
    beside = folder.parent / f"teacher-seed{config.seed}"
    data = prepare(
        config.data, config.seed, simulated_source=config.objective.source == "simulated"
    )
    result = train_student(
        config,
        data,
        folder,
        teacher_folder=Path(given.get("teacher_run", beside)),
        resume=given.get("resume", False),
    )
    _print_result(folder, result, already)


def _print_result(folder: Path, result: dict[str, Any], already: bool) -> None:
    if already:
        print(f"{folder}: trained already; delete it to train again", file=sys.stderr)
    print(
        f"{folder}: test top-1 {result['test_top1']:.2f} % (validation {result['val_top1']:.2f} %, "
        f"epoch {result['best_epoch'] + 1}, {result['seconds']:.0f} s)"
    )


# evaluate, predict, compare --------------------------------------------------------------------


def _evaluate_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", help="folder of a trained run")
    parser.add_argument(
        "--split", choices=["validation", "test"], default="test", help="which split of the run"
    )


def _evaluate(given: Namespace) -> None:
    """Measure a trained run again on its own validation or test split."""
    from spikebridge.runs import evaluate_run

    evaluation = evaluate_run(Path(given.run), given.split)
    print(
        f"{given.run}: {given.split} top-1 {evaluation.top1:.2f} %, loss {evaluation.loss:.4f}, "
        f"{len(evaluation.files)} samples"
    )


def _predict_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge predict RUN FILE… [--top N]"
    parser.add_argument("run", help="folder of a trained student")
    parser.add_argument("files", nargs="+", help="event recordings in any readable format")
    parser.add_argument("--top", type=int, default=5, help="number of classes to print")


def _predict(given: Namespace) -> None:
    """Print the most likely classes of event recordings."""
    from spikebridge.predict import predict
    from spikebridge.runs import load_run

    trained = load_run(Path(given.run))
    for prediction in predict(trained, given.files, top=given.top):
        best = zip(prediction.classes, prediction.confidences, strict=True)
        print(prediction.file, *(f"{name} {100 * share:.1f} %" for name, share in best), sep="\t")


def _compare_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge compare RUN… [--split validation] [--out FILE]"
    parser.add_argument("runs", nargs="+", help="folders of finished runs")
    parser.add_argument("--out", type=str, help="also write the table: a .md, .csv or .json file")
    parser.add_argument(
        "--split",
        choices=["validation", "test"],
        default="test",
        help="accuracy on which split; settings are chosen on validation",
    )


def _compare(given: Namespace) -> None:
    """Compare finished runs: mean and 95 % interval over seeds, per method."""
    from spikebridge.compare import compare, markdown, write_table

    rows = compare([Path(run) for run in given.runs], given.split)
    print(markdown(rows, given.split), end="")
    if given.out:
        write_table(rows, Path(given.out), given.split)
