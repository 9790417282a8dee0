"""The report: numbers, words, and a page that needs nothing else."""

import json
import re
from collections.abc import Callable, Sequence
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_fakes import TOP1, MakeRun, mean_and_interval, plain

from spikebridge.base.errors import UserError
from spikebridge.results.report import write_report
from spikebridge.results.report.palette import style_of
from spikebridge.results.report.read import binned, read_run
from spikebridge.settings.presets import methods

Report = Callable[[Sequence[Path]], str]


class _Page(HTMLParser):
    """Ids, addresses, and the rows of the first table."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.attributes: list[tuple[str, str]] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.tables = 0
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(name, value or "") for name, value in attrs]
        self.ids += [value or "" for name, value in attrs if name == "id"]
        self.tables += tag == "table"
        if self.tables == 1 and tag == "tr":
            self.rows.append([])
        elif self.tables == 1 and tag in ("th", "td"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        self.tables += tag == "table"

    def handle_data(self, data: str) -> None:
        if self.tables == 1 and self.rows and self.rows[-1]:
            self.rows[-1][-1] = " ".join(f"{self.rows[-1][-1]} {data}".split())


def test_the_table_holds_means_intervals_and_paired_gains(html: str) -> None:
    head, *rows = _Page(html).rows
    assert head == ["method", "mean ± 95 %", "gain", "seed 0", "seed 1", "seed 2"]
    assert [row[0].split()[-1] for row in rows] == ["teacher", "scratch", "kt", "ckd"]
    for row in rows:
        method = row[0].split()[-1]
        mean, interval = mean_and_interval(TOP1[method])
        assert row[1] == f"{mean:.1f} ± {interval:.1f}"
        assert row[3:] == [f"{value:.1f}" for value in TOP1[method]]
        if method in ("kt", "ckd"):
            pairs = zip(TOP1[method], TOP1["scratch"], strict=True)
            mean, interval = mean_and_interval([own - base for own, base in pairs])
            assert row[2] == f"+{mean:.1f} ± {interval:.1f}"
        else:
            assert row[2] == "–"


def test_the_answer_comes_first_and_is_one_sentence(html: str) -> None:
    html = plain(html)
    ckd, scratch, teacher = (mean_and_interval(TOP1[m]) for m in ("ckd", "scratch", "teacher"))
    sentence = (
        "With 2 labelled recordings per class, CKD reaches {:.1f} ± {:.1f} % on the test "
        "recordings; trained on events alone, the same network reaches {:.1f} ± {:.1f} %, "
        "the teacher on photos {:.1f} ± {:.1f} %."
    ).format(*ckd, *scratch, *teacher)
    assert sentence in html
    assert html.index(sentence) < html.index("<h2")


@pytest.mark.usefixtures("no_figures")
def test_one_seed_has_no_interval(make_run: MakeRun, report: Report) -> None:
    html = plain(report([make_run("scratch", 0, 70.0), make_run("ckd", 0, 68.0)]))
    assert "CKD reaches 68.0 % on the test recordings" in html
    assert "the difference of −2.0 points may be chance" in html
    assert "One seed, no interval." in html
    assert "nan" not in re.sub(r"base64,[^\"]*", "", html).lower()
    assert _Page(html).rows[2][1:] == ["68.0", "−2.0", "68.0"]


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "methods", [["scratch"], ["kt"], ["teacher"], ["ckd"], ["scratch", "kt"], ["ann-on-frames"]]
)
def test_missing_methods_break_nothing(
    make_run: MakeRun, report: Report, methods: list[str]
) -> None:
    html = report([make_run(method, 3, 70.0) for method in methods])
    assert "CKD&#39;s gain is not measured" in html
    assert ('id="examples"' in html) is (methods != ["teacher"])
    assert ("below, P(u) and W(u) of" in html) is any(m in ("kt", "ckd") for m in methods)
    relu = methods == ["ann-on-frames"]
    assert ("it has no spikes and no membrane" in html) is relu
    assert ("Mean spikes per neuron" in html) is (methods != ["teacher"] and not relu)
    assert len(set(_Page(html).ids)) == len(_Page(html).ids)


def test_the_page_fetches_nothing(html: str) -> None:
    page = _Page(html)
    assert not {"script", "iframe", "object", "embed", "base"} & set(page.tags)
    for name, value in page.attributes:
        if name in ("src", "href", "srcset", "xlink:href", "data", "action", "poster"):
            assert value.startswith(("#", "data:")), (name, value[:60])
    for style in re.findall(r"url\(([^)]*)\)|@import", html):
        assert style.startswith("#")
    assert "http://" not in html
    assert "https://" not in html
    assert "@font-face" not in html


def test_ids_are_unique_and_every_reference_is_met(html: str) -> None:
    page = _Page(html)
    assert len(set(page.ids)) == len(page.ids) > 10
    wanted = {v[1:] for n, v in page.attributes if n == "href" and v.startswith("#")}
    wanted |= set(re.findall(r"url\(#([^)]*)\)", html))
    wanted |= {v for n, v in page.attributes if n == "aria-labelledby"}
    assert wanted <= set(page.ids)


def test_pictures_are_told_in_words(html: str) -> None:
    svgs = re.findall(r"<svg[^>]*>", html)
    assert len(svgs) == 10
    assert all('role="img"' in svg and 'aria-label="' in svg for svg in svgs)
    assert all("alt=" in image for image in re.findall(r"<img[^>]*>", html))
    assert html.count("<h1>") == 1


def test_the_same_runs_give_the_same_bytes_and_few(
    runs: list[Path], html: str, tmp_path: Path
) -> None:
    write_report(
        runs[::-1], tmp_path / "b.html", title="Fake & true", note="spikebridge demo --seeds <3>"
    )
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == html
    assert len(html.encode()) < 3_000_000


def test_text_is_escaped(html: str) -> None:
    assert "<h1>Fake &amp; true</h1>" in html
    assert "spikebridge demo --seeds &lt;3&gt;" in html
    assert "dog &amp; &lt;b&gt;" in html
    assert "dog & <b>" not in html


@pytest.mark.usefixtures("no_figures")
def test_recordings_that_are_gone_are_replaced_by_a_sentence(
    make_run: MakeRun, report: Report, files: Path, tmp_path: Path
) -> None:
    run = make_run("ckd", 0, 80.0)
    moved = tmp_path / "moved"
    for name in ("manifest.csv", "predictions.csv"):
        text = (run / name).read_text().replace(str(files), str(moved))
        (run / name).write_text(text)
    html = report([run])
    assert html.count("can no longer be read where they were") == 2
    assert "The energy could not be counted: " in html
    assert "Confusion matrix" in html  # It needs no recording.
    assert 'class="film"' not in html
    assert "Spikes of sampled neurons" not in html
    assert "could not be compared; restore them and repeat the audit" in html


@pytest.mark.usefixtures("no_figures")
def test_values_that_were_not_finite_are_left_out(make_run: MakeRun, report: Report) -> None:
    run = make_run("ckd", 0, 80.0)
    lines = (run / "metrics.jsonl").read_text().splitlines()
    records = [json.loads(line) for line in lines]
    for record in records[:3]:
        record |= {"cka_debiased": [None, 0.1, 0.8], "losses": {"total": None, "dvs": 1.0}}
    for record in records:
        if record["kind"] == "eval":
            record["loss"] = None
    (run / "metrics.jsonl").write_text("".join(json.dumps(r) + "\n" for r in records))
    assert "CKA of the two streams of ckd" in report([run])
    u_K, value_RK = binned([read_run(run)], lambda step: step["losses"].get("total"))
    assert np.isnan(value_RK[0][0])
    assert np.isfinite(value_RK[0][2:]).all()


def test_how_it_was_made(html: str) -> None:
    detail = html[html.index("selected epoch") :]
    assert "<td>3, 3, 3</td>" in detail  # From 0, as in result.json.
    assert "selected on the validation recordings; the test recordings were read once" in html
    assert "phase_one_end: 0.4" in html
    assert "seeds: 0, 1, 2" in html


@pytest.mark.parametrize(
    "name", ["result.json", "config.yaml", "metrics.jsonl", "predictions.csv", "model.safetensors"]
)
def test_an_unfinished_run_is_refused_in_one_line(
    make_run: MakeRun, tmp_path: Path, name: str
) -> None:
    run = make_run("ckd", 0, 80.0)
    (run / name).unlink()
    with pytest.raises(UserError) as caught:
        write_report([run], tmp_path / "report.html", title="x")
    assert str(run) in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "report.html").exists()


def test_damaged_files_and_no_runs_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    with pytest.raises(UserError, match="no run was given"):
        write_report([], page, title="x")
    with pytest.raises(UserError, match="no finished run"):
        write_report([tmp_path / "nothing"], page, title="x")
    run = make_run("ckd", 0, 80.0)
    good = (run / "metrics.jsonl").read_text()
    (run / "metrics.jsonl").write_text(good + '{"kind": "st')
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        write_report([run], page, title="x")
    (run / "metrics.jsonl").write_text("3\n")
    with pytest.raises(UserError, match=r"metrics\.jsonl"):
        write_report([run], page, title="x")
    (run / "metrics.jsonl").write_text(good)
    (run / "result.json").write_text("{}")
    with pytest.raises(UserError, match="lacks 'method'"):
        write_report([run], page, title="x")


def test_several_label_budgets_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    made = [make_run("scratch", 0, 70.0), make_run("ckd", 0, 80.0, labelled=5)]
    with pytest.raises(UserError, match="several data sets or label budgets"):
        write_report(made, tmp_path / "report.html", title="x")


def test_other_classes_and_several_protocols_are_refused(make_run: MakeRun, tmp_path: Path) -> None:
    scratch, ckd = make_run("scratch", 0, 70.0), make_run("ckd", 0, 80.0)
    good = (ckd / "result.json").read_text()
    (ckd / "result.json").write_text(good.replace('"owl"', '"rat"'))
    with pytest.raises(UserError, match="runs of other classes"):
        write_report([scratch, ckd], tmp_path / "report.html")
    (ckd / "result.json").write_text(good.replace('"clean"', '"published"'))
    other = make_run("ckd", 1, 80.0)
    with pytest.raises(UserError, match="runs of ckd by several protocols"):
        write_report([ckd, other], tmp_path / "report.html")


def test_bins_average_the_steps_of_each_run(make_run: MakeRun) -> None:
    run = read_run(make_run("ckd", 0, 80.0))
    u_K, value_RK = binned([run, run], lambda step: step["progress"])
    assert len(u_K) == 20
    np.testing.assert_allclose(value_RK, [u_K - 1 / 80] * 2)  # two steps, at 0 and 1/40 of 1/20
    u_K, value_RK = binned([run], lambda step: step["losses"].get("kd"))
    np.testing.assert_array_equal(np.isnan(value_RK[0]), u_K > 0.8)
    assert not binned([run], lambda step: None)[0].size


def test_a_page_is_not_written_half(runs: list[Path], tmp_path: Path) -> None:
    page = tmp_path / "report.html"
    page.write_text("the old one")
    with pytest.raises(UserError):
        write_report([*runs, tmp_path / "nothing"], page, title="x")
    assert page.read_text() == "the old one"


def test_every_shipped_method_has_its_own_style() -> None:
    styles = [style_of(method) for method in methods()]
    assert style_of("") not in styles
    for kind in ("light", "dark", "glyph", "marker"):
        assert len({getattr(style, kind) for style in styles}) == len(styles), kind
    assert all(len(style.marker) == 1 for style in styles)  # Matplotlib takes it as a format too.
