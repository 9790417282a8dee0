"""Losses: tensors in, a tensor out."""

from spikebridge.losses.cka import alignment_loss, linear_cka
from spikebridge.losses.kd import kd_loss
from spikebridge.losses.regulariser import TemporalCoefficient
from spikebridge.losses.tet import mean_logits_loss, tet_loss

__all__ = [
    "TemporalCoefficient",
    "alignment_loss",
    "kd_loss",
    "linear_cka",
    "mean_logits_loss",
    "tet_loss",
]
