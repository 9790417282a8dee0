"""Spiking neurons and their surrogate gradients."""

from spikebridge.neurons.lif import LIF
from spikebridge.neurons.surrogate import Surrogate, surrogate

__all__ = ["LIF", "Surrogate", "surrogate"]
