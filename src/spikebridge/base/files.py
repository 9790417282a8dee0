"""Files written whole or not at all, paths as people write them, and content hashes."""

import hashlib
import json
import math
import os
import re
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from spikebridge.base.errors import FULL, UserError


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` that takes its place on success.

    Nothing is left behind on failure.

    Raises:
        UserError: the disk is full, the folder cannot be written, or a device or pipe is there.
    """
    target = Path(os.path.realpath(path)) if os.path.islink(path) else Path(path)
    if target.exists() and not (target.is_file() or target.is_dir()):
        raise UserError(f"{path}: is a device or a pipe, no file; name another")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
        os.close(handle)
    except OSError as error:
        raise writing_failed(target, error) from error
    temporary = Path(name)
    try:
        yield temporary
        temporary.chmod(0o644)
        temporary.replace(target)
    except OSError as error:
        raise writing_failed(target, error) from error
    finally:
        temporary.unlink(missing_ok=True)


def printable(path: str | os.PathLike[str]) -> str:
    """A path as text that can be written: bytes in it that are no UTF-8 as ``\\xe9``."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def is_named(path: str | os.PathLike[str]) -> bool:
    """Whether a path is UTF-8, as all that we write is."""
    return printable(path) == str(path)


def not_named(path: str | os.PathLike[str]) -> str:
    """What is wrong with a path that is not."""
    return f"{printable(path)}: the name is not UTF-8; rename it"


def remove_stale_temporaries(folder: Path, older_than_s: float = 3600.0) -> None:
    """Remove what `atomic_path` left behind in a process that was killed.

    Args:
        folder: Where to look, not below it.
        older_than_s: Younger ones may belong to a process at work.
    """
    for path in folder.glob(".*.????????"):
        with suppress(OSError):
            if path.is_file() and time.time() - path.stat().st_mtime > older_than_s:
                path.unlink()


def writing_failed(target: Path, error: OSError) -> UserError:
    """The error to raise where a file could not be written."""
    remedy = (
        "free some space or write elsewhere"
        if error.errno in FULL
        else "choose a folder that can be written"
    )
    return UserError(f"{target}: cannot be written ({error.strerror or error}); {remedy}")


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write a text file atomically."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write a JSON file atomically."""
    write_text(path, json_text(value))


class KeyTwice(ValueError):
    """A mapping has a key twice, of which YAML's readers silently drop one."""


class _Loader(yaml.SafeLoader):
    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node, seen = super().compose_mapping_node(anchor), set()
        for key, _ in node.value:
            if (key.tag, str(key.value)) in seen:
                raise KeyTwice(
                    f"key {key.value!r} stands twice, again in line {key.start_mark.line + 1}; "
                    "make one of the two"
                )
            seen.add((key.tag, str(key.value)))
        return node


def load_yaml(text: str) -> Any:
    """What YAML that a person wrote holds.

    Raises:
        KeyTwice: a mapping has a key twice.
        yaml.YAMLError: not YAML.
    """
    return yaml.load(text, _Loader)


def read_yaml(path: Path) -> tuple[Any, str]:
    """Read a YAML file that a person wrote: what it holds, and its text.

    Raises:
        UserError: not YAML; names the line.
        OSError: it cannot be read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        return load_yaml(text), text
    except KeyTwice as error:
        raise UserError(f"{path}: {error}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        line = getattr(getattr(error, "problem_mark", None), "line", None)
        where = "" if line is None else f" (line {line + 1})"
        raise UserError(f"{path}: not valid YAML{where}; mend the file") from error


def json_text(value: Any, *, indent: int | None = 2) -> str:
    """Valid JSON with a line break at its end; null stands for NaN and infinities.

    Args:
        value: A JSON value; mappings, lists and tuples may hold numbers that are not finite.
        indent: Spaces of each level; None writes one line.
    """
    try:
        text = json.dumps(value, indent=indent, allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(value), indent=indent, allow_nan=False)
    return text + "\n"


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def default_cache() -> Path:
    """Folder of what can be made again: ``$XDG_CACHE_HOME/spikebridge`` or ~/.cache/spikebridge.

    Raises:
        UserError: there is no home folder.
    """
    if given := os.environ.get("XDG_CACHE_HOME"):
        return Path(given) / "spikebridge"
    try:
        return Path.home() / ".cache" / "spikebridge"
    except RuntimeError as error:
        raise UserError(
            "no folder for prepared data: HOME is not set and this user has no home folder; set "
            "data.cache, or XDG_CACHE_HOME"
        ) from error


def expand_path(text: str) -> Path:
    """The path that a setting writes with ``~``, ``$NAME`` or ``${NAME}``.

    ``$SPIKEBRIDGE_DATA``, the folder of downloaded data sets, is ../shared/data where it is unset.

    Raises:
        UserError: an environment variable that is not set.
    """

    def value(variable: re.Match[str]) -> str:
        name = variable[1] or variable[2]
        found = os.environ.get(name) or _DEFAULTS.get(name)
        if found is None:
            raise UserError(f"{text}: the environment variable {name} is not set; set it")
        return found

    return Path(os.path.expanduser(_VARIABLE.sub(value, text)))


_VARIABLE = re.compile(r"\$(?:([A-Za-z_]\w*)|\{([A-Za-z_]\w*)\})", re.ASCII)
_DEFAULTS = {"SPIKEBRIDGE_DATA": "../shared/data"}


def file_sha256(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def settings_key(*parts: Any) -> str:
    """Short stable key of settings and content hashes, for naming cache files.

    ``parts`` must be JSON values.
    """
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:20]
