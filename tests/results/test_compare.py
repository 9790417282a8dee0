"""The table of runs: means, Student's intervals, order, files."""

import csv
import json

import numpy as np
import pytest
import yaml
from scipy import stats

from factories import refused
from spikebridge.base.errors import UserError
from spikebridge.cli import main
from spikebridge.data.manifest import Entry, Manifest
from spikebridge.results.compare import compare, interval_95, markdown, write_table
from spikebridge.results.tables import tex
from spikebridge.runs.sweep.space import nested


def fake_run(root, method, seed, top1, settings=None, **more):
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
    (folder / "config.yaml").write_text(yaml.safe_dump(nested(settings or {})))
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


def test_protocol_published_is_a_row_of_its_own_that_says_so(tmp_path):
    runs = [fake_run(tmp_path, "ckd", 0, 90.0, protocol=name) for name in ("published", "clean")]
    rows = compare(runs)
    assert [row.protocol for row in rows] == ["clean", "published"]
    lines = markdown(rows).splitlines()
    assert "| digits | clean | 2 | ckd | 90.0 |" in lines[2]
    assert "(protocol published) | 2 | ckd | 90.0 |" in lines[3]
    assert "| digits | selected on test, sources show test recordings" in lines[3]
    for suffix in ("csv", "json"):
        write_table(rows, tmp_path / f"table.{suffix}")
        assert "published" in (tmp_path / f"table.{suffix}").read_text()


def test_settings_are_chosen_on_validation(runs, tmp_path, capsys):
    assert compare(runs, "validation")[2].top1 == (40.0, 42.0, 41.25)
    table = tmp_path / "table.md"
    arguments = ["compare", *map(str, runs), "--split", "validation", "--out", str(table)]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert printed == table.read_text()
    assert "validation top-1" in printed
    assert "| ckd | 41.1 ± 2.5 |" in printed


def test_files_beside_the_runs_are_passed_over(runs, tmp_path, capsys):
    """As `runs/mine/*` names them after `spikebridge prepare`."""
    split = tmp_path / "manifest-seed0.csv"
    split.write_text("file,split\n")
    assert main(["compare", str(split), *map(str, runs)]) == 0
    assert "| ckd | 82.2 ± 5.0 |" in capsys.readouterr().out
    assert main(["compare", str(split)]) == 2
    assert "manifest-seed0.csv: no finished run" in capsys.readouterr().err


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
    with pytest.raises(UserError, match=r"\.md, \.tex, \.csv or \.json"):
        write_table(rows, tmp_path / "table.xlsx")


def test_folder_without_a_result_is_one_clear_line(tmp_path):
    with pytest.raises(UserError, match="no finished run"):
        compare([tmp_path])


def test_other_settings_are_rows_of_their_own_named_by_what_differs(tmp_path):
    runs = [fake_run(tmp_path / "own", "ckd", seed, 80.0 + seed) for seed in (0, 1)]
    weights = {"objective.alignment_weight": 0.0, "train.epochs": 300}  # 300 is the default
    runs += [fake_run(tmp_path / "a", "ckd", seed, 60.0 + seed, weights) for seed in (0, 1)]
    runs += [fake_run(tmp_path / "b", "scratch", 0, 50.0, {"student.tau": 3.5, "train.ema": 0.9})]
    runs += [fake_run(tmp_path / "c", "scratch", 0, 40.0, {"student.tau": 4})]
    rows = compare(runs[::-1])
    assert [(row.name, row.seeds, row.mean) for row in rows] == [
        ("scratch (student.tau 3.5, train.ema 0.9)", (0,), 50.0),
        ("scratch (student.tau 4)", (0,), 40.0),
        ("ckd", (0, 1), 80.5),
        ("ckd (objective.alignment_weight 0)", (0, 1), 60.5),
    ]
    assert "| ckd (objective.alignment_weight 0) | 60.5 ± 6.4 |" in markdown(rows)
    for suffix in ("csv", "json", "tex"):
        write_table(rows, tmp_path / f"table.{suffix}")
        assert "weight 0" in (tmp_path / f"table.{suffix}").read_text()


def test_a_methods_own_switches_and_what_it_does_not_use_are_not_named(tmp_path):
    own = {"objective.distillation.shape": "none"}  # kt is so
    runs = [fake_run(tmp_path / "a", "kt", 0, 80.0, own | {"teacher.epochs": 3})]
    runs += [fake_run(tmp_path / "b", "kt", 1, 81.0, own | {"data.source.randomise": 0.5})]
    runs += [fake_run(tmp_path / "c", "kt", 0, 70.0, {"objective.distillation.shape": "tied"})]
    views = {"data.photo_views.crop": 0.5}
    runs += [fake_run(tmp_path / "d", "kt", 0, 75.0, own | views)]
    no_photos = {"objective.hybrid_until": 0.0}  # scratch is so
    runs += [fake_run(tmp_path / "e", "scratch", 0, 50.0, no_photos)]
    runs += [fake_run(tmp_path / "f", "scratch", 1, 51.0, no_photos | views)]
    names = {row.name: row.seeds for row in compare(runs)}
    assert names == {
        "scratch": (0, 1),
        "kt": (0, 1),
        "kt (objective.distillation.shape tied)": (0,),
        "kt (data.photo_views.crop 0.5)": (0,),
    }


def test_seed_folders_device_and_checkpoints_do_not_matter(tmp_path):
    runs = [
        fake_run(tmp_path / str(seed), "ckd", seed, 80.0, {
            "seed": seed, "method": "ckd", "data.events": f"/here/{seed}", "data.cache": f"/{seed}",
            "data.photos": f"/there/{seed}", "train.device": ("cpu", "cuda")[seed],
            "train.checkpoint_minutes": 1.0 + seed, "train.memory": ("low", "normal")[seed],
            "student.neuron_backend": ("eager", "native")[seed],
            "teacher.checkpoint": f"/teacher-seed{seed}", "teacher.weights": f"/{seed}/lite.pth"
        }, teacher="teacher-manifest.csv")
        for seed in (0, 1)
    ]  # fmt: skip
    assert [row.seeds for row in compare(runs)] == [(0, 1)]
    more = {"data.photos": "/p", "teacher.weights": "/1/b5.pth"}  # simulated recordings, others
    runs.append(fake_run(tmp_path / "2", "ckd", 2, 80.0, more, teacher="teacher-manifest.csv"))
    assert len(compare(runs)) == 2


def test_without_config_the_results_key_tells(tmp_path):
    runs = [
        fake_run(tmp_path / str(place), "ckd", seed, 80.0, settings_key=key)
        for place, (seed, key) in enumerate([(0, "aa"), (1, "aa"), (0, "bb"), (2, None)])
    ]
    for run in runs:
        (run / "config.yaml").unlink()
    rows = compare(runs[:3])
    assert [(row.name, row.seeds) for row in rows] == [
        ("ckd (settings aa)", (0, 1)),
        ("ckd (settings bb)", (0,)),
    ]
    refused(lambda: compare(runs), runs[3] / "config.yaml", "missing", "restore it")
    (runs[0] / "config.yaml").write_text("- 3")
    refused(lambda: compare(runs[:3]), runs[0] / "config.yaml", "damaged")


def test_labelled_recordings_are_counted_where_a_manifest_split(tmp_path):
    def by_manifest(place, seed, **more):
        settings = {"data.split.manifest": f"/{place}/manifest.csv"}
        return fake_run(
            tmp_path / place, "ckd", seed, 80.0, settings, labelled_per_class=None, **more
        )

    runs = [by_manifest("a", 0, labelled_recordings={"min": 10, "max": 10})]
    runs += [by_manifest("b", s, labelled_recordings={"min": 8 + s, "max": 12}) for s in (0, 1)]
    runs += [fake_run(tmp_path, "ckd", 0, 80.0, labelled_per_class=None)]
    older = by_manifest("d", 0)
    entries = [
        Entry("recording", f"{label}{split}{i}", name, label, str(i), "", split, "0" * 64)
        for label, name in enumerate(("cup", "saw"))
        for split, count in (("train", 3 + label), ("test", 2), ("unused", 4))
        for i in range(count)
    ]
    Manifest(tuple(entries)).write(older / "manifest.csv")
    assert [(row.labelled, row.labelled_per_class, row.seeds) for row in compare(runs)] == [
        ("10", 10, (0,)),
        ("8–12", None, (0, 1)),
        ("all", None, (0,)),
    ]
    assert "| few-shot | 10 | ckd |" in markdown(compare(runs))
    assert compare([older])[0].labelled == "3–4"


def test_figures_of_unproved_runs_carry_a_mark(tmp_path):
    runs = [fake_run(tmp_path, "ckd", seed, 80.0 + seed, proved=seed == 0) for seed in (0, 1)]
    runs += [fake_run(tmp_path, "scratch", 0, 60.0), fake_run(tmp_path, "kt", 0, 70.0, proved=True)]
    table = markdown(compare(runs))
    assert "| ckd | 80.5 ± 6.4† |" in table
    assert "| scratch | 60.0 |" in table
    assert "| kt | 70.0 |" in table
    assert table.endswith("† Unproved: that training saw nothing held out cannot be excluded; "
                          "`spikebridge audit RUN` says why.\n")  # fmt: skip
    assert "†" not in markdown(compare(runs[2:]))
    write_table(compare(runs), tmp_path / "table.csv")
    with open(tmp_path / "table.csv") as stream:
        proved = {row["method"]: row["proved"] for row in csv.DictReader(stream)}
    assert proved == {"scratch": "True", "kt": "True", "ckd": "False"}


def test_latex_has_the_same_cells_and_the_command(runs, tmp_path):
    file = tmp_path / "table.tex"
    assert main(["compare", *map(str, runs), "--out", str(file)]) == 0
    text = file.read_text()
    assert text.startswith(f"% spikebridge compare {runs[0]} {runs[1]} ")
    for rule in ("toprule", "midrule", "bottomrule"):
        assert text.count(rf"\{rule}") == 1
    assert r"digits & few-shot & 2 & ckd & 82.2 $\pm$ 5.0 & 3 & 10 \\" in text
    assert r"data & protocol & labelled per class & method & test top-1, \% & seeds" in text
    caption = next(line for line in text.splitlines() if "caption" in line)
    told = tex(f"spikebridge compare {runs[0]} … {runs[-1]}")
    assert rf"Made by \texttt{{{told}}}." in caption
    assert "mean $\\pm$ 95 \\% interval" in caption


def test_text_becomes_latex():
    assert tex("a_b & 5 % `x_y`†") == r"a\_b \& 5 \% \texttt{x\_y}$^\dagger$"
    assert tex("−1 < τ ~ ^ \\ {#$}") == (
        r"$-$1 $<$ $\tau$ \textasciitilde{} \textasciicircum{} \textbackslash{} \{\#\$\}"
    )


def test_every_run_has_a_row(runs, tmp_path):
    file = tmp_path / "runs.csv"
    assert main(["compare", *map(str, runs), "--per-run", str(file)]) == 0
    with open(file) as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == len(runs) == 7
    assert {row["folder"] for row in rows} == set(map(str, runs))
    found = [row["test_top1"] for row in rows if row["method"] == "ckd"]
    assert found == ["80.0", "84.0", "82.5"]
    assert [row["seed"] for row in rows if row["method"] == "ckd"] == ["0", "1", "2"]
    assert rows[0]["test_loss"] == ""
