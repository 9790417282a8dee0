"""What a leak is worth: the estimate, and a study that measures it."""

import csv
import json
import math

import numpy as np
import pytest
from scipy import stats

from spikebridge.cli import main
from spikebridge.data.manifest import Manifest
from spikebridge.results.compare import interval_95
from spikebridge.run_folder import RunFolder
from spikebridge.runs.study.leak import LeakRow, LeakRun, leak_csv, leak_effect, leak_table


def _runs(seeds: int, recordings: int = 30) -> list[dict[str, tuple[bool, bool]]]:
    """Halves that change places; hard recordings, lucky runs, and a leak that helps."""
    random = np.random.default_rng(3)
    hard_R, half_R = random.normal(0, 1.5, recordings), random.permutation(recordings) % 2 == 0
    runs = []
    for seed in range(seeds):
        leaked_R = half_R if seed % 2 == 0 else ~half_R
        luck_R = random.normal(0.3 * seed, 1, recordings)
        right_R = hard_R + luck_R + 0.8 * leaked_R > 0
        cells = zip(leaked_R.tolist(), right_R.tolist(), strict=True)
        runs.append({f"{r}.bin": cell for r, cell in enumerate(cells)})
    return runs


def _difference(run: dict[str, tuple[bool, bool]]) -> float:
    return LeakRun(0, run, math.nan).difference


@pytest.mark.parametrize("gaps", [0, 40])
def test_effect_and_interval_are_those_of_least_squares_with_all_dummies(gaps):
    runs = _runs(4)
    random = np.random.default_rng(0)
    for _ in range(gaps):  # Seeds of which each has a test split of its own.
        run = runs[random.integers(4)]
        run.pop(list(run)[random.integers(len(run))])
    names = sorted({file for run in runs for file in run})
    cells = [(names.index(f), s, *cell) for s, run in enumerate(runs) for f, cell in run.items()]
    r_N, s_N, leaked_N, right_N = np.array(cells, float).T
    dummies_NK = np.hstack([np.eye(len(names))[r_N.astype(int)], np.eye(4)[s_N.astype(int)]])
    design_NK = np.hstack([leaked_N[:, None], dummies_NK])
    found_K, *_ = np.linalg.lstsq(design_NK, 100 * right_N, rcond=None)
    own_N = leaked_N - dummies_NK @ np.linalg.lstsq(dummies_NK, leaked_N, rcond=None)[0]
    score_N = own_N * (100 * right_N - design_NK @ found_K)
    sums = [np.array([score_N[of_N == i].sum() for i in np.unique(of_N)]) for of_N in (r_N, s_N)]
    by = [(one**2).sum() * len(one) / (len(one) - 1) for one in sums]
    variance = max(by[0] + by[1] - (score_N**2).sum(), *by) / (own_N**2).sum() ** 2
    effect, interval = leak_effect(runs)
    assert effect == pytest.approx(found_K[0], abs=1e-6)
    assert interval == pytest.approx(stats.t.ppf(0.975, 3) * variance**0.5, abs=1e-6)


def test_where_halves_change_places_the_effect_is_the_mean_of_the_runs_differences():
    runs = _runs(6)
    effect, interval = leak_effect(runs)
    assert effect == pytest.approx(np.mean([_difference(run) for run in runs]))
    assert 0 < effect < 40
    assert interval < 20


def test_one_run_has_a_difference_and_no_interval():
    runs = _runs(1)
    effect, interval = leak_effect(runs)
    assert effect == pytest.approx(_difference(runs[0]))
    assert math.isnan(interval)


def test_the_table_has_what_there_is(tmp_path):
    runs = _runs(2)
    rows = [
        LeakRow("digits", "all", "kt", tuple(LeakRun(s, r, 1.0 + s) for s, r in enumerate(runs))),
        LeakRow("digits", "all", "clean", (LeakRun(0, {}, 2.0),)),
        LeakRow("digits", "all", "unread", (LeakRun(0, runs[0], math.nan),)),
    ]
    lines = leak_table(rows).markdown().splitlines()
    effect, interval = leak_effect(runs)
    each = " ".join(f"{_difference(run):+.1f}".replace("-", "−") for run in runs)
    assert (
        f"{effect:+.1f} ± {interval:.1f} | {each} | +1.5 ± {interval_95([1, 2]):.1f} |" in lines[2]
    )
    assert lines[3] == "| digits | all | clean | 1 | – | – | – | – | +2.0 |"
    assert lines[4].endswith(f"| {_difference(runs[0]):+.1f} | {_difference(runs[0]):+.1f} | – |")
    assert leak_csv(rows).splitlines()[3] == "digits,all,clean,0,0,,0,,,2"


def test_a_study_measures_a_leak_and_what_selecting_on_test_adds(write_study, tmp_path, capsys):
    leaked = {"protocol": "leaked", "seed": 0}
    read = {"epochs": 3, "read_test": True}
    file = write_study(
        seeds=[0, 1],
        arms={
            "ckd": {"method": "ckd", "train": read},
            "ckd-leaked": {"method": "ckd", "data": {"split": leaked}},
            "scratch": {"method": "scratch"},
        },
        against=None,
    )
    assert main(["study", str(file), "--out", str(tmp_path / "out"), "--jobs", "1"]) == 0
    page = capsys.readouterr().out
    assert "| ckd, test read during training |" in page
    assert "| ckd-leaked, leaked on purpose (protocol leaked) |" in page
    assert "| leaked − others |" in page
    with open(tmp_path / "out" / "leak.csv") as stream:
        found = {(one["arm"], one["seed"]): one for one in csv.DictReader(stream)}
    assert set(found) == {(arm, seed) for arm in ("ckd", "ckd-leaked") for seed in "01"}
    folder = tmp_path / "out" / "tiny" / "k4"
    halves = []
    for seed in "01":
        run = RunFolder(folder / f"ckd-leaked-seed{seed}")
        manifest = Manifest.read(run.manifest_file)
        halves.append({e.file for e in manifest.leaked_recordings})
        right = {one.file: one.right for one in run.predictions(3)}
        own = found["ckd-leaked", seed]
        assert int(own["leaked"]) == len(halves[-1]) == 6
        assert int(own["others"]) == 6
        top1 = 100 * np.mean([right[file] for file in halves[-1]])
        assert float(own["leaked_top1"]) == pytest.approx(top1, abs=1e-3)
        assert own["selecting_on_test_adds"] == ""
        assert not run.metrics("test")

        run = RunFolder(folder / f"ckd-seed{seed}")
        curve = {one["epoch"]: one["top1"] for one in run.metrics("test")}
        assert set(curve) == {one["epoch"] for one in run.metrics("eval")} == {0, 1, 2}
        result = run.result()
        assert curve[result["best_epoch"]] == result["test_top1"]
        adds = max(curve.values()) - result["test_top1"]
        assert float(found["ckd", seed]["selecting_on_test_adds"]) == pytest.approx(adds, abs=1e-3)
    assert not halves[0] & halves[1]
    teachers = [json.loads(p.read_text()) for p in folder.glob("teacher*-seed0/result.json")]
    assert {one["protocol"] for one in teachers} == {"few-shot", "leaked"}
