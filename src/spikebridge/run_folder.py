"""A run's folder: whose run it holds, how far that is, and that one process at a time trains it."""

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, cast, get_args

import torch
import yaml

from spikebridge.base.distributed import on_main
from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.base.hooks import bare, is_hook, recorded
from spikebridge.base.locks import alone
from spikebridge.data.collection import file_from
from spikebridge.results.compare import read_result
from spikebridge.settings.config import Config, DataConfig
from spikebridge.settings.parsing import config_from
from spikebridge.training.precision import Precision, resolve


def unfinished(folder: Path) -> bool:
    """Whether a folder holds an interrupted run."""
    return (folder / "checkpoint.pt").exists() and not (folder / "result.json").exists()


PRECISION = "precision.txt"
"""In a run's folder: what its convolutions run in."""


def precision_of(folder: Path, config: Config, device: torch.device) -> Precision:
    """The precision that a run is trained in; an interrupted one goes on in that it was begun with.

    Raises:
        UserError: the file that tells it is damaged.
    """
    path = folder / PRECISION
    if config.train.precision == "auto" and unfinished(folder) and path.exists():
        word = path.read_text(encoding="utf-8", errors="replace").strip()
        if word not in get_args(Precision):
            raise UserError(f"{path}: damaged; write float32 or bfloat16, whichever it was, there")
        return cast(Precision, word)
    return resolve(config.train.precision, device)


def open_run(folder: Path, config: Config, resume: bool | None) -> dict[str, Any] | None:
    """Check a run's folder; the result when the run is already finished.

    Args:
        folder: The run's folder.
        config: Its settings.
        resume: Go on with an interrupted run; None where there is one.

    Raises:
        UserError: it holds a run with other settings or an interrupted one that ``resume`` does not
            go on with, or there is nothing to resume.
    """
    settings = plain_settings(config)
    path = folder / "config.yaml"
    if path.exists():
        if (there := _settings_at(path, settings)) != settings:
            raise UserError(
                f"{folder}: holds a run with other settings ({_difference(there, settings)}); "
                "choose another folder or delete this one"
            )
        if (folder / "result.json").exists():
            return read_result(folder)
        if unfinished(folder) and resume is False:
            raise UserError(
                f"{folder}: holds an interrupted run; add --resume, or delete it to start again"
            )
    if resume and not (folder / "checkpoint.pt").exists():
        raise UserError(f"{folder}: no checkpoint to resume from; start without --resume")
    return None


def origin_of(folder: Path) -> str | None:
    """The folder in which a finished run was made, which relative paths start from.

    Raises:
        UserError: no finished run there.
    """
    return read_result(folder).get("origin")


def cache_of(folder: Path) -> str | None:
    """A run's data.cache as it is found from here; None where none is set or there is no run."""
    try:
        written = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))
        cache = written["data"]["cache"]
        return None if cache is None else file_from(origin_of(folder), str(expand_path(cache)))
    except (OSError, ValueError, KeyError, TypeError, yaml.YAMLError, UserError):
        return None


def data_of(folder: Path, data: DataConfig) -> DataConfig:
    """A run's data settings with the folders as they are found from here.

    Args:
        folder: The run's folder.
        data: Its settings, or changed ones.

    Raises:
        UserError: no finished run there, or its data are neither where it was made nor here.
    """
    origin = origin_of(folder)

    def found(name: str) -> str | None:
        value = getattr(data, name)
        if value is None:
            return None
        path = file_from(origin, str(expand_path(value)))
        if name != "cache" and not Path(path).exists() and not Path(path).is_absolute():
            where = f" nor below {origin}, where the run was made" if origin else ""
            raise UserError(
                f"{folder}: its data.{name}, {value}, is not below {Path.cwd()}{where}; call the "
                "command in the folder that holds it"
            )
        return path

    folders = {name: found(name) for name in ("events", "photos", "cache")}
    return dataclasses.replace(data, **folders)


@contextmanager
def begun(
    folder: Path, config: Config, resume: bool | None, *, waiting: str | None = None
) -> Iterator[tuple[dict[str, Any] | None, bool]]:
    """A run's folder to oneself, on all ranks; made where there is none.

    Args:
        folder: The run's folder.
        config: Its settings.
        resume: As for `open_run`.
        waiting: What to say before waiting for another process that trains it; None refuses.

    Yields:
        What `open_run` returns, and whether there is something to go on with.

    Raises:
        UserError: as `open_run`, or another process trains this run.
    """

    def look() -> tuple[dict[str, Any] | None, bool]:
        return open_run(folder, config, resume), unfinished(folder) if resume is None else resume

    with ExitStack() as stack:
        on_main(lambda: stack.enter_context(alone(folder, waiting=waiting)))
        yield on_main(look)


def _settings_at(path: Path, expected: dict[str, Any]) -> dict[str, Any]:
    """A run's settings; one that this version added has its default there.

    Parsing, which fills in defaults, takes a tenth of a second: what is as expected is not parsed.
    """
    try:
        written = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise UserError(f"{path}: damaged; choose another folder or delete this one") from error
    if not isinstance(written, dict):
        raise UserError(f"{path}: damaged; choose another folder or delete this one")
    if written == expected:
        return written
    return plain_settings(config_from(written, origin=str(path)))


def _difference(there: Any, here: Any, name: str = "") -> str:
    """The first setting that differs, in words."""
    if is_hook(there) and is_hook(here) and bare(there) == bare(here):
        return f"the source of {name} {bare(here)} has changed"
    if not (isinstance(there, dict) and isinstance(here, dict)):
        return f"{name} is {there!r} there and {here!r} here"
    key = next(k for k in {**here, **there} if here.get(k) != there.get(k))
    return _difference(there.get(key), here.get(key), f"{name}.{key}" if name else key)


def plain_settings(config: Config) -> dict[str, Any]:
    """Settings as YAML and JSON have them, each hook with the hash of its source.

    Raises:
        UserError: a value that YAML cannot give back, or a hook that cannot be imported.
    """
    if type(config) is not Config:
        raise UserError(
            f"the settings are a {type(config).__qualname__}, which config.yaml cannot give back; "
            "give a spikebridge.settings.config.Config"
        )
    return _plain(dataclasses.asdict(with_sources(config)))


def with_sources(config: Config) -> Config:
    """The settings, each hook with the hash of its source as it is now.

    Raises:
        UserError: a hook that cannot be imported.
    """

    def changed(part: Any, *names: str) -> Any:
        values = {name: recorded(getattr(part, name)) for name in names}
        return dataclasses.replace(part, **values)

    objective = changed(config.objective, "alignment", "kd_loss")
    names = ("replacement", "staging", "distillation")
    schedules = {name: changed(getattr(objective, name), "shape") for name in names}
    return dataclasses.replace(
        config,
        teacher=changed(config.teacher, "name"),
        objective=dataclasses.replace(objective, **schedules),
    )


def _plain(value: Any, name: str = "") -> Any:
    """Tuples as lists, for YAML and JSON."""
    if isinstance(value, dict):
        return {k: _plain(v, f"{name}.{k}" if name else k) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(v, name) for v in value]
    if type(value) not in (str, int, float, bool, type(None)):
        raise UserError(
            f"{name} is a {type(value).__qualname__}, which config.yaml cannot give back; give a "
            "plain number or text"
        )
    return value
