"""Settings of what is minimised: the switches that make CKD and its baselines."""

from dataclasses import dataclass, field
from typing import Literal

from spikebridge.base.checks import require, require_plain_parts
from spikebridge.base.hooks import Hook, check_hooks, hook, is_hook
from spikebridge.ckd.schedules import DistillationSchedule, ReplacementSchedule


@dataclass(frozen=True)
class UnlabelledConfig:
    """What the hybrid stream makes of photos without labels, where the data have some.

    A labeller answers on each plain photo: the class that the photo is most like. One that is like
    it enough joins the class's labelled photos, and gives way to its recordings as they do; the
    others are turned away.
    """

    learn: Literal["both", "class", "logits", "none"] = "both"
    """What the loss learns of them: the labeller's `class`, as if it were the label; the teacher's
    `logits` on each view alone; `both`; or `none`, which leaves them out. The class of a recording
    that replaces one is learned in any case."""
    labeller: Literal["teacher", "student"] = "teacher"
    """Who answers: the `teacher` (a method without one leaves the photos out), or a `student` of
    the same settings, which is trained on the labelled photos alone first."""
    least_likeness: float = 0.4
    """Least cosine, in the features that the labeller classifies by, between a photo and the mean
    of the class's, from the mean of all: first of the labelled photos (the ten most like of each
    class are taken with three quarters of it), then of these and those that were taken; −1 takes
    all photos, of whatever they are."""

    def __post_init__(self) -> None:
        require(
            -1 <= self.least_likeness < 1,
            "objective.unlabelled.least_likeness must lie in [-1, 1)",
        )


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: the switches that make CKD and its baselines (equation 11)."""

    dvs_from: float = 0.0
    """Progress u from which the DVS stream is trained."""
    hybrid_until: float = 1.0
    """Progress u until which the hybrid stream is trained; 0 leaves it out."""
    two_heads: bool = False
    """The hybrid stream has its own fully connected head (KT), instead of the DVS stream's."""
    statistics: Literal["dvs", "both"] = "dvs"
    """Streams whose batches go into BatchNorm's running statistics, which evaluation uses; `both`
    needs one head."""
    source: Literal["photo", "simulated", "staged"] = "photo"
    """Source of the hybrid stream: the static photo, a simulated recording of it, or first the one
    and then, with probability u, the other (`staged`: photo, simulated, recorded)."""
    replace: Literal["sample", "time-step"] = "sample"
    """What P(u) replaces: whole samples, or each of their time steps by itself (TMKT's time-step
    mixup)."""
    classification: Literal["tet", "ce"] = "tet"
    """TET on every step, or cross-entropy of the mean logits."""
    tet_regularisation: float = 1e-3
    """λ of TET."""
    kd_weight: float = 1.0
    """w_KD."""
    kd_loss: Literal["kl", "dkd", "dist"] | Hook = hook("kl")
    """Divergence (Hinton et al.), decoupled distillation, distillation of relations, or module:name
    of your own."""
    dkd_alpha: float = 1.0
    """Weight of the right class in `dkd`."""
    dkd_beta: float = 8.0
    """Weight of the other classes in `dkd`."""
    kd_temperature: float = 4.0
    """Temperature τ of the distillation."""
    kd_per_step: bool = False
    """Distil every step's logits instead of their mean."""
    kd_on: Literal["all", "rgb"] = "all"
    """Distil all hybrid samples, or each by its share of time steps that are not replaced."""
    alignment_weight: float = 0.5
    """w_DA; 0 leaves out alignment and regulariser."""
    alignment: Literal["cka"] | Hook = hook("cka")
    """What is aligned at each time step: 1 − |CKA|, or module:name of your own loss."""
    cka: Literal["biased", "debiased"] = "biased"
    """Estimate of CKA that is trained on; both are logged."""
    gather_alignment: bool = False
    """Under torchrun, align the whole batch, not each process's share by itself."""
    coefficient: Literal["learned", "fixed"] = "learned"
    """Spatio-temporal coefficient c_t."""
    coefficient_start: float = 1.0
    """a_t at the start; c_t = sigmoid(a_t)."""
    modality_weight: float = 0.0
    """Weight of telling at each time step whether the hybrid frame is of events (TMKT)."""
    ratio_weight: float = 0.0
    """Weight of telling the share of a hybrid sample's steps that are of events (TMKT)."""
    replacement: ReplacementSchedule = field(default_factory=ReplacementSchedule)
    """Replacement probability P(u)."""
    distillation: DistillationSchedule = field(default_factory=DistillationSchedule)
    """Distillation weight W(u)."""
    unlabelled: UnlabelledConfig = field(default_factory=UnlabelledConfig)
    """Photos without labels."""

    def __post_init__(self) -> None:
        require_plain_parts(self, "objective.")
        check_hooks(self, "objective.")
        require(self.kd_temperature > 0, "objective.kd_temperature must be positive")
        for name in ("kd", "alignment", "modality", "ratio"):
            require(
                getattr(self, f"{name}_weight") >= 0,
                f"objective.{name}_weight must not be negative",
            )
        require(
            self.dkd_alpha >= 0 and self.dkd_beta >= 0,
            "objective.dkd_alpha and dkd_beta must not be negative",
        )
        require(
            0 <= self.tet_regularisation <= 1, "objective.tet_regularisation must lie in [0, 1]"
        )
        require(
            self.dvs_from <= self.hybrid_until or self.hybrid_until == 0 == self.dvs_from,
            "objective.dvs_from must not come after hybrid_until: no stream would be trained",
        )
        require(
            self.dvs_from < 1 or self.statistics == "both",
            "objective.dvs_from 1 needs statistics both: nothing else is there to evaluate with",
        )
        require(
            self.statistics == "dvs" or not self.two_heads,
            "objective.statistics both needs two_heads false",
        )

    @property
    def needs_teacher(self) -> bool:
        """Whether W(u) can be above 0 while the hybrid stream runs; W never rises but one's own."""
        replacement, guidance = self.replacement, self.distillation
        start = 0.0 if is_hook(replacement.shape) else replacement(0.0)
        guides = is_hook(guidance.shape) or guidance(0.0, start)
        return bool(self.kd_weight and self.hybrid_until and guides)

    @property
    def takes_unlabelled(self) -> bool:
        """Whether photos without labels, where there are any, get into the hybrid stream."""
        own = self.unlabelled
        answered = own.labeller == "student" or self.needs_teacher
        return bool(self.hybrid_until) and own.learn != "none" and answered

    @property
    def evaluate_from(self) -> float:
        """Progress u before which what is evaluated is not trained yet."""
        return self.dvs_from if self.dvs_from < 1 else 0.0
