"""What the page says in words of its numbers."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from report_fakes import MakeRun, mean_and_interval, plain

from spikebridge.results.compare import compare
from spikebridge.results.report.answer import answer, caveats, overlap, verdict
from spikebridge.results.report.read import read_run
from spikebridge.results.tables import signed

Report = Callable[[Sequence[Path]], str]


pytestmark = pytest.mark.usefixtures("no_figures")


@pytest.mark.parametrize(
    ("ckd", "scratch", "expected"),
    [
        ((80.0, 82.0, 81.0), (60.0, 61.0, 62.0), ("do not overlap", "CKD is better here")),
        ((60.0, 62.0, 61.2), (80.0, 82.0, 81.0), ("do not overlap", "CKD is worse here")),
        ((80.0, 60.0, 70.0), (60.0, 70.0, 65.0), ("intervals overlap", "do not tell the two")),
        ((62.0, 72.0, 82.2), (60.0, 70.0, 80.0), ("intervals overlap", "CKD is better here")),
        ((62.2, 72.2, 82.2), (60.0, 70.0, 80.0), ("intervals overlap", "Train more seeds")),
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
    assert "The highest mean of the 3 students here is that of KT: 90.0 %." in html
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
    manifest.write_text(manifest.read_text().replace(",clean,", ",published,"))
    result = json.loads((ckd / "result.json").read_text()) | {"protocol": "published"}
    (ckd / "result.json").write_text(json.dumps(result))
    html = report([scratch, ckd])
    assert "scratch was trained with other settings than ckd: train.epochs 4 instead of 8" in html
    assert "The runs of seed 0 were not split alike" in html
    assert "ckd: selected on test, sources show test recordings (protocol published), so" in html


def test_a_camera_of_the_sources_that_one_run_sets_is_told(make_run: MakeRun) -> None:
    plain_run = make_run("scratch", 0, 70.0)
    camera = {"data": {"source": {"simulator": {"pos_threshold": 0.8}}}}
    changed = make_run("ckd", 0, 75.0, changes=camera)
    name = "data.source.simulator.pos_threshold"
    for made, told in (
        ([plain_run, changed], f"scratch: {name} 0.8 instead of None."),
        ([changed, plain_run], f"ckd: {name} None instead of 0.8."),
    ):
        [found] = caveats([read_run(run) for run in made])
        assert found.endswith(f"other settings than {told}")


def test_recordings_that_are_a_twins_are_told(
    make_run: MakeRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    twin = {"data": {"events": "twin"}}
    made = [make_run(method, 0, 70.0, changes=twin) for method in ("scratch", "ckd")]
    for run in made:
        result = json.loads((run / "result.json").read_text()) | {"origin": str(tmp_path)}
        (run / "result.json").write_text(json.dumps(result))
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "there")
    runs = [read_run(run) for run in made]
    assert caveats(runs) == []
    (tmp_path / "twin").mkdir()
    (tmp_path / "twin/simulator.json").write_text("{}")
    told = "The event recordings are simulated from the photos, not made by a camera."
    assert caveats(runs) == [told]


def test_classes_without_photos_are_told(make_run: MakeRun, report: Report) -> None:
    made = [make_run(method, 0, 70.0) for method in ("scratch", "ckd")]
    assert "Without photos" not in report(made)
    for run in made:
        lines = (run / "manifest.csv").read_text().splitlines(keepends=True)
        kept = [line for line in lines if not (line.startswith("photo,") and ",owl," in line)]
        (run / "manifest.csv").write_text("".join(kept))
    told = "Without photos, trained on events alone and not known to a teacher: owl."
    assert told in plain(report(made))


def test_signed_numbers() -> None:
    assert [signed(v) for v in (1.25, -3.0, -0.01, 0.0)] == ["+1.2", "−3.0", "+0.0", "+0.0"]


NO_ALIGNMENT = {"objective": {"alignment_weight": 0.0}}


def test_other_settings_are_rows_of_their_own(make_run: MakeRun, report: Report) -> None:
    name = "ckd (objective.alignment_weight 0)"
    made = [make_run("scratch", seed, 60.0 + seed) for seed in (0, 1)]
    made += [make_run("ckd", seed, 80.0 + seed) for seed in (0, 1)]
    made += [make_run("ckd", seed, 50.0 + seed, changes=NO_ALIGNMENT) for seed in (0, 1)]
    html = plain(report(made))
    assert "CKD reaches 80.5 ± 6.4 % on the test recordings" in html
    assert "Of the 3 students here CKD has the highest mean." in html
    table = html[html.index("<tbody>") : html.index("</tbody>")]
    rows = re.findall(r'</span> (.*?)</th>\s*<td class="main">(.*?)</td>', table)
    assert rows == [("scratch", "60.5 ± 6.4"), ("ckd", "80.5 ± 6.4"), (name, "50.5 ± 6.4")]
    verdicts = html[html.index("Verdict of each run") :]
    assert verdicts.count("✓ clean") == 6
    assert f'<th scope="row" class="wrap">{name}</th>' in verdicts
    legend = html[html.index('aria-label="Colours of the methods"') :].split("</ul>")[0]
    colours = re.findall(r"var\((--m-[\w-]+)\)", legend)
    assert len(set(colours)) == len(colours) == 3
    for colour in colours:
        assert html.count(f"{colour}: #") == 2  # Light and dark.


def test_where_only_changed_settings_are_there_the_page_is_about_them(
    make_run: MakeRun, report: Report
) -> None:
    changes = {"train": {"epochs": 8}}
    made = [make_run("scratch", 0, 60.0), make_run("ckd", 0, 80.0)]
    made.append(make_run("ckd", 0, 82.0, changes=changes))
    html = plain(report(made))
    assert "CKD (train.epochs 4) reaches 80.0 %" in html
    assert "is that of CKD (train.epochs 8): 82.0 %." in html
    assert "CKA of ckd (train.epochs 8)" in html


def test_a_manifests_recordings_are_counted(make_run: MakeRun, report: Report) -> None:
    split = {"data": {"split": {"manifest": "/somewhere/manifest.csv"}}}
    made = [make_run(method, 0, 70.0, None, split) for method in ("scratch", "ckd")]
    html = plain(report(made))
    assert "With 1 labelled recording per class, CKD reaches" in html
    assert "labelled recordings per class (k):\n    1;" in html


def test_figures_of_unproved_runs_carry_a_mark(make_run: MakeRun, report: Report) -> None:
    made = [make_run(method, seed, 70.0 + seed) for method in ("scratch", "ckd") for seed in (0, 1)]
    html = plain(report(made))
    assert "†" not in html
    result = json.loads((made[3] / "result.json").read_text()) | {"proved": False}
    (made[3] / "result.json").write_text(json.dumps(result))
    html = plain(report(made))
    assert "CKD reaches 70.5 ± 6.4† % on the test" in html
    assert "network reaches 70.5 ± 6.4 %" in html
    assert "ckd: † Unproved: that training saw nothing held out cannot be excluded" in html
    table = html[html.index("<tbody>") : html.index("</tbody>")]
    assert re.findall(r"<td.*?>(.*?)</td>", table.split("</tr>")[1]) == [
        "70.5 ± 6.4†", "+0.0†", "70.0", "71.0†",
    ]  # fmt: skip
