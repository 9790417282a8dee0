"""The table's statistics and files, from made-up results."""

import csv
import dataclasses
import json
import math

import numpy as np
import pytest
from scipy import stats

from factories import refused
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.results.compare import paired
from spikebridge.runs.study import curves
from spikebridge.runs.study.figures import arm_styles, write_figures
from spikebridge.runs.study.hard import as_csv, read_tested
from spikebridge.runs.study.page import update_page
from spikebridge.runs.study.plan import plan
from spikebridge.runs.study.table import make_rows, read_outcomes
from spikebridge.runs.study.write import table, write_tables
from spikebridge.runs.train import teacher_settings

CKD = (90.0, 92.5, 91.0)
SCRATCH = (70.0, 75.0, 68.0)


@pytest.fixture
def made(make_study, tmp_path):
    """Makes a study, its table and outcomes: top-1 by arm and seed; None is a failure."""

    def make(top1, protocol="few-shot", more=(), **changes):
        study = make_study(seeds=[0, 1, 2], **changes)
        planned = plan(study, tmp_path / "out")
        failures = {}
        for one in planned:
            value = top1.get(one.arm, (99.0, 99.0, 99.0))[one.seed]
            if value is None:
                failures[one.job.folder] = "out of | memory"
                continue
            one.job.folder.mkdir(parents=True)
            rates = {} if one.arm == "teacher" else {"rates": {"lif1": 0.1, "lif2": 0.3}}
            result = (
                dict(more)
                | {
                    "labelled_per_class": 4,
                    "test_top1": value,
                    "seconds": 10.0 + one.seed,
                    "protocol": protocol,
                    "classes": ["cup", "saw", "hat"],
                }
                | rates
            )
            (one.job.folder / "result.json").write_text(json.dumps(result))
            settings = teacher_settings(one.job.config) if one.arm == "teacher" else one.job.config
            plain = json.loads(json.dumps(dataclasses.asdict(settings)))
            (one.job.folder / "config.yaml").write_text(json.dumps(plain))
            energy = {"student": {"nj": 1000.0 * (1 + one.seed)}}
            (one.job.folder / "energy.json").write_text(json.dumps(energy))
        outcomes = read_outcomes(planned, failures)
        return study, make_rows(study, outcomes), outcomes

    return make


def test_means_intervals_and_paired_tests_are_scipys(made):
    _, rows, _ = made({"ckd": CKD, "scratch": SCRATCH})
    assert [row.arm for row in rows] == ["teacher", "scratch", "ckd"]
    ckd = rows[2]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(CKD), scale=stats.sem(CKD))
    assert ckd.mean - ckd.interval == pytest.approx(low)
    assert ckd.mean + ckd.interval == pytest.approx(high)
    (paired,) = ckd.paired
    test = stats.ttest_rel(CKD, SCRATCH)
    assert paired.against == "scratch"
    assert paired.mean == pytest.approx(20.1667, abs=1e-3)
    assert paired.p == pytest.approx(test.pvalue)
    interval = test.confidence_interval(0.95)
    assert paired.mean + paired.interval == pytest.approx(interval.high)
    assert ckd.seconds == 11
    assert ckd.spikes == pytest.approx(0.2)
    assert ckd.energy_nj == 2000
    assert rows[1].paired == ()


def test_differences_are_of_common_seeds_only(made):
    _, rows, _ = made({"ckd": (90.0, None, 91.0), "scratch": (70.0, 75.0, 68.0)})
    (paired,) = rows[2].paired
    assert paired.seeds == (0, 2)
    assert paired.by_seed == (20.0, 23.0)
    assert rows[2].seeds == (0, 2)


def test_runs_with_other_test_recordings_are_not_compared(made, tmp_path):
    """Recordings that are added between two calls of a study have the split drawn otherwise."""
    study, _, _ = made({"ckd": CKD, "scratch": SCRATCH})
    recordings = [
        Entry("recording", f"{n}.bin", "cup", 0, str(n), f"cup/{n}", "test", f"{n:064d}")
        for n in range(3)
    ]
    photo = Entry("photo", "p.png", "cup", 0, "p", "", "train", "f" * 64)
    splits = {
        "as they were": Manifest(tuple(recordings)),
        "other photos": Manifest((*recordings, photo)),
        "other recordings": Manifest(tuple(recordings[1:])),
    }
    planned = plan(study, tmp_path / "out")
    for one in planned:
        changed = {("ckd", 0): "other photos", ("ckd", 1): "other recordings"}
        split = splits[changed.get((one.arm, one.seed), "as they were")]
        split.write(one.job.folder / "manifest.csv")
        file = one.job.folder / "result.json"
        file.write_text(
            json.dumps(json.loads(file.read_text()) | {"manifest_sha256": split.sha256})
        )
    rows = make_rows(study, read_outcomes(planned, {}))
    (paired,) = rows[2].paired
    assert paired.seeds == (0, 2)
    page = table(study, rows).markdown()
    assert "Not compared, for their test recordings differ: ckd and scratch, seed 1." in page


def test_energy_that_could_not_be_counted_is_said_and_averages_nothing(made, tmp_path):
    study, _, _ = made({"ckd": CKD, "scratch": SCRATCH})
    planned = plan(study, tmp_path / "out")
    one = next(p for p in planned if (p.arm, p.seed) == ("ckd", 1))
    (one.job.folder / "energy.json").write_text('{"missing": "photos: no such folder"}')
    rows = make_rows(study, read_outcomes(planned, {}))
    assert rows[1].energy_nj == 2000
    assert math.isnan(rows[2].energy_nj)
    assert "Energy of ckd was not counted: photos: no such folder" in table(study, rows).markdown()


def test_equal_differences_have_neither_interval_nor_p():
    """Of 500 recordings: top-1 in percent differ in the last bit then."""
    better, other = ({s: 100 * n / 500 for s, n in enumerate(right)}
                     for right in ((489, 479, 472), (477, 467, 460)))  # fmt: skip
    found = paired("scratch", better, other)
    assert found is not None
    assert len(set(found.by_seed)) > 1
    assert math.isnan(found.interval)
    assert math.isnan(found.p)
    assert found.text == "+2.4"


def test_failed_run_is_a_row_and_everything_is_written(made, tmp_path):
    study, rows, outcomes = made({"ckd": (90.0, None, 91.0), "scratch": SCRATCH})
    write_tables(study, rows, outcomes, [], [], tmp_path)
    lines = (tmp_path / "table.md").read_text().splitlines()
    assert (
        "| tiny | 4 | scratch | 3 | 71.0 ± 9.0 | – | 70.0 75.0 68.0 | 11 | 0.200 | 2,000 |" in lines
    )
    assert any(
        line.startswith("| tiny | 4 | ckd | 2 of 3 | 90.5 ± 6.4 | +21.5 ± 19.1") for line in lines
    )
    (failed,) = [line for line in lines if "seed 1" in line]
    assert failed.startswith(r"| tiny | 4 | ckd, seed 1 |  | failed: out of \| memory |")
    with open(tmp_path / "table.csv") as stream:
        cells = {row["arm"]: row for row in csv.DictReader(stream)}
    assert cells["ckd"]["seeds"] == "0 2"
    assert cells["ckd"]["n"] == "2"
    assert cells["ckd"]["failures"] == "seed 1: out of | memory"
    assert float(cells["ckd"]["minus_scratch"]) == 21.5
    assert float(cells["ckd"]["minus_scratch_p"]) == pytest.approx(
        stats.ttest_rel([90, 91], [70, 68]).pvalue, rel=1e-4
    )
    results = json.loads((tmp_path / "results.json").read_text())
    assert results["study"] == study.text
    assert results["versions"]["torch"]
    assert len(results["runs"]) == 9
    runs = {(run["arm"], run["seed"]): run for run in results["runs"]}
    assert runs["ckd", 1]["failure"] == "out of | memory"
    assert runs["ckd", 2]["result"]["test_top1"] == 91
    assert results["rows"][2]["paired"][0]["mean"] == 21.5


def test_latex_has_the_tables_cells_and_the_command(made, tmp_path):
    study, rows, outcomes = made({"ckd": (90.0, None, 91.0), "scratch": SCRATCH}, title="A & B?")
    write_tables(
        study, rows, outcomes, [], [], tmp_path, "spikebridge study 'my file.yaml' --out x_y"
    )
    lines = (tmp_path / "table.tex").read_text().splitlines()
    assert lines[0] == "% spikebridge study 'my file.yaml' --out x_y"
    (scratch,) = [line for line in lines if " & scratch & " in line]
    assert r"tiny & 4 & scratch & 3 & 71.0 $\pm$ 9.0 & -- & 70.0 75.0 68.0 & 11 &" in scratch
    assert any("failed: out of | memory &" in line for line in lines)
    (caption,) = [line for line in lines if "caption" in line]
    assert r"\caption{A \& B? Mean $\pm$ 95 \% interval" in caption
    assert r"Made by \texttt{spikebridge study 'my file.yaml' --out x\_y}.}" in caption
    (opening,) = [line for line in lines if r"\begin{tabular}" in line]
    columns = opening.split("{")[-1].rstrip("}")
    cells = [line.count(" & ") + 1 for line in lines if line.endswith(r"\\")]
    assert len(cells) == 1 + 3 + 1
    assert set(cells) == {len(columns)}


def test_every_run_has_a_row_failed_ones_too(made, tmp_path):
    more = {"best_epoch": 3, "val_top1": 88.0, "proved": True}
    changes = {"evaluate_at": {"noisy": {"data": {"simulator": {"shot_noise_hz": 7.0}}}}}
    top1 = {"ckd": (90.0, None, 91.0), "scratch": SCRATCH}
    study, rows, outcomes = made(top1, more=more, **changes)
    write_tables(study, rows, outcomes, [], [], tmp_path)
    with open(tmp_path / "per-run.csv") as stream:
        lines = list(csv.DictReader(stream))
    own = {(one["arm"], one["seed"]): one for one in lines if not one["tested_on"]}
    assert len(own) == 9
    assert len([one for one in lines if one["tested_on"] == "noisy"]) == 6
    assert own["ckd", "0"]["test_top1"] == "90.0"
    assert own["ckd", "0"]["best_epoch"] == "3"
    assert own["ckd", "0"]["labelled_per_class"] == "4"
    assert own["ckd", "0"]["folder"].endswith("ckd-seed0")
    assert own["ckd", "1"]["failure"] == "out of | memory"
    assert own["ckd", "1"]["test_top1"] == ""


def test_unproved_runs_and_their_differences_carry_a_mark(made):
    study, rows, _ = made({"ckd": CKD, "scratch": SCRATCH}, more={"proved": False})
    page = table(study, rows).markdown()
    assert "| 71.0 ± 9.0† | – | 70.0† 75.0† 68.0† |" in page
    assert "| 91.2 ± 3.1† | +20.2 ± 6.8† (" in page
    assert "† Unproved: that training saw nothing held out cannot be excluded" in page


def test_proved_runs_carry_none(made):
    study, rows, _ = made({"ckd": CKD, "scratch": SCRATCH}, more={"proved": True})
    assert "†" not in table(study, rows).markdown()


def test_where_a_manifest_splits_its_recordings_are_counted(made):
    split = {"data": {"split": {"manifest": "/sessions.csv"}}}
    arms = {"ckd": {"method": "ckd", **split}, "scratch": {"method": "scratch"}}
    counted = {"labelled_recordings": {"min": 9, "max": 11}}
    _, rows, _ = made({"ckd": CKD, "scratch": SCRATCH}, more=counted, arms=arms)
    labelled = {row.arm: row.labelled for row in rows}
    assert (labelled["ckd"], labelled["scratch"]) == ("9–11", "4")


def test_run_of_other_settings_counts_as_failed(made, make_study, tmp_path):
    made({"ckd": CKD, "scratch": SCRATCH})
    changed = {"scratch": {"method": "scratch"}, "ckd": {"method": "ckd", "train": {"epochs": 9}}}
    study = make_study(seeds=[0, 1, 2], arms=changed)
    rows = make_rows(study, read_outcomes(plan(study, tmp_path / "out"), {}))
    assert [(row.arm, row.seeds) for row in rows[1:]] == [("scratch", (0, 1, 2)), ("ckd", ())]
    assert "train.epochs is 2 there and 9 here" in rows[2].failures[0][1]


def test_run_whose_result_lacks_a_key_counts_as_failed(made, tmp_path):
    study, _, outcomes = made({"ckd": CKD, "scratch": SCRATCH})
    folder = next(one.planned.job.folder for one in outcomes if one.planned.arm == "ckd")
    (folder / "result.json").write_text('{"test_top1": 80.0}')
    rows = make_rows(study, read_outcomes(plan(study, tmp_path / "out"), {}))
    assert rows[2].seeds == (1, 2)
    assert "lacks 'protocol'; train the run again" in rows[2].failures[0][1]


def test_protocol_published_says_so(made):
    study, rows, _ = made({"ckd": CKD, "scratch": SCRATCH}, protocol="published")
    mark = "selected on test, sources show test recordings (protocol published)"
    assert f"| ckd, {mark} |" in table(study, rows).markdown()


def test_runs_that_were_left_out_are_shown_as_such(make_study, tmp_path):
    study = make_study()
    outcomes = read_outcomes(plan(study, tmp_path), {})
    page = table(study, make_rows(study, outcomes)).markdown()
    assert "| tiny | 4 | ckd | 0 of 2 | – | – | – | – |" in page
    assert "| ckd, seed 0 |  | not run yet |" in page


def test_figures_stand_alone_and_are_alike_whenever_they_are_drawn(made, tmp_path):
    study, rows, _ = made({"ckd": CKD, "scratch": SCRATCH}, labelled_per_class=[1, 4])
    figures = write_figures(study, rows, tmp_path)
    assert [path.name for _, path in figures] == ["accuracy-tiny.svg", "minus-scratch-tiny.svg"]
    first = [path.read_text() for _, path in figures]
    assert "labelled recordings per class" in first[0]
    assert "ckd, k = 4" in first[1]
    assert [path.read_text() for _, path in write_figures(study, rows, tmp_path)] == first


def test_one_budget_is_a_line_for_each_arm(made, tmp_path):
    study, rows, _ = made({"ckd": CKD, "scratch": (None, None, 70.0)})
    ((_, accuracy), (_, paired)) = write_figures(study, rows, tmp_path)
    assert "91.2 ± 3.1" in accuracy.read_text()
    assert "+21.0" in paired.read_text()


def test_what_no_seed_gets_right_is_told_and_listed(made, tmp_path):
    study, rows, outcomes = made({"ckd": CKD, "scratch": (None, 75.0, None)})
    said = {
        0: {"a.bin": (0, 0), "b.bin": (1, 2), "c.bin": (1, 2), "d.bin": (2, 0), "x.bin": (0, 1)},
        1: {"a.bin": (0, 1), "b.bin": (1, 2), "c.bin": (1, 1)},
        2: {"b.bin": (1, 0), "c.bin": (1, 2), "d.bin": (2, 1)},
    }
    for one in outcomes:
        if one.result and one.planned.arm != "teacher":
            lines = [f"{file},{l},{p},0.5" for file, (l, p) in said[one.planned.seed].items()]
            text = "\n".join(["file,label,prediction,confidence", *lines])
            (one.planned.job.folder / "predictions.csv").write_text(text)
    tested = read_tested(outcomes)
    # b and d of a, b, c and d; x was tested once, and scratch by one seed.
    assert (
        "of those that two or more test, %: tiny, k = 4: ckd 50.0."
        in table(study, rows, tested).markdown()
    )
    assert as_csv(tested).splitlines()[1:] == [
        "tiny,4,ckd,b.bin,saw,hat; hat; cup",
        "tiny,4,ckd,d.bin,hat,cup; saw",
    ]


def test_curves_are_means_over_the_seeds_that_validation_selected(made, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(curves, "save", lambda figure, path, _: drawn.append(figure) or path)
    _, rows, outcomes = made({"ckd": CKD, "scratch": (None, None, 70.0)})
    for one in outcomes:
        if not one.result:
            continue
        seed, split = one.planned.seed, "validation"
        if one.planned.arm == "ckd" and seed == 1:
            split = "test"  # as under protocol published
        lines = [{"kind": "step", "epoch": 0}] + [
            {"kind": "eval", "split": split, "epoch": e, "progress": e / 4, "top1": 10.0 * e + seed}
            for e in (2, 4)
        ]
        text = "\n".join(json.dumps(line) for line in lines)
        (one.planned.job.folder / "metrics.jsonl").write_text(text)
    ((title, path),) = curves.write_curves(rows, outcomes, tmp_path)
    assert (path.name, "mean over seeds" in title) == ("validation-tiny.svg", True)
    (axes,) = drawn[0].axes
    found = {line.get_label(): line.get_xydata().tolist() for line in axes.lines}
    assert found == {"ckd": [[0.5, 21.0], [1.0, 41.0]], "scratch": [[0.5, 22.0], [1.0, 42.0]]}


def test_page_holds_the_table_once_however_often_it_is_updated(tmp_path):
    page, picture = tmp_path / "docs" / "study.md", tmp_path / "accuracy-tiny.svg"
    page.parent.mkdir()
    picture.write_text("<svg/>")
    places = '<!-- study {0}: made by "spikebridge study …" -->\nold\n<!-- end study {0} -->\n'
    page.write_text("# Start\n" + places.format("small") + "middle\n" + places.format("smaller"))
    for _ in range(2):
        update_page(page, "small", "| table |\n", [("How it went", picture)], "spikebridge study x")
        assert page.read_text() == (
            '# Start\n<!-- study small: made by "spikebridge study x" -->\n\n| table |\n\n'
            "![How it went](study/small-accuracy-tiny.svg)\n\n<!-- end study small -->\nmiddle\n"
            + places.format("smaller")
        )
    assert (page.parent / "study" / "small-accuracy-tiny.svg").read_text() == "<svg/>"
    refused(lambda: update_page(page, "other", "", [], "c"), "0 places", "<!-- end study other -->")


def test_every_arm_of_a_large_study_looks_different():
    arms = ["teacher", "scratch", "kt", "ckd", "ckd-plus", *(f"variant-{i}" for i in range(9))]
    styles = arm_styles(arms)
    assert styles["kt"].light == "#0072b2"
    assert len({(style.light, style.marker) for style in styles.values()}) == len(arms)
    assert len({style.light for style in styles.values()}) == len(arms)
