"""The training loop, for students and teachers alike."""

import math
import signal
import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import FrameType, TracebackType
from typing import Any

import torch
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

from spikebridge.base.console import console, progress
from spikebridge.base.devices import all_to_device
from spikebridge.base.distributed import (
    any_of,
    broadcast_,
    each_ones,
    on_main,
    rank,
    size,
)
from spikebridge.base.errors import Interrupted, UserError
from spikebridge.ckd.result import StepResult
from spikebridge.data.manifest import LAST_EPOCH
from spikebridge.run_folder import RunFolder
from spikebridge.training.ahead import Ahead
from spikebridge.training.allocator import free_what_is_dead, keep_freed_memory
from spikebridge.training.average import WeightAverage
from spikebridge.training.checkpoint import load_checkpoint, save_checkpoint
from spikebridge.training.evaluate import Evaluation
from spikebridge.training.record import NoRecorder, Recorder
from spikebridge.training.statistics import measured_statistics
from spikebridge.training.step import StepInputs, TrainingStep, make_optimiser

_MEASURED_BATCHES = 4
"""Latest batches whose statistics evaluation normalises by."""


@dataclass(frozen=True)
class LoopSettings:
    """How long and how fast."""

    epochs: int
    batches_per_epoch: int
    lr: float
    """Peak learning rate."""
    weight_decay: float
    """For matrices and kernels; vectors (BatchNorm, biases, coefficients) do not decay."""
    warmup_steps: float
    evaluate_every: int
    checkpoint_minutes: float
    ema: float = 0.0
    """Decay of the weights' moving average; 0 for none."""

    @property
    def steps(self) -> int:
        """Number of steps in all."""
        return self.epochs * self.batches_per_epoch


class Task(ABC):
    """What the loop trains."""

    model: nn.Module
    """What is evaluated, selected and saved."""
    extras: nn.Module
    """Further trained parameters, needed in training only."""
    evaluate_from: float = 0.0
    """Progress u before which there is nothing to evaluate yet."""
    device: torch.device
    """Where the model is."""
    selecting: str = "validation"
    """Split on which the epoch is selected: `validation`, or `test` under protocol `published`."""

    selects: bool = True
    """Whether the best evaluated epoch is kept; else the last one is."""
    captures: bool = False
    """Whether a step can be captured as a CUDA graph."""

    @abstractmethod
    def batch(self, step: int) -> StepInputs:
        """What a global step is given, on the CPU; a thread may make it."""

    @abstractmethod
    def losses(self, tensors: Any) -> StepResult:
        """Losses of a step from the tensors of its `StepInputs`, all of them on the device.

        Nothing else may change from step to step, and nothing here may read the device.
        """

    def losses_of(self, inputs: StepInputs) -> StepResult:
        """Losses of a step, wherever its inputs are."""
        result = self.losses(all_to_device(inputs.tensors, self.device))
        result.logged = {**inputs.logged, **result.logged}
        return result

    @abstractmethod
    def validate(self) -> Evaluation:
        """Evaluate the model on the split that selects."""

    def read_test(self) -> Evaluation | None:
        """Evaluate the model on test while it trains; None, as settings ask for it in no run but
        those that measure what selecting on test adds."""
        return None


@dataclass
class Best:
    """The selected epoch."""

    epoch: int = -1
    top1: float = -1.0
    loss: float = math.inf
    weights: dict[str, Tensor] | None = None

    def improved_by(self, evaluation: Evaluation) -> bool:
        """Higher validation accuracy, or the same at a lower loss."""
        return (evaluation.top1, -evaluation.loss) > (self.top1, -self.loss)


def fit(
    task: Task,
    settings: LoopSettings,
    folder: Path,
    *,
    description: str,
    resume: bool = False,
    on_evaluation: Callable[[int, Evaluation], None] | None = None,
) -> tuple[Best, float]:
    """Train, evaluate on validation, select, and keep all that resuming needs.

    Processes that share the work (`distributed`) all call it; rank 0 evaluates, selects and writes.

    Args:
        task: What is trained.
        settings: Duration and optimiser.
        folder: The run's folder; ``checkpoint.pt`` and ``metrics.jsonl`` are written there.
        description: Label of the progress bar.
        resume: Continue from ``checkpoint.pt`` to the result of an uninterrupted run.
        on_evaluation: Called with the epoch, from 0, and its evaluation; what it raises ends the
            training.

    Returns:
        The epoch selected on validation, or the last one, with its weights, at rank 0, and the
        seconds that training took, those before an interruption included.

    Raises:
        Interrupted: Ctrl-C was pressed; the run can be resumed.
        UserError: the checkpoint cannot be read or written, or other processes wrote it.
    """
    keep_freed_memory()
    free_what_is_dead(task.device)
    training = _Training(task, settings, folder, on_evaluation)
    start = training.restore() if resume else 0
    broadcast_(task.model)
    broadcast_(task.extras)
    take = TrainingStep(
        task.losses, training.trained, training.optimiser, task.device, capture=task.captures
    )
    task.model.train()
    with (
        training.recording(start) as recorder,
        StopOnInterrupt() as stop,
        _progress_bar() as bar,
        _batches(task, settings) as batches,
    ):
        shown = bar.add_task(description, total=settings.steps, completed=start, note="")
        for step in range(start, settings.steps):
            inputs, lr = batches(step), learning_rate(step, settings)
            recorder.write(_step_record(inputs, lr, settings), take(inputs.tensors, lr))
            training.average.update()
            epoch, batch = divmod(step + 1, settings.batches_per_epoch)
            last = step + 1 == settings.steps
            due = batch == 0 and epoch % settings.evaluate_every == 0
            if last or (due and step / settings.steps >= task.evaluate_from):
                training.evaluate(epoch - 1, step)
            bar.update(shown, advance=1, note=training.note)
            late, stopping = any_of(training.is_checkpoint_due, stop.requested)
            if last or late or stopping:
                training.save(step + 1)
            if stopping:  # After the last step, too: others may be waiting behind this run.
                raise Interrupted(f"stopped after step {step + 1} of {settings.steps}")
    return training.best, training.seconds


class _Training:
    """What is trained, the epoch that was selected, and all that a checkpoint holds of both."""

    def __init__(
        self,
        task: Task,
        settings: LoopSettings,
        folder: Path,
        on_evaluation: Callable[[int, Evaluation], None] | None,
    ) -> None:
        self.task, self.settings, self.folder = task, settings, RunFolder(folder)
        self.on_evaluation = on_evaluation
        modules = (task.model, task.extras)
        self.trained = [p for m in modules for p in m.parameters() if p.requires_grad]
        self.optimiser = make_optimiser(
            self.trained, settings.lr, settings.weight_decay, task.device
        )
        self.average = WeightAverage(task.model, settings.ema)
        self.best = Best()
        self.recorder: Recorder | NoRecorder = NoRecorder()
        self._recorded_bytes = 0
        self._began = self._saved = time.monotonic()

    @property
    def seconds(self) -> float:
        """Duration so far, before interruptions included."""
        return time.monotonic() - self._began

    @property
    def note(self) -> str:
        """What the progress says of the kept epoch; nothing before the first evaluation."""
        if self.best.epoch < 0:
            return ""
        if self.task.selecting == LAST_EPOCH:
            return f"training photos {self.best.top1:.1f} %"
        kept = f"{self.task.selecting} {self.best.top1:.1f} %"
        return f"best {kept}" if self.task.selects else kept

    @property
    def is_checkpoint_due(self) -> bool:
        """Whether the last checkpoint is older than the settings want."""
        return time.monotonic() - self._saved > 60 * self.settings.checkpoint_minutes

    def restore(self) -> int:
        """Take up the checkpoint; returns the step to go on with."""
        path = self.folder.checkpoint_file
        state = load_checkpoint(path)
        _require_processes(path, state["world_size"])
        self.task.model.load_state_dict(state["model"])
        self.task.extras.load_state_dict(state["extras"])
        # The groups are this device's: what computes a step, and where its rate is.
        self.optimiser.load_state_dict({**self.optimiser.state_dict(), "state": state["optimiser"]})
        self.average.load_state_dict(state["average"])
        _set_random_state(state["random"][rank()], self.task.device)
        self.best = Best(**state["best"])
        self._recorded_bytes = state["recorded_bytes"]
        self._began -= state["seconds"]
        return state["step"]

    @contextmanager
    def recording(self, start: int) -> Iterator[Recorder | NoRecorder]:
        """The recorder, at rank 0, from a step on."""
        if rank() == 0:
            self.recorder = Recorder(self.folder.path, self._recorded_bytes, start)
        try:
            yield self.recorder
        finally:
            self.recorder.close()

    def evaluate(self, epoch: int, step: int) -> None:
        """Evaluate the averaged weights by statistics of the latest batches, and select."""
        again = partial(_run_again, self.task, step)
        with self.average.applied(), measured_statistics(self.task.model, again):
            on_main(partial(self._select, epoch, step))

    def _select(self, epoch: int, step: int) -> None:
        evaluation = self.task.validate()
        if not self.task.selects or self.best.improved_by(evaluation):
            weights = {
                k: v.detach().to("cpu", copy=True) for k, v in self.task.model.state_dict().items()
            }
            self.best = Best(epoch, evaluation.top1, evaluation.loss, weights)
        place = (epoch, step, self.settings)
        self.recorder.write(_evaluation_record("eval", self.task.selecting, evaluation, *place))
        if (tested := self.task.read_test()) is not None:
            self.recorder.write(_evaluation_record("test", "test", tested, *place))
        self.recorder.flush()
        if self.on_evaluation is not None:
            self.on_evaluation(epoch, evaluation)

    def save(self, step: int) -> None:
        """Write the checkpoint from which training goes on with a step."""
        random = each_ones(_random_state(self.task.device))
        on_main(partial(self._save, step, random))
        self._saved = time.monotonic()

    def _save(self, step: int, random: list[dict[str, Tensor]]) -> None:
        save_checkpoint(
            self.folder.checkpoint_file,
            {
                "world_size": size(),
                "model": self.task.model.state_dict(),
                "extras": self.task.extras.state_dict(),
                "optimiser": self.optimiser.state_dict()["state"],
                "average": self.average.state_dict(),
                "random": random,
                "best": vars(self.best),
                "step": step,
                "seconds": self.seconds,
                "recorded_bytes": self.recorder.position(),
            },
        )


@contextmanager
def _batches(task: Task, settings: LoopSettings) -> Iterator[Callable[[int], StepInputs]]:
    """What makes a step's inputs; for a GPU, in a thread that is some steps ahead."""
    if task.device.type != "cuda":  # On a CPU the thread would take its time from the step.
        yield task.batch
        return
    with Ahead(task.batch, settings.steps, task.device) as ahead:
        yield ahead


def _run_again(task: Task, step: int) -> None:
    """Run the latest batches without learning from them."""
    for latest in range(max(0, step + 1 - _MEASURED_BATCHES), step + 1):
        task.losses_of(task.batch(latest))


def _require_processes(checkpoint: Path, written_by: int) -> None:
    if written_by != size():
        raise UserError(
            f"{checkpoint}: a run of {written_by} processes, not of {size()}; resume it with as "
            "many, or start again in another folder"
        )


def _random_state(device: torch.device) -> dict[str, Tensor]:
    """State of this process's generators."""
    state = {"cpu": torch.get_rng_state()}
    return state | ({"cuda": torch.cuda.get_rng_state(device)} if device.type == "cuda" else {})


def _set_random_state(state: dict[str, Tensor], device: torch.device) -> None:
    torch.set_rng_state(state["cpu"])
    if device.type == "cuda" and "cuda" in state:  # A CPU's checkpoint has none.
        torch.cuda.set_rng_state(state["cuda"], device)


def learning_rate(step: int, settings: LoopSettings) -> float:
    """Linear warm-up, then a cosine to 0."""
    if step < settings.warmup_steps:
        return settings.lr * (step + 1) / settings.warmup_steps
    done = (step - settings.warmup_steps) / max(1.0, settings.steps - settings.warmup_steps)
    return settings.lr * 0.5 * (1 + math.cos(math.pi * done))


def _step_record(inputs: StepInputs, lr: float, settings: LoopSettings) -> dict[str, Any]:
    return {
        "kind": "step",
        "epoch": inputs.step // settings.batches_per_epoch,
        "step": inputs.step,
        "progress": inputs.step / settings.steps,
        **inputs.logged,
        "lr": lr,
    }


def _evaluation_record(
    kind: str, split: str, evaluation: Evaluation, epoch: int, step: int, settings: LoopSettings
) -> dict[str, Any]:
    return {
        "kind": kind,
        "split": split,
        "epoch": epoch,
        "step": step,
        "progress": (step + 1) / settings.steps,
        "top1": evaluation.top1,
        "loss": evaluation.loss,
    }


def _progress_bar() -> Progress:
    return progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}"),
        transient=False,
    )


class StopOnInterrupt(AbstractContextManager["StopOnInterrupt"]):
    """Turns the first Ctrl-C, SIGTERM or SIGHUP into a request; a second Ctrl-C ends at once."""

    _SIGNALS = tuple(
        getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name)
    )

    def __init__(self) -> None:
        self.requested = False

    def __enter__(self) -> "StopOnInterrupt":
        self._main = threading.current_thread() is threading.main_thread()
        if self._main:
            self._previous = {n: signal.signal(n, self._request) for n in self._SIGNALS}
        return self

    def _request(self, number: int, frame: FrameType | None) -> None:
        if self.requested and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.requested = True
        console.print("stopping after this step …")

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._main:
            for number, handler in self._previous.items():
                signal.signal(number, handler)
