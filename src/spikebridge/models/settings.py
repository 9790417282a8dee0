"""Settings of what learns: the spiking student, and its ANN teacher."""

from dataclasses import dataclass
from typing import Literal

from spikebridge.base.checks import require
from spikebridge.base.hooks import Hook, check_hooks, hook, is_hook


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

    weights: str | None = None
    """Backbone to start from, its heads apart: the folder of a `spikebridge backbone` run, its
    weights file, or the name of one that ships. Architecture, width and neurons must be its own;
    size, time steps and classes may differ. A run records it with its hash, NAME@HASH."""

    def __post_init__(self) -> None:
        require(self.width > 0, "student.width must be positive")
        require(self.tau >= 1, "student.tau must be at least 1")
        require(self.threshold > 0, "student.threshold must be positive")
        require(self.alpha is None or self.alpha > 0, "student.alpha must be positive")


@dataclass(frozen=True)
class TeacherConfig:
    """The ANN teacher and its training on the photos."""

    name: Hook = hook("small-cnn")
    """`small-cnn`, `efficientnet-lite0` (ImageNet weights, extra `pretrained`), any timm name, or
    module:name of your own: classes → network of photos in [0, 1]."""
    checkpoint: str | None = None
    """Folder of a finished teacher run, used instead of training one."""
    weights: str | None = None
    """File of starting weights for a timm model (.safetensors, or .pth without pickled code)."""
    trainable: Literal["all", "head"] = "all"
    """Fine-tune all weights, or train the head on frozen features."""
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
        check_hooks(self, "teacher.")
        if is_hook(self.name):
            require(self.weights is None, "teacher.weights is for timm's models; unset it")
            require(
                self.trainable == "all",
                "teacher.trainable head is for known networks; freeze yours where it is built",
            )
        require(
            self.epochs >= 1 and self.batch_size >= 1 and self.lr > 0,
            "teacher.epochs, batch_size and lr must be positive",
        )
        require(self.weight_decay >= 0, "teacher.weight_decay must not be negative")
        require(self.width > 0, "teacher.width must be positive")
        require(
            self.input_size is None or self.input_size >= 1,
            "teacher.input_size must be at least 1, or null",
        )
        require(0 <= self.label_smoothing < 1, "teacher.label_smoothing must lie in [0, 1)")
