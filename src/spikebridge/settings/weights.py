"""Weights that a student starts from: a backbone's run, its file, or one that ships, by name."""

import dataclasses
import re
from pathlib import Path

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path, file_sha256
from spikebridge.base.typed import did_you_mean
from spikebridge.run_folder import RunFolder
from spikebridge.settings.config import Config

_SHIPPED = Path(__file__).parents[1] / "weights"
_HASH = re.compile(r"@([0-9a-f]{12})$")


def shipped_weights() -> dict[str, Path]:
    """Files of the backbones that ship, by name."""
    return {path.stem: path for path in sorted(_SHIPPED.glob("*.safetensors"))}


def weights_name(setting: str) -> str:
    """What ``student.weights`` names, without the hash that a run records with it."""
    return _HASH.sub("", setting)


def weights_file(setting: str) -> Path:
    """The file that ``student.weights`` names.

    Raises:
        UserError: there is none, or it is another one than was recorded.
    """
    name, recorded = weights_name(setting), _HASH.search(setting)
    path, shipped = expand_path(name), shipped_weights()
    if path.is_dir():
        path = RunFolder(path).weights_file
    elif not path.is_file() and name in shipped:
        path = shipped[name]
    if not path.is_file():
        ships = ", ".join(shipped)
        raise UserError(
            f"student.weights {name!r}: no weights there; give the folder of a finished run of "
            "spikebridge backbone"
            + (f", or a backbone that ships: {ships}" if ships else " (this version ships none)")
            + did_you_mean(name, shipped)
        )
    if recorded and recorded[1] != (found := file_sha256(path)[:12]):
        raise UserError(
            f"student.weights {name!r}: {path} is not the file that was recorded (SHA-256 "
            f"{recorded[1]}… there, {found}… now); restore it, or train the run again"
        )
    return path


def with_weights_hash(config: Config) -> Config:
    """The settings, ``student.weights`` with the start of its file's SHA-256: NAME@HASH.

    Raises:
        UserError: there is no such file.
    """
    setting = config.student.weights
    if setting is None or _HASH.search(setting):
        return config
    setting = f"{setting}@{file_sha256(weights_file(setting))[:12]}"
    return dataclasses.replace(config, student=dataclasses.replace(config.student, weights=setting))
