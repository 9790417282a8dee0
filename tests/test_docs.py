"""The site is built without a warning, and says of commands and errors what the source says."""

import html
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from spikebridge.cli import main
from spikebridge.commands import COMMANDS
from spikebridge.settings.parsing import config_from
from spikebridge.settings.presets import read_recipe

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    out = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    command += ["-d", str(out / "trees"), str(DOCS), str(out / "html")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return out / "html"


def text_of(page):
    return html.unescape(re.sub(r"<[^>]+>", "", page.read_text(encoding="utf-8")))


def test_every_command_setting_and_part_has_its_place(site):
    commands = text_of(site / "commands.html")
    for name, (_, run) in COMMANDS.items():
        assert str(run.__doc__).splitlines()[0].split("`")[0] in commands, name
    settings = text_of(site / "settings.html")
    assert "objective.distillation.phase_one_end" in settings
    assert "u₁: W is exactly 1 before it." in settings
    parts = text_of(site / "api.html")
    for name in ("linear_cka", "kd_loss", "replace_samples", "DistillationSchedule", "LIF"):
        assert f"{name}(" in parts, name
    assert "|CKA_t|" in parts


def test_texts_of_attributes_are_whole(site):
    parts = text_of(site / "api.html")
    assert "u₁: W is exactly 1 before it." in parts
    assert not re.search(r"\bType\s*:", parts)


def test_the_snippet_of_the_parts_runs_as_printed():
    (code,) = re.findall(r"```python\n(.*?)```", (DOCS / "api.md").read_text("utf-8"), re.DOTALL)
    scope = {}
    exec(code, scope)
    assert scope["loss"].isfinite()
    assert all(p.grad is not None for p in scope["coefficient"].parameters())
    assert any(p.grad.any() for p in scope["student"].parameters() if p.grad is not None)


def test_the_site_names_nothing_that_its_reader_cannot_see():
    for page in DOCS.rglob("*.md"):
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"\bissue \d|comment above", text), page


def test_every_page_is_in_the_menu(site):
    menu = (site / "index.html").read_text(encoding="utf-8")
    pages = {p.relative_to(DOCS).with_suffix(".html") for p in DOCS.rglob("*.md")}
    for page in pages - {Path("index.html")}:
        assert f'href="{page}"' in menu, page


def test_the_errors_of_the_faq_are_those_of_the_source():
    faq = (DOCS / "faq.md").read_text(encoding="utf-8")
    errors = re.findall(r"^### `(.+)`$", faq, re.M)
    assert len(errors) >= 10
    source = "".join(p.read_text(encoding="utf-8") for p in (ROOT / "src").rglob("*.py"))
    source = re.sub(r'"\s*\n\s*f?"', "", source)  # Strings that are written in several pieces.
    for error in errors:
        fixed = max(re.split(r"…|\bN\b|\bM\b|\bT\b|W×H", error), key=len).strip(" '();,")
        assert fixed in source, error


def test_every_picture_is_on_a_page():
    pages = "".join(path.read_text("utf-8") for path in DOCS.glob("*.md"))
    shown = set(re.findall(r"pictures/(\w+\.svg)", pages))
    assert shown == {path.name for path in (DOCS / "pictures").glob("*.svg")}


PUBLISHED = (DOCS / "published-numbers.md").read_text(encoding="utf-8")


def test_the_papers_settings_on_the_page_are_those_of_the_recipes():
    rows = re.findall(r"^\| `([\w.]+)` \| `(.+?)` \| `(.+?)` \|", PUBLISHED, re.M)
    assert len(rows) >= 30
    for column, recipe in enumerate(("ncaltech101", "cep-dvs"), start=1):
        config = config_from(read_recipe(recipe, "ckd"), recipe)
        for row in rows:
            value = config
            for part in row[0].split("."):
                value = getattr(value, part)
            value = list(value) if isinstance(value, tuple) else value
            assert value == yaml.safe_load(row[column]), (recipe, row[0])


def test_the_commands_that_would_settle_it_want_the_data_alone(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    commands = re.findall(r"^spikebridge (train .+)$", PUBLISHED, re.M)
    assert len(commands) >= 5
    for command in commands:
        assert main(shlex.split(command)) == 2
        error = "spikebridge: error: data/Caltech101: no such folder of photos; set data.photos\n"
        assert capsys.readouterr().err == error, command
    for study in re.findall(r"studies/[\w-]+\.yaml", PUBLISHED):
        assert (ROOT / study).is_file()
