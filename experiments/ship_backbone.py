"""Export a backbone's run to the file that ships: half precision, its pool's hashes, and a card.

python experiments/ship_backbone.py RUN --name photos-v1 --licence "CC BY 4.0" --command "…"
"""

import argparse
import os
from dataclasses import replace
from pathlib import Path

import spikebridge
from spikebridge.base.files import expand_path, file_sha256, write_text
from spikebridge.data.pool import Pool
from spikebridge.results.backbone import backbone_card, load_backbone
from spikebridge.run_folder import RunFolder
from spikebridge.training.checkpoint import load_model, save_model

_MOST_BYTES = 5_000_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path, help="folder of a finished run of spikebridge backbone")
    parser.add_argument("--name", required=True, help="what student.weights calls it")
    parser.add_argument("--licence", required=True, help="of the photos, and who made them")
    parser.add_argument("--command", required=True, help="what made the run")
    parser.add_argument(
        "--to", type=Path, default=Path(spikebridge.__file__).parent / "weights", help="folder"
    )
    given = parser.parse_args()

    backbone, result = load_backbone(str(given.run)), RunFolder(given.run).result()
    weights, description = load_model(backbone.path)
    half = {n: t.half() if t.is_floating_point() else t for n, t in weights.items()}
    folders = backbone.config.backbone.photos
    roots = [os.path.abspath(expand_path(folder)) for folder in folders]
    description["pool"] = Pool(
        tuple(replace(p, file=_below(p.file, roots)) for p in backbone.pool.photos)
    ).text()
    file = given.to / f"{given.name}.safetensors"
    save_model(file, half, description)
    if (size := file.stat().st_size) > _MOST_BYTES:
        file.unlink()
        raise SystemExit(f"{size:,} bytes are more than {_MOST_BYTES:,}")
    card = backbone_card(backbone.config, result, given.licence).replace(
        "# A spiking backbone", f"# {given.name}, a spiking backbone", 1
    )
    card += (
        f"\nMade by `{given.command}` and `experiments/ship_backbone.py`, in float16.\n\n"
        f"SHA-256: {file_sha256(file)} ({file.name}, {size / 1e6:.1f} MB); of the photos: in the "
        "file, with what they look like.\n\n"
        "spikebridge: Apache-2.0. The weights may be used within the licence of the photos.\n"
    )
    write_text(given.to / f"{given.name}.md", card)
    load_backbone(str(file))
    print(f"{file}: {size:,} bytes")


def _below(file: str, roots: list[str]) -> str:
    """A photo's path below the folder of photos that holds it."""
    path = os.path.abspath(file)
    root = next((r for r in roots if path.startswith(r + os.sep)), os.path.dirname(path))
    return os.path.join(os.path.basename(root), os.path.relpath(path, root))


if __name__ == "__main__":
    main()
