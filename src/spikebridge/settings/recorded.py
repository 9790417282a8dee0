"""Settings as a run's folder records them: plain values, and each hook's source."""

import dataclasses
from typing import Any

from spikebridge.base.errors import UserError
from spikebridge.base.hooks import with_sources
from spikebridge.settings.config import Config


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
