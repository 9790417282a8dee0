"""The command `export`."""

from argparse import ArgumentParser, Namespace
from pathlib import Path


def _export_arguments(parser: ArgumentParser) -> None:
    parser.usage = "spikebridge export RUN --to FORMAT [--out FILE] [--check N]"
    parser.add_argument("run", help="folder of a trained student")
    parser.add_argument(
        "--to",
        choices=["nir", "onnx", "pt2"],
        required=True,
        help="neuromorphic tools, everything else, or PyTorch alone (torch.export)",
    )
    parser.add_argument(
        "--out", type=str, help="the file; null takes student.FORMAT in the run's folder"
    )
    parser.add_argument(
        "--check", type=int, default=8, help="number of validation recordings to compare on"
    )


def _export(given: Namespace) -> None:
    """Write a trained student as NIR, ONNX or torch.export, BatchNorm folded, and check the file.

    The file is loaded back and run on real recordings; one whose spikes or logits differ from the
    student's is not kept. A model card in Markdown goes beside it.
    """
    from spikebridge.results.export import FORMATS, export_run

    file = Path(given.out) if given.out else None
    exported = export_run(Path(given.run), given.to, file, check=given.check)
    size = exported.file.stat().st_size / 1e6
    print(f"{exported.file}: {FORMATS[given.to].title}, {size:.1f} MB; card {exported.card}")
    print(f"{FORMATS[given.to].runtime} and the student on {exported.difference}")


COMMANDS = {"export": (_export_arguments, _export)}
