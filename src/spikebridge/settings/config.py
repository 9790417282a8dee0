"""Every setting, one frozen dataclass per concern, each attribute with its docstring."""

import re
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, Literal, get_type_hints

from spikebridge.base.hooks import Hook, check_setting, is_hook
from spikebridge.ckd.schedules import DistillationSchedule, ReplacementSchedule
from spikebridge.data.simulation.camera import Simulator


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ValueError(message)


def _require_plain_parts(settings: Any, prefix: str = "") -> None:
    """Refuse subclasses of parts: a run's record could not give them back."""
    kinds = get_type_hints(type(settings))
    for name in (one.name for one in fields(settings)):
        kind, part = kinds[name], getattr(settings, name)
        _require(
            not is_dataclass(kind) or type(part) is kind,
            f"{prefix}{name} must be a {getattr(kind, '__name__', '')} itself, not "
            f"{type(part).__module__}.{type(part).__qualname__}, which config.yaml cannot give "
            "back; name a function of your own as module:name (Change one thing, in the docs)",
        )


@dataclass(frozen=True)
class SplitConfig:
    """Which recordings and photos train, validate and test."""

    protocol: Literal["clean", "few-shot", "kt"] | None = None
    """`clean`: train, validation and test by class and seed; `few-shot`: the same with
    labelled_per_class labelled recordings; `kt`: the first 90 % of each class train, the rest tests
    and also selects the epoch, only to compare with published figures. Null takes `few-shot` where
    labelled_per_class is set, else `clean`."""
    labelled_per_class: int | None = None
    """Labelled training recordings per class (k); null takes all that are left."""
    validation_per_class: int = 5
    """Recordings per class that select the epoch."""
    test_per_class: int | None = None
    """Test recordings per class; null takes all that are left when labelled_per_class is set,
    else a fifth of the class."""
    photo_validation: float = 0.1
    """Share of the legal photos that selects the teacher's epoch instead of training."""
    photo_test: float = 0.1
    """Share of the photos that tests the teacher where photos and recordings are not paired;
    where they are, the test recordings' photos do."""
    seed: int | None = None
    """Seed of the draw; null takes the run's seed."""
    near_duplicates: Literal["exclude", "keep"] = "exclude"
    """`exclude` leaves out of training the photos that look like the photo of a validation or test
    recording (perceptual hash), and the recordings made of them; `keep` leaves them in, and the
    audit finds them."""
    group: str | None = None
    """Regular expression that finds the recording session in a recording's name, which is its path
    below the class's folder without the ending: its first group, or all that it matches. No session
    is in two splits, nor are its photos seen where it validates or tests. `(.+)_` names sessions
    oct06a and oct06b of oct06a_001 and oct06b_001, `(.+)/` those of sub-folders, which own folders
    are then searched for."""
    manifest: str | None = None
    """A CSV file that names the split of each recording instead of drawing one: a run's
    manifest.csv, or the columns file and split alone."""

    @property
    def name(self) -> Literal["clean", "few-shot", "kt"]:
        """The protocol."""
        return self.protocol or ("few-shot" if self.labelled_per_class else "clean")

    def __post_init__(self) -> None:
        _require(
            self.protocol is None or (self.protocol == "few-shot") == bool(self.labelled_per_class),
            "data.split.labelled_per_class belongs to protocol few-shot: set both or neither",
        )
        _require(
            self.labelled_per_class is None or self.labelled_per_class >= 1,
            "data.split.labelled_per_class must be at least 1",
        )
        _require(
            self.validation_per_class >= 1, "data.split.validation_per_class must be at least 1"
        )
        _require(
            self.test_per_class is None or self.test_per_class >= 1,
            "data.split.test_per_class must be at least 1",
        )
        _require(
            0 <= self.photo_validation < 1 and 0 <= self.photo_test < 1,
            "data.split.photo_validation and photo_test must lie in [0, 1)",
        )
        _require(self.seed is None or self.seed >= 0, "data.split.seed must not be negative")
        if self.group is not None:
            _require(
                self.protocol != "kt",
                "data.split.group belongs to protocols clean and few-shot; kt cuts by name",
            )
            try:
                re.compile(self.group)
            except re.error as error:
                raise ValueError(
                    f"data.split.group {self.group!r} is no regular expression ({error})"
                ) from error


@dataclass(frozen=True)
class AugmentConfig:
    """Random changes of training samples; every sample draws its own.

    crop, flip and rotate, in this order, move recordings and photos; a photo moves alike for the
    teacher and in the hybrid stream, simulated or not. The others change the events of recordings
    and of simulated sources. KT's flag `--DVS-DA` is crop 4 (of 48 pixels), flip and rotate 15.
    """

    crop: int = 0
    """Padding in pixels of the network's input for a random crop; photos move in proportion."""
    flip: bool = False
    """Flip left and right with probability one half."""
    rotate: float = 0.0
    """Largest rotation about the centre in degrees, either way."""
    event_drop: float = 0.0
    """Largest share of a recording's events that is dropped; each recording draws its share."""
    time_jitter: float = 0.0
    """Standard deviation of each event's shift in time, in time steps, at most 1."""
    polarity_flip: float = 0.0
    """Probability that a recording's ON and OFF events are exchanged."""

    def __post_init__(self) -> None:
        _require(self.crop >= 0, "data.augment.crop must not be negative")
        _require(0 <= self.rotate <= 180, "data.augment.rotate must lie in [0, 180]")
        _require(0 <= self.event_drop < 1, "data.augment.event_drop must lie in [0, 1)")
        _require(0 <= self.time_jitter <= 1, "data.augment.time_jitter must lie in [0, 1]")
        _require(0 <= self.polarity_flip <= 1, "data.augment.polarity_flip must lie in [0, 1]")


@dataclass(frozen=True)
class SourceConfig:
    """The simulated recordings of the training photos, where `objective.source` needs them."""

    simulator: dict[str, Any] | None = None
    """Settings laid over `data.simulator`, {pos_threshold: 0.8} say: a camera that differs from the
    one behind simulated recordings, or where calibration starts."""
    calibrate: bool = False
    """Find thresholds, noise and motion from the training recordings, without their labels."""
    randomise: float = 0.0
    """Half-width, in log units, of the factors by which each simulated recording's thresholds,
    amplitude, noise rates and bandwidth differ from the camera's; the ratio of ON to OFF threshold
    draws a factor of a quarter of it."""
    views: int = 1
    """Simulated recordings per photo, each of its own draws; a batch draws one of them per use."""

    def __post_init__(self) -> None:
        _require(0 <= self.randomise <= 2, "data.source.randomise must lie in [0, 2]")
        _require(self.views >= 1, "data.source.views must be at least 1")


@dataclass(frozen=True)
class DataConfig:
    """Where recordings and photos are, and how they become network input."""

    name: Literal["digits", "nmnist", "ncaltech101", "cep-dvs", "cifar10-dvs", "folders"] = "digits"
    """The data set: `digits` are scikit-learn's, embedded; `folders` are EVENTS/CLASS/* and
    PHOTOS/CLASS/*; `spikebridge data list` describes the others."""
    events: str | None = None
    """Folder of recordings; null simulates a recording of every photo (`simulator`)."""
    photos: str | None = None
    """Folder of photos; not used by `digits`."""
    sensor: tuple[int, int] | None = None
    """Sensor width and height in pixels for formats that do not tell it; null takes the
    simulator's where recordings are simulated, and N-Caltech101's 240×180 for .bin files."""
    extent: Literal["sensor", "recording"] = "sensor"
    """What is stretched to the network's input: the whole `sensor`, or the part of it from the
    upper left corner to the farthest event of each recording, for data sets whose recordings have
    the size of their photos (N-Caltech101)."""
    exclude: list[str] = field(default_factory=list)
    """Classes to leave out; a name that is not there is no error."""
    events_alone: list[str] = field(default_factory=list)
    """Classes that train on recordings without any photo; photos of them, if any, are not used. In
    the hybrid stream their samples count as replaced from the first step; the teacher never sees
    them, and distillation leaves them out."""
    size: tuple[int, int] = (32, 32)
    """Height and width of the network's input in pixels."""
    photo_size: int | None = None
    """Height and width at which photos are kept for the teacher; null takes `size`."""
    photo_margin: float = 0.0
    """Black margin around a photo, as a share of its side, so that its content has the scale that
    it has in the recordings."""
    time_steps: int = 4
    """Number of time bins per recording (T)."""
    bins: Literal["time", "count"] = "time"
    """Bins of equal duration or of equal numbers of events."""
    scale: Literal["recording", "none"] = "recording"
    """`recording` brings each recording's event counts into [0, 1], the range of photos, by the
    95th percentile of its active cells; `none` gives the network the counts."""
    simulator: Simulator = field(default_factory=Simulator)
    """Simulated recordings: the events themselves where `events` is null, and the hybrid stream's
    source where `objective.source` is `simulated` or `staged`."""
    source: SourceConfig = field(default_factory=SourceConfig)
    """How the simulated sources differ from what `simulator` makes."""
    split: SplitConfig = field(default_factory=SplitConfig)
    """The split."""
    augment: AugmentConfig = field(default_factory=AugmentConfig)
    """Augmentation of training samples."""
    cache: str | None = None
    """Folder of prepared data; null takes ~/.cache/spikebridge."""

    @property
    def source_simulator(self) -> Simulator:
        """The camera of simulated sources, before calibration."""
        return self.simulator.changed(self.source.simulator or {})

    def __post_init__(self) -> None:
        _require_plain_parts(self, "data.")
        try:
            _ = self.source_simulator
        except ValueError as error:
            raise ValueError(f"data.source.{error}") from error
        _require(self.time_steps >= 1, "data.time_steps must be at least 1")
        _require(min(self.size) >= 4, "data.size must be at least 4 4")
        _require(
            self.photo_size is None or self.photo_size >= 4, "data.photo_size must be at least 4"
        )
        _require(0 <= self.photo_margin < 0.5, "data.photo_margin must lie in [0, 0.5)")
        _require(self.sensor is None or min(self.sensor) >= 1, "data.sensor must be positive")


@dataclass(frozen=True)
class StudentConfig:
    """The spiking student."""

    name: Literal["vgg-snn", "resnet18-snn"] = "vgg-snn"
    """Architecture."""
    width: float = 1.0
    """Channel multiplier; 1 is the published size."""
    tau: float = 2.0
    """Membrane time constant in time steps."""
    threshold: float = 0.5
    """Firing threshold."""
    neuron: Literal["lif", "relu"] = "lif"
    """`relu` puts max(0, x) in the place of every spiking neuron: an ANN of the same backbone."""
    surrogate: Literal["qgate", "atan", "sigmoid"] = "qgate"
    """Surrogate gradient; KT's is `qgate`."""
    alpha: float | None = None
    """Sharpness of the surrogate; null takes its customary value."""
    neuron_backend: Literal["auto", "eager", "native", "triton"] = "auto"
    """What computes the neurons: plain PyTorch (`eager`), or one compiled pass over T, on the CPU
    (`native`, built once by the machine's C compiler) or on CUDA (`triton`); `auto` takes the
    fastest that is there."""

    def __post_init__(self) -> None:
        _require(self.width > 0, "student.width must be positive")
        _require(self.tau >= 1, "student.tau must be at least 1")
        _require(self.threshold > 0, "student.threshold must be positive")
        _require(self.alpha is None or self.alpha > 0, "student.alpha must be positive")


@dataclass(frozen=True)
class TeacherConfig:
    """The ANN teacher and its training on the photos."""

    name: Hook = "small-cnn"
    """`small-cnn`, `efficientnet-lite0` (ImageNet weights, extra `pretrained`), any timm name, or
    module:name of your own: classes → network of photos in [0, 1]."""
    checkpoint: str | None = None
    """Folder of a finished teacher run, used instead of training one."""
    weights: str | None = None
    """File of starting weights for a timm model (.safetensors, or .pth without pickled code)."""
    trainable: Literal["all", "head"] = "all"
    """Fine-tune all weights, or train the head on frozen features."""
    channels: Literal["rgb", "value"] = "rgb"
    """What the teacher sees of a photo: its colours, or the value channel that the student sees."""
    input_size: int | None = None
    """Side in pixels to which the teacher scales photos; null leaves them as they are kept."""
    width: float = 1.0
    """Channel multiplier of `small-cnn`."""
    epochs: int = 20
    """Passes over the training photos."""
    batch_size: int = 64
    """Photos per batch."""
    lr: float = 2e-3
    """Peak learning rate of AdamW."""
    weight_decay: float = 0.05
    """Weight decay of AdamW."""
    label_smoothing: float = 0.0
    """Label smoothing of the cross-entropy."""

    def __post_init__(self) -> None:
        if callable(self.name):
            check_setting(self, "name", "teacher.name")
        if is_hook(self.name):
            _require(self.weights is None, "teacher.weights is for timm's models; unset it")
            _require(
                self.trainable == "all",
                "teacher.trainable head is for known networks; freeze yours where it is built",
            )
        _require(
            self.epochs >= 1 and self.batch_size >= 1 and self.lr > 0,
            "teacher.epochs, batch_size and lr must be positive",
        )
        _require(self.width > 0, "teacher.width must be positive")
        _require(0 <= self.label_smoothing < 1, "teacher.label_smoothing must lie in [0, 1)")


@dataclass(frozen=True)
class ObjectiveConfig:
    """What is minimised: the switches that make CKD and its baselines (METHOD.md, losses)."""

    dvs_from: float = 0.0
    """Progress u from which the DVS stream is trained."""
    hybrid_until: float = 1.0
    """Progress u until which the hybrid stream is trained; 0 leaves it out."""
    two_heads: bool = True
    """The hybrid stream has its own fully connected head (KT)."""
    statistics: Literal["dvs", "both"] = "dvs"
    """Streams whose batches go into BatchNorm's running statistics, which evaluation uses; `both`
    needs one head."""
    source: Literal["photo", "simulated", "staged"] = "photo"
    """Source of the hybrid stream: the static photo, a simulated recording of it, or first the one
    and then the other (`staged`: photo, simulated, recorded)."""
    staging: ReplacementSchedule = field(default_factory=lambda: ReplacementSchedule("linear"))
    """Probability S(u) that a `staged` sample's source is the simulated recording."""
    replace: Literal["sample", "time-step", "tail"] = "sample"
    """What P(u) replaces: whole samples, each of their time steps by itself (TMKT's time-step
    mixup), or all steps from a drawn one on."""
    classification: Literal["tet", "ce"] = "tet"
    """TET on every step, or cross-entropy of the mean logits."""
    tet_regularisation: float = 1e-3
    """λ of TET."""
    kd_weight: float = 1.0
    """w_KD."""
    kd_loss: Literal["kl", "dkd", "dist"] | Hook = "kl"
    """Divergence (Hinton et al.), decoupled distillation, distillation of relations, or module:name
    of your own."""
    dkd_alpha: float = 1.0
    """Weight of the right class in `dkd`."""
    dkd_beta: float = 8.0
    """Weight of the other classes in `dkd`."""
    kd_confidence: bool = False
    """Weigh each sample's distillation by the teacher's probability of its likeliest class."""
    kd_temperature: float = 4.0
    """Temperature τ of the distillation."""
    kd_per_step: bool = False
    """Distil every step's logits instead of their mean."""
    kd_on: Literal["all", "rgb"] = "all"
    """Distil all hybrid samples, or each by its share of time steps that are not replaced."""
    alignment_weight: float = 0.5
    """w_DA; 0 leaves out alignment and regulariser."""
    alignment: Literal["cka"] | Hook = "cka"
    """What is aligned at each time step: 1 − |CKA|, or module:name of your own loss."""
    cka: Literal["biased", "debiased"] = "biased"
    """Estimate of CKA that is trained on; both are logged."""
    align_on: Literal["all", "rgb"] = "all"
    """Align all positions, or only those of which less than half is replaced."""
    gather_alignment: bool = False
    """Under torchrun, align the whole batch, not each process's share by itself."""
    align: Literal["sample", "class"] = "sample"
    """Align the streams' samples one by one, or the means of each class in the batch."""
    coefficient: Literal["learned", "fixed"] = "learned"
    """Spatio-temporal coefficient c_t."""
    coefficient_start: float = 1.0
    """a_t at the start; c_t = sigmoid(a_t)."""
    contrast_weight: float = 0.0
    """Weight of the supervised contrastive loss between the streams."""
    contrast_temperature: float = 0.1
    """Temperature of the contrastive loss."""
    modality_weight: float = 0.0
    """Weight of telling at each time step whether the hybrid frame is of events (TMKT)."""
    ratio_weight: float = 0.0
    """Weight of telling the share of a hybrid sample's steps that are of events (TMKT)."""
    replacement: ReplacementSchedule = field(default_factory=ReplacementSchedule)
    """Replacement probability P(u)."""
    distillation: DistillationSchedule = field(default_factory=DistillationSchedule)
    """Distillation weight W(u)."""

    def __post_init__(self) -> None:
        _require_plain_parts(self, "objective.")
        check_setting(self, "kd_loss", "objective.kd_loss")
        check_setting(self, "alignment", "objective.alignment")
        _require(self.kd_temperature > 0, "objective.kd_temperature must be positive")
        _require(self.contrast_temperature > 0, "objective.contrast_temperature must be positive")
        for name in ("kd", "alignment", "contrast", "modality", "ratio"):
            _require(
                getattr(self, f"{name}_weight") >= 0,
                f"objective.{name}_weight must not be negative",
            )
        _require(
            self.dkd_alpha >= 0 and self.dkd_beta >= 0,
            "objective.dkd_alpha and dkd_beta must not be negative",
        )
        _require(
            0 <= self.tet_regularisation <= 1, "objective.tet_regularisation must lie in [0, 1]"
        )
        _require(
            self.dvs_from <= self.hybrid_until or self.hybrid_until == 0 == self.dvs_from,
            "objective.dvs_from must not come after hybrid_until: no stream would be trained",
        )
        _require(
            self.dvs_from < 1 or self.statistics == "both",
            "objective.dvs_from 1 needs statistics both: nothing else is there to evaluate with",
        )
        _require(
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
    def hooks(self) -> list[str]:
        """The settings that are a user's own."""
        schedules = (self.replacement, self.staging, self.distillation)
        named = (self.alignment, self.kd_loss, *(one.shape for one in schedules))
        return [one for one in named if is_hook(one)]

    @property
    def evaluate_from(self) -> float:
        """Progress u before which what is evaluated is not trained yet."""
        return self.dvs_from if self.dvs_from < 1 else 0.0


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of the student."""

    epochs: int = 300
    """Number of epochs."""
    batches_per_epoch: int | None = None
    """Batches of an epoch; null makes an epoch one pass over the labelled recordings."""
    batch_size: int = 120
    """Samples per batch and stream. More than there are labelled recordings make one batch of all,
    or, where batches_per_epoch is set, repeat recordings within a batch."""
    lr: float = 5e-3
    """Peak learning rate of AdamW for a batch of 1024, scaled by batch_size / 1024 (KT)."""
    weight_decay: float = 0.01
    """Weight decay of AdamW."""
    warmup_epochs: float = 5.0
    """Epochs of linear warm-up before the cosine."""
    ema: float = 0.0
    """Decay per step of a moving average of the weights, which is evaluated, selected and saved in
    their place, 0.99 say; 0 takes the weights themselves."""
    evaluate_every: int = 1
    """Epochs between two evaluations on the validation recordings."""
    checkpoint_minutes: float = 5.0
    """Minutes between two checkpoints; one is also written on Ctrl-C and at the end."""
    sync_batch_norm: bool = False
    """Under torchrun, the student's BatchNorm takes the statistics of the whole batch, not of each
    process's share by itself."""
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Precision of convolutions; `auto` takes bfloat16 where the processor has instructions for it
    (CUDA from Ampere on; AMX, AVX512_BF16), and a run keeps what it was begun with. CKA, softmax,
    BatchNorm statistics and membrane potentials are float32 in any case."""
    memory: Literal["normal", "low"] = "normal"
    """`low` keeps little of the student's forward passes and computes them again for the backward
    pass: about two thirds of the memory for a third more time, the same result."""
    cuda_graph: bool = True
    """On CUDA, capture each kind of step once and replay it, instead of launching its kernels one
    by one; the result is the same."""
    device: str = "auto"
    """`auto` takes a CUDA device where there is one."""

    def __post_init__(self) -> None:
        _require(
            self.epochs >= 1 and self.batch_size >= 2 and self.evaluate_every >= 1,
            "train.epochs and evaluate_every must be at least 1, batch_size at least 2",
        )
        _require(
            self.batches_per_epoch is None or self.batches_per_epoch >= 1,
            "train.batches_per_epoch must be at least 1",
        )
        _require(
            self.lr > 0 and self.weight_decay >= 0 and self.warmup_epochs >= 0,
            "train.lr must be positive, weight_decay and warmup_epochs not negative",
        )
        _require(0 <= self.ema < 1, "train.ema must lie in [0, 1)")


@dataclass(frozen=True)
class Config:
    """One experiment."""

    method: str = "ckd"
    """Method preset, laid over the recipe: scratch, scratch+tet, ann-on-frames, pretrain-finetune,
    sim-only, sim-pretrain, kt, tmkt, naive-kd, kd-no-replacement, kd-no-alignment, ckd or
    ckd-plus."""
    seed: int = 0
    """Seed of everything random."""
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

    def __post_init__(self) -> None:
        _require_plain_parts(self)
        _require(self.seed >= 0, "seed must not be negative")

    @property
    def needs_simulated_source(self) -> bool:
        """Whether a recording of every training photo is to be simulated."""
        return bool(self.objective.hybrid_until) and self.objective.source != "photo"
