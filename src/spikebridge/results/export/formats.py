"""The file formats: what each can hold, who writes it, and who runs the file again."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from torch import Tensor

from spikebridge.base.console import console
from spikebridge.base.errors import UserError
from spikebridge.models.settings import StudentConfig
from spikebridge.results.export.graph import Graph
from spikebridge.results.export.outputs import Outputs

About = Mapping[str, str]
"""What a file says of itself: classes, preprocessing and the like, by name."""


@dataclass(frozen=True)
class Format:
    """One file format."""

    name: str
    title: str
    runtime: str
    """What runs the file when it is checked."""
    packages: tuple[str, ...]
    """What must be installed to write and run it, as it is imported."""
    module: str
    """Holds ``write(graph, path, about)`` and ``run(path, graph, x_BTCHW)``."""

    def write(self, graph: Graph, path: Path, about: About) -> None:
        """Write a file.

        Raises:
            UserError: a package is missing.
        """
        self._load("write")(graph, path, about)

    def run(self, path: Path, graph: Graph, x_BTCHW: Tensor) -> Outputs:
        """Run what a file holds; of ``graph`` only names and shapes are used.

        Raises:
            UserError: a package is missing.
        """
        return self._load("run")(path, graph, x_BTCHW)

    def require(self) -> None:
        """Import what the format needs.

        Raises:
            UserError: a package is missing.
        """
        for package in self.packages:
            try:
                import_module(package)
            except ImportError as error:
                raise UserError(
                    f"export to {self.name} needs the package {package}, which is not installed; "
                    "run: pip install 'spikebridge[export]'"
                ) from error

    def _load(self, function: str) -> Callable:
        self.require()
        return getattr(import_module(f"spikebridge.results.export.{self.module}"), function)


FORMATS = {
    one.name: one
    for one in (
        Format("nir", "NIR", "SpikingJelly", ("nir", "nirtorch", "spikingjelly"), "to_nir"),
        Format("onnx", "ONNX", "onnxruntime", ("onnx", "onnxruntime"), "to_onnx"),
        Format("pt2", "torch.export", "PyTorch", (), "to_pt2"),
    )
}
"""By name, the value of ``--to``."""


def obstacle(config: StudentConfig, format_name: str) -> str | None:
    """Why students of these settings cannot be exported to a format; None where they can."""
    if format_name != "nir":
        return None
    if config.neuron == "relu":
        return "NIR has no ReLU (student.neuron)"
    if config.tau <= 1:
        return "SpikingJelly, which checks the file, takes no LIF without memory (student.tau 1)"
    return None


def warn_before_training(config: StudentConfig) -> None:
    """Say at the start of training which exports the trained student will be refused."""
    for one in FORMATS.values():
        if (reason := obstacle(config, one.name)) is not None:
            line = f"warning: this student will not export to {one.title}: {reason}"
            console.print(line, soft_wrap=True, markup=False)
