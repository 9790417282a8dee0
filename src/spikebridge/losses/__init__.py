"""Losses: tensors in, a tensor out."""

from spikebridge.losses._logits import confidence
from spikebridge.losses.cka import alignment_loss, class_means, linear_cka
from spikebridge.losses.contrast import contrast_loss
from spikebridge.losses.dist import dist_loss
from spikebridge.losses.dkd import dkd_loss
from spikebridge.losses.kd import kd_loss
from spikebridge.losses.mixup import MixupHeads, modality_loss, ratio_loss
from spikebridge.losses.regulariser import TemporalCoefficient
from spikebridge.losses.tet import mean_logits_loss, tet_loss

__all__ = [
    "MixupHeads",
    "TemporalCoefficient",
    "alignment_loss",
    "class_means",
    "confidence",
    "contrast_loss",
    "dist_loss",
    "dkd_loss",
    "kd_loss",
    "linear_cka",
    "mean_logits_loss",
    "modality_loss",
    "ratio_loss",
    "tet_loss",
]
