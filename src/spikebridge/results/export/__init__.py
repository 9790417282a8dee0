"""Trained students in other formats, checked against the student before they are kept."""

from spikebridge.results.export.formats import FORMATS, Format, warn_before_training
from spikebridge.results.export.graph import Graph, folded_graph
from spikebridge.results.export.outputs import Difference, Outputs, difference, student_outputs
from spikebridge.results.export.run import Exported, export_run

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
