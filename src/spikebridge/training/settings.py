"""Settings of how the student, and a backbone for it, is trained."""

from dataclasses import dataclass, field
from typing import Literal

from spikebridge.base.checks import require


@dataclass(frozen=True)
class TrainConfig:
    """Optimisation of the student."""

    epochs: int = 300
    """Number of epochs."""
    batches_per_epoch: int | None = None
    """Batches of an epoch; null makes an epoch one pass over the labelled recordings."""
    batch_size: int = 120
    """Samples per batch and stream. More than there are labelled recordings make one batch of all,
    or, where batches_per_epoch is set, repeat recordings within a batch. A backbone's batch is at
    most all its photos."""
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
    read_test: bool = False
    """Evaluate on the test recordings, too, whenever validation is, and write it to metrics.jsonl:
    only to measure what selecting on test would add. It selects nothing; every figure of such a run
    says that test was read during training."""
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
        require(
            self.epochs >= 1 and self.batch_size >= 2 and self.evaluate_every >= 1,
            "train.epochs and evaluate_every must be at least 1, batch_size at least 2",
        )
        require(
            self.batches_per_epoch is None or self.batches_per_epoch >= 1,
            "train.batches_per_epoch must be at least 1",
        )
        require(
            self.lr > 0 and self.weight_decay >= 0 and self.warmup_epochs >= 0,
            "train.lr must be positive, weight_decay and warmup_epochs not negative",
        )
        require(0 <= self.ema < 1, "train.ema must lie in [0, 1)")


@dataclass(frozen=True)
class BackboneConfig:
    """What `spikebridge backbone` teaches a student's backbone on, before any recording is seen."""

    photos: list[str] = field(default_factory=list)
    """Folders of photos, at any depth. A photo's label is its own folder; those that lie in the
    given folder itself have none."""
    unlabelled: list[str] = field(default_factory=list)
    """Folders of photos whose folders' names say nothing."""
    exclude: list[str] = field(default_factory=list)
    """Names of folders below these to pass over."""
    learn: Literal["labels", "embedding", "both"] = "labels"
    """`labels`: cross-entropy on the photos' labels. `embedding`: where the teacher puts each photo
    (`teacher`), which needs no label. `both`: their sum, the labels' part where there are some."""
    validation: float = 0.05
    """Share of the photos that are not trained on; the curve of how well the features tell them
    apart is of these."""
    sets: list[str] = field(default_factory=list)
    """Data sets whose photos these are, by name, caltech101 say: a run on data of such a name will
    refuse the backbone, and names of single photos are not compared."""

    def __post_init__(self) -> None:
        require(0 < self.validation < 1, "backbone.validation must lie in (0, 1)")
