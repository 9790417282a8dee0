"""Spiking neurons and their surrogate gradients."""

from spikebridge.neurons.lif import LIF
from spikebridge.neurons.relu import ReLU
from spikebridge.neurons.surrogate import Surrogate, surrogate

Neuron = LIF | ReLU
"""What a student's layers may be made of."""

__all__ = ["LIF", "Neuron", "ReLU", "Surrogate", "surrogate"]
