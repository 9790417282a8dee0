"""What a student costs: spikes, synaptic operations, MACs and energy, beside ANNs."""

from spikebridge.results.energy.connections import count_macs
from spikebridge.results.energy.operations import (
    AC_PJ,
    MAC_PJ,
    LayerOperations,
    Operations,
    count_operations,
)
from spikebridge.results.energy.report import EnergyReport, TeacherCost, energy_of_run

__all__ = [
    "AC_PJ",
    "MAC_PJ",
    "EnergyReport",
    "LayerOperations",
    "Operations",
    "TeacherCost",
    "count_macs",
    "count_operations",
    "energy_of_run",
]
