"""One experiment: the settings of every room, gathered."""

from dataclasses import dataclass, field

from spikebridge.base.checks import require, require_plain_parts
from spikebridge.ckd.settings import ObjectiveConfig
from spikebridge.data.settings import DataConfig
from spikebridge.models.settings import StudentConfig, TeacherConfig
from spikebridge.training.settings import BackboneConfig, TrainConfig


@dataclass(frozen=True)
class Config:
    """One experiment."""

    method: str = "ckd"
    """Method preset, laid over the recipe: ckd, ckd-plus, kt, scratch, … (README lists them)."""
    seed: int = 0
    """Seed of split, weights and every draw of training; a recording that is simulated before it is
    seeded by its photo."""
    data: DataConfig = field(default_factory=DataConfig)
    """Data."""
    student: StudentConfig = field(default_factory=StudentConfig)
    """Student."""
    teacher: TeacherConfig = field(default_factory=TeacherConfig)
    """Teacher."""
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    """Objective."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """Training."""
    backbone: BackboneConfig = field(default_factory=BackboneConfig)
    """What a backbone is taught on."""

    def __post_init__(self) -> None:
        require_plain_parts(self)
        require(self.seed >= 0, "seed must not be negative")
        require(self.seed < 2**63, "seed must be below 2^63")
        views, hybrid = self.data.photo_views, self.objective.hybrid_until
        require(
            not views.given or self.data.source.in_step or not self.needs_simulated_source,
            "data.photo_views cannot show its views to sources simulated before training; set "
            "data.source.in_step to true, or objective.source to photo",
        )
        require(
            not (views.mixup and hybrid) or self.objective.replace == "sample",
            "data.photo_views.mixup mixes the labels of whole samples; set objective.replace to "
            "sample, or mixup to false",
        )

        own = self.objective.unlabelled
        if own.labeller == "student":
            require(
                self.needs_simulated_source,
                "objective.unlabelled.labeller student answers on simulated recordings of the "
                "photos; set objective.source to simulated or staged",
            )
            require(
                own.learn != "logits" or self.objective.needs_teacher,
                "objective.unlabelled.learn logits needs a teacher, whose logits they are; set "
                "learn to class",
            )

    @property
    def needs_simulated_source(self) -> bool:
        """Whether a recording of every training photo is to be simulated."""
        return bool(self.objective.hybrid_until) and self.objective.source != "photo"
