"""Whose run a folder holds, how far that is, and that one process at a time trains it."""

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch

from spikebridge.base.distributed import on_main
from spikebridge.base.errors import Unreadable, UserError
from spikebridge.base.hooks import bare, is_hook
from spikebridge.base.locks import alone
from spikebridge.base.typed import first_difference
from spikebridge.results.comparable import WAYS
from spikebridge.run_folder import RunFolder
from spikebridge.settings.config import Config
from spikebridge.settings.parsing import config_from
from spikebridge.settings.recorded import plain_settings
from spikebridge.training.precision import Precision, resolve


def precision_of(folder: Path, config: Config, device: torch.device) -> Precision:
    """The precision that a run is trained in; an interrupted one goes on in that it was begun with.

    Raises:
        UserError: the file that tells it is damaged.
    """
    run = RunFolder(folder)
    path = run.precision_file
    if config.train.precision == "auto" and run.is_interrupted and path.exists():
        word = path.read_text(encoding="utf-8", errors="replace").strip()
        if word not in get_args(Precision):
            raise UserError(f"{path}: damaged; write float32 or bfloat16, whichever it was, there")
        return cast(Precision, word)
    return resolve(config.train.precision, device)


def open_run(
    folder: Path, config: Config, *, resume: bool = False, shared: bool = False
) -> dict[str, Any] | None:
    """Check a run's folder; the result when the run is already finished.

    Args:
        folder: The run's folder.
        config: Its settings.
        resume: Go on with an interrupted run, which must be there.
        shared: Go on with an interrupted run, if there is one; another process may train it.

    Raises:
        UserError: it holds a run with other settings or an interrupted one that is not to go on, or
            there is nothing to resume.
    """
    settings, run = plain_settings(config), RunFolder(folder)
    if run.config_file.exists():
        there, here = _without_ways(_settings_there(run, settings)), _without_ways(settings)
        if there != here:
            raise UserError(
                f"{folder}: holds a run with other settings ({_difference(there, here)}); "
                "choose another folder or delete this one"
            )
        if run.is_finished:
            return run.result()
        if run.is_interrupted and not (resume or shared):
            raise UserError(
                f"{folder}: holds an interrupted run; add --resume, or delete it to start again"
            )
    if resume and not run.checkpoint_file.exists():
        raise UserError(f"{folder}: no checkpoint to resume from; start without --resume")
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())
    if not there.is_dir() or not os.access(there, os.W_OK):
        raise UserError(f"{folder}: cannot be written; choose another folder")
    return None


@contextmanager
def begun(
    folder: Path, config: Config, *, resume: bool, shared: bool = False
) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """A run's folder to oneself, on all ranks; made where there is none.

    Args:
        folder: The run's folder.
        config: Its settings.
        resume: Go on with an interrupted run.
        shared: Other processes may need it, too: wait for one that trains it, and go on with a run
            that was interrupted.

    Yields:
        What `open_run` returns, and whether there is something to go on with.

    Raises:
        UserError: as `open_run`, or another process trains this run, which is not shared.
    """

    def look() -> tuple[dict[str, Any] | None, bool]:
        finished = open_run(folder, config, resume=resume, shared=shared)
        return finished, resume or (shared and RunFolder(folder).is_interrupted)

    with ExitStack() as stack:
        on_main(lambda: stack.enter_context(alone(folder, wait=shared)))
        yield on_main(look)


def _without_ways(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without what is another way to the same result, which may change between calls."""
    left = dict(settings)
    for way in WAYS:
        room, name = way.split(".")
        left[room] = {k: v for k, v in left.get(room, {}).items() if k != name}
    return left


def _settings_there(run: RunFolder, expected: dict[str, Any]) -> dict[str, Any]:
    """A run's settings; one that this version added has its default there.

    Parsing, which fills in defaults, takes a tenth of a second: what is as expected is not parsed.
    """
    try:
        written = run.settings()
    except Unreadable:
        raise
    except UserError as error:
        raise UserError(
            f"{run.config_file}: damaged; choose another folder or delete this one"
        ) from error
    if written == expected:
        return written
    return plain_settings(config_from(written, origin=str(run.config_file)))


def _difference(there: dict[str, Any], here: dict[str, Any]) -> str:
    """The first setting that differs, in words."""
    name, was, now = first_difference(there, here)
    if is_hook(was) and is_hook(now) and bare(was) == bare(now):
        return f"the source of {name} {bare(now)} has changed"
    return f"{name} is {was!r} there and {now!r} here"
