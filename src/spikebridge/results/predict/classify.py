"""A trained student that names the class of events, framed as its run frames recordings."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor

from spikebridge.base.errors import UserError
from spikebridge.data.events import Events
from spikebridge.data.frames import frame_events, network_input
from spikebridge.models.fast.inference import deploy
from spikebridge.models.student import Student
from spikebridge.results.trained import Trained


@dataclass(frozen=True)
class Guess:
    """The most likely classes of one recording or window."""

    classes: tuple[str, ...]
    """Best first."""
    confidences: tuple[float, ...]
    """Softmax of the mean of the logits of the first ``steps`` time steps."""
    steps: int
    """Time steps that were taken: T, or fewer where a confidence sufficed."""

    def as_json(self) -> dict[str, Any]:
        """What ``--json`` prints of it."""
        best = zip(self.classes, self.confidences, strict=True)
        return {
            "steps": self.steps,
            "top": [{"class": name, "confidence": confidence} for name, confidence in best],
        }


class Classifier:
    """Names classes; the run's settings say how events become frames.

    Args:
        trained: A student, from `load_run`.
        top: Number of classes to name, at most all.
        confidence: Stop at the first time step where the softmax of the mean logits so far reaches
            it, in (0, 1]; None takes all T.
        min_events: Fewer events are not classified; None and what is below T take T, the fewest
            that can be framed.

    Raises:
        UserError: a teacher was given, or a number is out of range.
    """

    def __init__(
        self,
        trained: Trained,
        *,
        top: int = 5,
        confidence: float | None = None,
        min_events: int | None = None,
    ) -> None:
        if not isinstance(trained.model, Student):
            raise UserError("this run is a teacher, which classifies photos; give a student's run")
        if top < 1:
            raise UserError(f"top must be at least 1, got {top}")
        if confidence is not None and not 0 < confidence <= 1:
            raise UserError(f"confidence must lie above 0 and at most at 1, got {confidence}")
        self.trained, self.top, self.confidence = trained, top, confidence
        self.min_events = max(min_events or 0, trained.config.data.time_steps)
        self._network = deploy(trained.model)

    def __call__(self, events: Events, extent: tuple[int, int] | None = None) -> Guess:
        """The most likely classes of events.

        Args:
            events: Upright, as `read_recording` gives them.
            extent: Width and height that are stretched to the frames where the run stretches each
                recording's own; None takes these events'.

        Raises:
            UserError: there are fewer events than time steps.
        """
        data, kind = self.trained.config.data, self.trained.config.data.extent
        if extent is not None and kind == "recording":
            events, kind = replace(events, sensor=extent), "sensor"
        counts_TCHW = frame_events(events, data.time_steps, data.size, data.bins, kind)
        logits_TC = self.logits(network_input(counts_TCHW[None], data.scale))[:, 0]
        steps = len(logits_TC)
        if self.confidence is not None:
            steps = int(steps_until(logits_TC[:, None], self.confidence)[0])
        confidence_C = logits_TC[:steps].mean(0).softmax(0)
        best = confidence_C.topk(min(self.top, len(confidence_C)))
        names = tuple(self.trained.classes[i] for i in best.indices.tolist())
        return Guess(names, tuple(best.values.tolist()), steps)

    @torch.no_grad()
    def logits(self, x_BTCHW: np.ndarray) -> Tensor:
        """logits_TBC of network input, from `network_input`."""
        return self._network(torch.from_numpy(x_BTCHW).transpose(0, 1)).logits_TBC.float()


def running_mean(logits_TBC: Tensor) -> Tensor:
    """Mean of the logits up to each time step, of the same shape."""
    count_T = torch.arange(1, len(logits_TBC) + 1, dtype=logits_TBC.dtype)
    return logits_TBC.cumsum(0) / count_T[:, None, None]


def steps_until(logits_TBC: Tensor, confidence: float) -> Tensor:
    """Time steps until the softmax of the mean logits so far reaches a confidence; T if never.

    Neurons are causal: the logits of a step do not depend on later ones, so that those of all T
    steps tell where a network that stops would have stopped, and what it would have answered.

    Returns:
        steps_B, in 1 … T.
    """
    reached_TB = running_mean(logits_TBC).softmax(2).amax(2) >= confidence
    reached_TB[-1] = True
    return reached_TB.int().argmax(0) + 1
