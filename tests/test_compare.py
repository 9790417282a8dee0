"""The table of runs: means, Student's intervals, order, files."""

import csv
import json

import numpy as np
import pytest
from scipy import stats

from spikebridge.cli import main
from spikebridge.compare import compare, interval_95, markdown, write_table
from spikebridge.errors import UserError


def fake_run(root, method, seed, top1, **more):
    folder = root / f"{method}-seed{seed}-{'-'.join(map(str, more.values()))}"
    folder.mkdir(parents=True)
    result = {
        "method": method,
        "seed": seed,
        "labelled_per_class": 2,
        "protocol": "few-shot",
        "data": "digits",
        "test_top1": top1,
        "val_top1": top1 / 2,
        "seconds": 10.0 * seed,
    } | more
    (folder / "result.json").write_text(json.dumps(result))
    return folder


@pytest.fixture
def runs(tmp_path):
    values = {"ckd": (80.0, 84.0, 82.5), "scratch": (60.0, 70.0, 66.0), "teacher": (99.0,)}
    return [
        fake_run(tmp_path, method, seed, top1)
        for method, seeds in values.items()
        for seed, top1 in enumerate(seeds)
    ]


def test_interval_is_students():
    values = [80.0, 84.0, 82.5]
    low, high = stats.t.interval(0.95, 2, loc=np.mean(values), scale=stats.sem(values))
    assert interval_95(values) == pytest.approx((high - low) / 2)
    # t(0.975; 2) = 4.30265, standard deviation of 80, 84, 82.5 = 2.02073
    assert interval_95(values) == pytest.approx(4.30265 * 2.02073 / np.sqrt(3), rel=1e-4)
    assert np.isnan(interval_95([80.0]))


def test_rows_are_means_in_the_order_of_the_methods(runs):
    rows = compare(runs[::-1])
    assert [row.method for row in rows] == ["teacher", "scratch", "ckd"]
    ckd = rows[2]
    assert ckd.top1 == (80.0, 84.0, 82.5)
    assert ckd.mean == pytest.approx(82.1667, abs=1e-3)
    assert ckd.text == "82.2 ± 5.0"
    assert ckd.seconds == pytest.approx(10)
    assert rows[0].text == "99.0"


def test_label_budgets_are_rows_of_their_own(tmp_path):
    runs = [
        fake_run(tmp_path, "ckd", 0, 90.0, labelled_per_class=10),
        fake_run(tmp_path, "ckd", 0, 80.0, labelled_per_class=2),
        fake_run(tmp_path, "ckd", 0, 95.0, labelled_per_class=None),
    ]
    assert [row.labelled_per_class for row in compare(runs)] == [2, 10, None]
    assert "| all | ckd |" in markdown(compare(runs))


def test_protocol_kt_is_a_row_of_its_own_that_says_so(tmp_path):
    runs = [fake_run(tmp_path, "ckd", 0, 90.0, protocol=name) for name in ("kt", "clean")]
    rows = compare(runs)
    assert [row.protocol for row in rows] == ["clean", "kt"]
    lines = markdown(rows).splitlines()
    assert "| digits | clean | 2 | ckd | 90.0 |" in lines[2]
    assert "| digits | selected on test (protocol kt) | 2 | ckd | 90.0 |" in lines[3]
    for suffix in ("csv", "json"):
        write_table(rows, tmp_path / f"table.{suffix}")
        assert "kt" in (tmp_path / f"table.{suffix}").read_text()


def test_settings_are_chosen_on_validation(runs, tmp_path, capsys):
    assert compare(runs, "validation")[2].top1 == (40.0, 42.0, 41.25)
    table = tmp_path / "table.md"
    arguments = ["compare", *map(str, runs), "--split", "validation", "--out", str(table)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == table.read_text()
    assert "validation top-1" in printed
    assert "| ckd | 41.1 ± 2.5 |" in printed


def test_same_seed_twice_is_refused(runs, tmp_path):
    twin = fake_run(tmp_path / "again", "ckd", 1, 70.0)
    with pytest.raises(UserError, match="seed 1"):
        compare([*runs, twin])


def test_tables_are_written(runs, tmp_path):
    rows = compare(runs)
    for suffix in ("md", "csv", "json"):
        write_table(rows, tmp_path / f"table.{suffix}")
    line = "| digits | few-shot | 2 | ckd | 82.2 ± 5.0 | 3 | 10 |"
    assert line in (tmp_path / "table.md").read_text()
    with open(tmp_path / "table.csv") as stream:
        table = {row["method"]: row for row in csv.DictReader(stream)}
    assert float(table["ckd"]["mean"]) == pytest.approx(82.1667, abs=1e-3)
    assert table["teacher"]["interval95"] == ""
    entries = json.loads((tmp_path / "table.json").read_text())
    assert entries[2]["top1"] == [80.0, 84.0, 82.5]
    assert entries[0]["interval95"] is None
    with pytest.raises(UserError, match=r"\.md, \.csv or \.json"):
        write_table(rows, tmp_path / "table.xlsx")


def test_folder_without_a_result_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        compare([tmp_path])
