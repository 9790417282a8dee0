"""Supervised contrastive loss between the two streams (Khosla et al., NeurIPS 2020)."""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.ckd.losses._precision import at_least_float32


def contrast_loss(
    x_BF: Tensor, y_BF: Tensor, label_B: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """Draws samples of a class together across the streams, and those of others apart.

    Every sample of one stream is an anchor whose positives are the other stream's samples of its
    class, among all samples of that stream (L_out of the paper, across two modalities instead of
    two views); the mean over both directions.

    Args:
        x_BF: One stream's features; they are brought to length 1.
        y_BF: The other's.
        label_B: Class indices, the same for both.
        temperature: τ > 0.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(x_BF.device.type, enabled=False):
        x_BF, y_BF = (F.normalize(at_least_float32(z), dim=-1) for z in (x_BF, y_BF))
        similarity_BB = x_BF @ y_BF.mT / temperature
        positive_BB = (label_B[:, None] == label_B).to(similarity_BB.dtype)
        positive_BB = positive_BB / positive_BB.sum(-1, keepdim=True)
        log_share_BB = similarity_BB.log_softmax(-1) + similarity_BB.mT.log_softmax(-1)
        return -(positive_BB * log_share_BB).sum(-1).mean() / 2
