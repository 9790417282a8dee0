"""Learning a teacher's embedding without labels, by direction and by relations (docs/backbone.md).

The relations are SEED's (Fang et al., ICLR 2021, arXiv 2101.04731), to the embeddings of a whole
pool instead of a queue.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from spikebridge.ckd.losses._precision import at_least_float32


def embedding_loss(
    student_BE: Tensor, teacher_BE: Tensor, pool_NE: Tensor, *, temperature: float = 0.1
) -> Tensor:
    """2 (1 − p·t) + KL(softmax(t·Tᵀ/τ) ‖ softmax(p·Tᵀ/τ)), averaged over the batch.

    Args:
        student_BE: The student's embeddings; brought to length 1 they are p.
        teacher_BE: The teacher's embeddings of the same photos, t, of length 1.
        pool_NE: The teacher's embeddings of the pool's photos, T, of length 1.
        temperature: τ > 0.

    Returns:
        A scalar, in float32 at least.
    """
    with torch.autocast(student_BE.device.type, enabled=False):
        p_BE, t_BE = F.normalize(at_least_float32(student_BE), dim=1), teacher_BE
        log_p_BN, log_t_BN = ((x @ pool_NE.mT / temperature).log_softmax(1) for x in (p_BE, t_BE))
        relations = F.kl_div(log_p_BN, log_t_BN, reduction="batchmean", log_target=True)
        return 2 * (1 - (p_BE * t_BE).sum(1).mean()) + relations
