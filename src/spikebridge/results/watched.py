"""A network that is run and watched: what its layers are given, and what they make of it."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

Watch = Callable[[nn.Module, Any, Any], None]
"""Called after a module's forward pass with it, its inputs and its output."""


@contextmanager
def watched(network: nn.Module, watches: Iterable[tuple[nn.Module, Watch]]) -> Iterator[None]:
    """Within the block a network is in evaluation mode, and modules of it are watched."""
    training = network.training
    network.eval()
    handles = [module.register_forward_hook(watch) for module, watch in watches]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
        network.train(training)
