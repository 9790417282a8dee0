"""What CONTRIBUTING adds, a method, a data set and a loss, is added to a copy and trained with."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from factories import bar_photos, tiny_recipe

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"`(src/\S+)`:\n\n```(?:python|yaml)\n(.*?)```", PAGE, re.DOTALL))
"""Text of each file that is shown whole, by its path."""


def lines_of(hunk: str, signs: str) -> str:
    return "".join(f"{line[1:]}\n" for line in hunk.splitlines() if line.startswith(tuple(signs)))


def changed_copy(root: Path) -> Path:
    """A copy of the package with the page's files and changes."""
    shutil.copytree(ROOT / "src", root / "src", ignore=shutil.ignore_patterns("__pycache__"))
    for path, text in FILES.items():
        assert not (root / path).exists()
        (root / path).write_text(text, encoding="utf-8")
    for shown in re.findall(r"```diff\n(.*?)```", PAGE, re.DOTALL):
        for change in re.split(r"^--- ", shown, flags=re.MULTILINE)[1:]:
            path, hunks = change.split("\n", 1)
            for hunk in hunks.split("@@\n"):
                source = (root / path).read_text(encoding="utf-8")
                assert source.count(lines_of(hunk, " -")) == 1, f"{path} has no such line any more"
                source = source.replace(lines_of(hunk, " -"), lines_of(hunk, " +"))
                (root / path).write_text(source, encoding="utf-8")
    return root / "src"


def flat_folders(root: Path) -> dict[str, str]:
    """Photos of bars, and noise in the place of their recordings, named CLASS_NUMBER."""
    random = np.random.default_rng(0)
    folders = {kind: root / kind for kind in ("events", "photos")}
    for folder in folders.values():
        folder.mkdir()
    for photo in bar_photos(root / "bars", 9).rglob("*.png"):
        name = f"{photo.parent.name}_{photo.stem.rpartition('_')[2]}"
        photo.rename(folders["photos"] / f"{name}.png")
        x_N, y_N = random.integers(0, 16, (2, 200))
        np.savez(folders["events"] / f"{name}.npz", x=x_N, y=y_N, t=np.arange(200), p=x_N > y_N)
    return {kind: str(folder) for kind, folder in folders.items()}


def test_the_pages_method_data_set_and_loss_train_together(tmp_path):
    assert [Path(path).name for path in FILES] == ["late.yaml", "flat.py", "logit_error.py"]
    source = changed_copy(tmp_path)
    split = {"labelled_per_class": 3, "validation_per_class": 2, "test_per_class": 2}
    settings = tiny_recipe(
        tmp_path,
        data={"name": "flat", "split": split, **flat_folders(tmp_path)},
        student={"neuron_backend": "eager"},
        train={"epochs": 1, "batches_per_epoch": 2},
    )
    recipe, run = tmp_path / "mine.yaml", tmp_path / "run"
    recipe.write_text(yaml.safe_dump(settings))
    done = subprocess.run(
        [sys.executable, "-m", "spikebridge", "train", str(recipe), "--out", str(run),
         "--method", "late", "--objective.kd_loss", "logit-error"],
        env=os.environ | {"PYTHONPATH": str(source), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    result = json.loads((run / "result.json").read_text())
    assert (result["method"], result["data"]) == ("late", "flat")
    assert result["classes"] == ["across", "down", "slope"]
    assert result["proved"]
    written = yaml.safe_load((run / "config.yaml").read_text())["objective"]
    assert (written["kd_loss"], written["replacement"]["power"]) == ("logit-error", 9)
    records = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert all(one["losses"]["kd"] > 0 for one in records if one["kind"] == "step")


def test_the_pages_loss_is_its_formula():
    scope = {}
    exec(FILES["src/spikebridge/ckd/losses/logit_error.py"], scope)
    random = torch.Generator().manual_seed(0)
    student_TBC = torch.rand(3, 4, 5, generator=random)
    teacher_BC = torch.rand(4, 5, generator=random)
    weight_B = torch.tensor([1.0, 0.0, 0.5, 1.0])
    for per_step in (False, True):
        steps = student_TBC.numpy() if per_step else student_TBC.numpy().mean(0, keepdims=True)
        errors_B = [
            np.mean([((teacher_BC[b].numpy() - z_BC[b]) / 2) ** 2 for z_BC in steps])
            for b in range(4)
        ]
        found = scope["logit_error_loss"](
            student_TBC, teacher_BC, temperature=2.0, per_step=per_step, weight_B=weight_B
        )
        assert found.item() == pytest.approx(np.average(errors_B, weights=weight_B))
