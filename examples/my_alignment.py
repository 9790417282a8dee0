"""A loss of one's own in the place of CKA: how far the two streams point apart."""

from torch import Tensor
from torch.nn import functional as F


def cosine(hybrid_TBN: Tensor, dvs_TBN: Tensor, label_B: Tensor) -> Tensor:
    """1 − cosine of the two streams' membrane potentials, loss_T: a mean over samples."""
    return 1 - F.cosine_similarity(hybrid_TBN, dvs_TBN, dim=-1).mean(1)
