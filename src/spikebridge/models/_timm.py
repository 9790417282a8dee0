"""Imports timm also beside a torchvision whose compiled operators do not load."""

from types import ModuleType

import torch

from spikebridge.base.errors import UserError


def import_timm() -> ModuleType:
    """The timm package.

    PyPI's torchvision is built for CUDA; beside a CPU build of torch its operators are missing
    and importing it fails at the first fake registration, though timm's classifiers use none of
    them. Declaring these names lets the import pass.

    Raises:
        UserError: timm is not installed.
    """
    try:
        try:
            import timm
        except RuntimeError as error:
            if "torchvision::" not in str(error):
                raise
            _declare_torchvision_operators()
            import timm
    except ImportError as error:
        raise UserError(
            "this teacher needs timm, which is not installed; run: pip install 'spikebridge[timm]'"
        ) from error
    return timm


def _declare_torchvision_operators() -> None:
    signature = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
    for name in ("nms", "qnms"):
        torch.library.define(f"torchvision::{name}", signature)
