"""Settings as a run's folder records them: plain values, and each hook's source."""

import dataclasses
from typing import Any

from spikebridge.base.errors import UserError
from spikebridge.base.hooks import with_sources
from spikebridge.settings.config import Config
from spikebridge.settings.weights import with_weights_hash


def plain_settings(config: Config) -> dict[str, Any]:
    """Settings as YAML and JSON have them, hooks with their source's hash, weights with theirs.

    Raises:
        UserError: a value that YAML cannot give back, a hook that cannot be imported, or no such
            weights.
    """
    if type(config) is not Config:
        raise UserError(
            f"the settings are a {type(config).__qualname__}, which config.yaml cannot give back; "
            "give a spikebridge.settings.config.Config"
        )
    return _plain(dataclasses.asdict(with_weights_hash(with_sources(config))))


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
