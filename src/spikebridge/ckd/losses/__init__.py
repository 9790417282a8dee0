"""Losses: tensors in, a tensor out."""

from spikebridge.ckd.losses.cka import alignment_loss, linear_cka
from spikebridge.ckd.losses.dist import dist_loss
from spikebridge.ckd.losses.dkd import dkd_loss
from spikebridge.ckd.losses.embedding import embedding_loss
from spikebridge.ckd.losses.kd import kd_loss
from spikebridge.ckd.losses.mixup import MixupHeads, modality_loss, ratio_loss
from spikebridge.ckd.losses.regulariser import TemporalCoefficient
from spikebridge.ckd.losses.tet import mean_logits_loss, tet_loss

__all__ = [
    "MixupHeads",
    "TemporalCoefficient",
    "alignment_loss",
    "dist_loss",
    "dkd_loss",
    "embedding_loss",
    "kd_loss",
    "linear_cka",
    "mean_logits_loss",
    "modality_loss",
    "ratio_loss",
    "tet_loss",
]
