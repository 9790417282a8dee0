"""Spiking neurons and their surrogate gradients."""

from spikebridge.models.neurons.lif import LIF
from spikebridge.models.neurons.relu import ReLU
from spikebridge.models.neurons.surrogate import Surrogate, surrogate

Neuron = LIF | ReLU
"""What a student's layers may be made of."""

__all__ = ["LIF", "Neuron", "ReLU", "Surrogate", "surrogate"]
