"""What lies in a run's folder, by name: settings, split, curves, weights and result."""

import csv
import dataclasses
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from spikebridge.base.errors import UserError, reading_failed
from spikebridge.base.files import expand_path
from spikebridge.data.collection import file_from
from spikebridge.data.manifest import Manifest
from spikebridge.data.pool import Pool
from spikebridge.data.settings import DataConfig
from spikebridge.data.simulation.camera import NOTE


@dataclass(frozen=True)
class Prediction:
    """One line of ``predictions.csv``."""

    file: str
    label: int
    """True class."""
    prediction: int
    confidence: float
    """Softmax of the mean logits."""

    @property
    def right(self) -> bool:
        """Whether it names the true class."""
        return self.prediction == self.label


def is_simulated(data: DataConfig, result: Mapping[str, Any]) -> bool:
    """Whether a run's recordings were simulated from photos, as far as can be seen from here.

    Args:
        data: The run's settings.
        result: What its ``result.json`` holds.
    """
    if data.events is None:
        return True
    try:
        folder = file_from(result.get("origin"), str(expand_path(data.events)))
    except UserError:
        return False
    return os.path.exists(os.path.join(folder, NOTE))


def run_folders(given: Sequence[str]) -> list[Path]:
    """The folders among what `runs/mine/*` stands for, where files may lie beside runs.

    Where there is no folder, all that is given, which is then refused by name.
    """
    paths = [Path(one) for one in given]
    return [path for path in paths if not path.is_file()] or paths


@dataclass(frozen=True)
class RunFolder:
    """A run's folder, finished or not; each file is read when it is asked for."""

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    @property
    def config_file(self) -> Path:
        """The settings, in YAML."""
        return self.path / "config.yaml"

    @property
    def precision_file(self) -> Path:
        """What its convolutions run in, in one word."""
        return self.path / "precision.txt"

    @property
    def manifest_file(self) -> Path:
        """Which recordings and photos train, validate and test it."""
        return self.path / "manifest.csv"

    @property
    def teacher_manifest_file(self) -> Path:
        """What a student's teacher was trained on."""
        return self.path / "teacher-manifest.csv"

    @property
    def pool_file(self) -> Path:
        """The photos that a backbone was taught on: its own run's, and a student's that has it."""
        return self.path / "pool.csv"

    @property
    def left_out_file(self) -> Path:
        """What a backbone's pool leaves out, and why, a line each."""
        return self.path / "left-out.txt"

    @property
    def card_file(self) -> Path:
        """What a backbone is, in Markdown."""
        return self.path / "card.md"

    @property
    def metrics_file(self) -> Path:
        """A line of JSON for each step and evaluation."""
        return self.path / "metrics.jsonl"

    @property
    def checkpoint_file(self) -> Path:
        """All that resuming needs."""
        return self.path / "checkpoint.pt"

    @property
    def weights_file(self) -> Path:
        """The selected network and its description."""
        return self.path / "model.safetensors"

    @property
    def predictions_file(self) -> Path:
        """What it said of each test sample."""
        return self.path / "predictions.csv"

    @property
    def unlabelled_file(self) -> Path:
        """What a labeller answered on each photo without a label."""
        return self.path / "unlabelled.csv"

    @property
    def labeller_folder(self) -> Path:
        """The run of a student that labels photos for this one."""
        return self.path / "labeller"

    @property
    def result_file(self) -> Path:
        """The result, which is written last."""
        return self.path / "result.json"

    @property
    def energy_file(self) -> Path:
        """What `spikebridge energy` counts on some validation recordings, in a study."""
        return self.path / "energy.json"

    @property
    def failure_file(self) -> Path:
        """The traceback of a run that failed by a mistake in the program."""
        return self.path / "failure.txt"

    def retest_file(self, name: str) -> Path:
        """The result on changed data of this name."""
        return self.path / f"retest-{name}.json"

    @property
    def is_finished(self) -> bool:
        """Whether its result is there."""
        return self.result_file.exists()

    @property
    def is_interrupted(self) -> bool:
        """Whether there is something to go on with."""
        return self.checkpoint_file.exists() and not self.is_finished

    def result(self, keys: Sequence[str] = ()) -> dict[str, Any]:
        """Read the result.

        Args:
            keys: What it must hold.

        Raises:
            UserError: no finished run there, one that cannot be read, or a damaged one.
        """
        try:
            result = json.loads(self.result_file.read_text(encoding="utf-8"))
            if not isinstance(result, dict):
                raise ValueError("not an object")
        except (FileNotFoundError, NotADirectoryError) as error:
            raise UserError(f"{self.path}: no finished run; train it first") from error
        except OSError as error:
            raise reading_failed(self.result_file, error) from error
        except ValueError as error:
            raise UserError(f"{self.result_file}: damaged; train the run again") from error
        if missing := [key for key in keys if key not in result]:
            raise UserError(f"{self.result_file}: lacks {missing[0]!r}; train the run again")
        return result

    def require_network(self) -> None:
        """Refuse a backbone's run, which classifies nothing.

        Raises:
            UserError: it is one, or no finished run.
        """
        if self.result().get("method") == "backbone":
            raise UserError(
                f"{self.path}: holds a backbone, which has no classes of its own; train a student "
                f"from it: spikebridge train RECIPE --student.weights {self.path}"
            )

    def settings(self) -> dict[str, Any]:
        """Read the settings as they were written; one that was added since is not there.

        Raises:
            UserError: they are missing, cannot be read or are damaged.
        """
        try:
            settings = yaml.safe_load(self.config_file.read_text(encoding="utf-8"))
            if not isinstance(settings, dict):
                raise ValueError("no settings")
            return settings
        except FileNotFoundError as error:
            raise UserError(
                f"{self.config_file}: missing; restore it or train the run again"
            ) from error
        except OSError as error:
            raise reading_failed(self.config_file, error) from error
        except (ValueError, yaml.YAMLError) as error:
            raise UserError(
                f"{self.config_file}: damaged; restore it or train the run again"
            ) from error

    def manifest(self) -> Manifest:
        """Read the split.

        Raises:
            UserError: it is missing or damaged.
        """
        return Manifest.read(self.manifest_file)

    def teacher_manifest(self) -> Manifest | None:
        """Read what a student's teacher was trained on; None where nothing tells.

        Raises:
            UserError: it is damaged.
        """
        there = self.teacher_manifest_file.exists()
        return Manifest.read(self.teacher_manifest_file) if there else None

    def pool(self) -> Pool | None:
        """Read what a student's backbone was taught on; None where it started from none.

        Raises:
            UserError: it is damaged.
        """
        return Pool.read(self.pool_file) if self.pool_file.exists() else None

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Read the records of one kind: `step`, `eval` or, with `train.read_test`, `test`.

        Raises:
            UserError: they are missing, cannot be read or are damaged.
        """
        try:
            lines = self.metrics_file.read_text(encoding="utf-8").splitlines()
            return [record for record in map(json.loads, lines) if record["kind"] == kind]
        except PermissionError as error:
            raise reading_failed(self.metrics_file, error) from error
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UserError(
                f"{self.metrics_file}: missing or damaged; train the run again"
            ) from error

    def predictions(self, classes: int) -> list[Prediction]:
        """Read what a run of so many classes said of its test samples.

        Raises:
            UserError: it is missing, cannot be read or is damaged.
        """
        try:
            with open(self.predictions_file, encoding="utf-8", newline="") as stream:
                found = [
                    Prediction(
                        row["file"],
                        int(row["label"]),
                        int(row["prediction"]),
                        float(row["confidence"]),
                    )
                    for row in csv.DictReader(stream)
                ]
            if not all(0 <= i < classes for p in found for i in (p.label, p.prediction)):
                raise ValueError("a class that the run does not have")
        except PermissionError as error:
            raise reading_failed(self.predictions_file, error) from error
        except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
            raise UserError(
                f"{self.predictions_file}: missing or damaged; train the run again"
            ) from error
        return found

    def energy(self) -> dict[str, Any]:
        """What a study counted: a report of `spikebridge energy`, or why it is `missing`.

        Empty where there is none that can be read.
        """
        try:
            counted = json.loads(self.energy_file.read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return {}
        return counted if isinstance(counted, dict) else {}

    def file_from_here(self, name: str) -> str:
        """A file that the finished run names, as it is found from here.

        Raises:
            UserError: no finished run there.
        """
        return file_from(self.result().get("origin"), str(expand_path(name)))

    def cache(self) -> str | None:
        """Its data.cache as it is found from here; None where none is set or there is no run."""
        try:
            cache = self.settings()["data"]["cache"]
            return None if cache is None else self.file_from_here(cache)
        except (KeyError, TypeError, UserError):
            return None

    def data_from_here(self, data: DataConfig) -> DataConfig:
        """Data settings of the run, or changed ones, with the folders as they are found from here.

        Raises:
            UserError: no finished run there, or its data are neither where it was made nor here.
        """
        origin = self.result().get("origin")

        def found(name: str) -> str | None:
            value = getattr(data, name)
            if value is None:
                return None
            path = self.file_from_here(value)
            if name != "cache" and not Path(path).exists() and not Path(path).is_absolute():
                where = f" nor below {origin}, where the run was made" if origin else ""
                raise UserError(
                    f"{self.path}: its data.{name}, {value}, is not below {Path.cwd()}{where}; "
                    "call the command in the folder that holds it"
                )
            return path

        folders = {name: found(name) for name in ("events", "photos", "cache")}
        return dataclasses.replace(data, **folders)
