"""What the page says in words of its numbers."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from report_fakes import MakeRun, mean_and_interval, plain

from spikebridge.compare import compare
from spikebridge.report.answer import answer, caveats, overlap, signed, verdict
from spikebridge.report.read import read_run

Report = Callable[[Sequence[Path]], str]


@pytest.mark.parametrize(
    ("ckd", "scratch", "expected"),
    [
        ((80.0, 82.0, 81.0), (60.0, 61.0, 62.0), ("do not overlap", "CKD is better here")),
        ((60.0, 62.0, 61.0), (80.0, 82.0, 81.0), ("do not overlap", "CKD is worse here")),
        ((80.0, 60.0, 70.0), (60.0, 70.0, 65.0), ("intervals overlap", "do not tell the two")),
        ((62.0, 72.0, 82.0), (60.0, 70.0, 80.0), ("intervals overlap", "CKD is better here")),
    ],
)
def test_the_verdict_is_honest_in_every_outcome(
    make_run: MakeRun, ckd: Sequence[float], scratch: Sequence[float], expected: tuple[str, str]
) -> None:
    made = [make_run("ckd", seed, top1) for seed, top1 in enumerate(ckd)]
    made += [make_run("scratch", seed, top1) for seed, top1 in enumerate(scratch)]
    rows = compare(made)
    assert all(words in verdict(rows) for words in expected)
    means = [mean_and_interval(values) for values in (ckd, scratch)]
    touching = abs(means[0][0] - means[1][0]) <= means[0][1] + means[1][1]
    assert overlap(rows[1], rows[0]) is touching


def test_seeds_that_only_one_method_has_are_not_paired(make_run: MakeRun) -> None:
    made = [make_run("ckd", 0, 80.0), make_run("ckd", 1, 81.0)]
    made += [make_run("scratch", 1, 70.0), make_run("scratch", 2, 72.0)]
    assert "too few seeds are common" in verdict(compare(made))


def test_all_labelled_and_another_network_are_said(make_run: MakeRun) -> None:
    made = [make_run("scratch", 0, 70.0, labelled=None), make_run("ckd", 0, 75.0, labelled=None)]
    config = made[0] / "config.yaml"
    config.write_text(config.read_text().replace("width: 0.0625", "width: 0.125"))
    sentence = answer(compare(made), [read_run(run) for run in made])
    assert sentence.startswith("With all training recordings labelled, CKD reaches 75.0 %")
    assert "another network reaches 70.0 %" in sentence


def test_ckd_plus_stands_for_ckd_where_that_is_missing(make_run: MakeRun, report: Report) -> None:
    made = [make_run("scratch", 0, 70.0), make_run("kt", 0, 90.0), make_run("ckd-plus", 0, 75.0)]
    html = plain(report(made))
    assert "CKD-plus reaches 75.0 % on the test recordings" in html
    assert "The highest mean of the 3 students here is that of kt: 90.0 %." in html
    assert "Training loss of ckd-plus" in html
    assert "CKA of ckd-plus" in html
    made.append(make_run("ckd", 0, 95.0))
    rows = compare(made)
    assert "CKD reaches 95.0 % on the" in answer(rows, [read_run(run) for run in made])
    assert "Of the 4 students here CKD has the highest mean." in verdict(rows)


def test_a_methods_own_settings_are_no_caveat(make_run: MakeRun) -> None:
    made = [make_run(method, 0, 70.0) for method in ("scratch", "ann-on-frames", "ckd")]
    runs = [read_run(run) for run in made]
    assert [run.config.student.neuron for run in runs] == ["lif", "relu", "lif"]
    assert caveats(runs) == []
    assert "Of the 3 students here CKD has the highest mean." in verdict(compare(made))


def test_unlike_settings_splits_and_protocols_are_told(make_run: MakeRun, report: Report) -> None:
    scratch, ckd = make_run("scratch", 0, 70.0), make_run("ckd", 0, 75.0)
    config = ckd / "config.yaml"
    config.write_text(config.read_text().replace("epochs: 4", "epochs: 8"))
    manifest = scratch / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",test,tests the student", ",unused,unused"))
    manifest = ckd / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",clean,", ",kt,"))
    result = json.loads((ckd / "result.json").read_text()) | {"protocol": "kt"}
    (ckd / "result.json").write_text(json.dumps(result))
    html = report([scratch, ckd])
    assert "scratch was trained with other settings than ckd: train.epochs 4 instead of 8" in html
    assert "The runs of seed 0 were not split alike" in html
    assert "the epoch was selected on the test recordings" in html


def test_signed_numbers() -> None:
    assert [signed(v) for v in (1.25, -3.0, -0.01, 0.0)] == ["+1.2", "−3.0", "+0.0", "+0.0"]
