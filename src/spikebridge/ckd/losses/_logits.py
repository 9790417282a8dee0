"""What the losses between a student's and a teacher's logits share."""

from torch import Tensor

from spikebridge.ckd.losses._precision import at_least_float32


def compared_logits(
    student_TBC: Tensor, teacher_BC: Tensor, per_step: bool
) -> tuple[Tensor, Tensor]:
    """The student's logits, averaged over T unless ``per_step``, and the teacher's beside them.

    Both are float32 at least and of the same shape; no gradient flows into the teacher's.
    """
    student_TBC = at_least_float32(student_TBC)
    if not per_step:
        student_TBC = student_TBC.mean(0, keepdim=True)
    return student_TBC, teacher_BC.detach().to(student_TBC.dtype).expand_as(student_TBC)


def weighted_mean(loss_B: Tensor, weight_B: Tensor | None) -> Tensor:
    """Mean over the samples by their weights in [0, 1].

    Weights that sum to less than one sample are not scaled up, so that a loss whose samples vanish
    fades to 0.
    """
    if weight_B is None:
        return loss_B.mean()
    weight_B = weight_B.to(loss_B.dtype)
    return (loss_B * weight_B).sum() / weight_B.sum().clamp(min=1)
