"""Trained students in other formats, checked against the student before they are kept."""

from spikebridge.export.formats import FORMATS, Format, warn_before_training
from spikebridge.export.graph import Graph, folded_graph
from spikebridge.export.outputs import Difference, Outputs, difference, student_outputs
from spikebridge.export.run import Exported, export_run

__all__ = [
    "FORMATS",
    "Difference",
    "Exported",
    "Format",
    "Graph",
    "Outputs",
    "difference",
    "export_run",
    "folded_graph",
    "student_outputs",
    "warn_before_training",
]
