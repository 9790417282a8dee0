"""The command line: help at once, and messages that name only what there is."""

import ast
import re
import subprocess
import sys
from argparse import ArgumentError, ArgumentParser
from pathlib import Path

import pytest

from spikebridge.cli import main
from spikebridge.commands import COMMANDS
from spikebridge.settings.parsing import add_settings

SOURCE = Path(__file__).parents[1] / "src/spikebridge"
SLOW = (
    "torch", "torchvision", "timm", "eventcv", "numpy", "scipy", "sklearn", "matplotlib", "PIL",
    "rich", "joblib", "jinja2", "tensorboard", "spikingjelly", "optuna", "submitit", "onnx", "nir",
)  # fmt: skip

_ASK = f"""
import contextlib, io, sys
from spikebridge.cli import main
from spikebridge.commands import COMMANDS

for name in ("", *COMMANDS, "--version"):
    said = io.StringIO()
    with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
        main([*([name] if name else []), *([] if name == "--version" else ["--help"])])
    imported = [module for module in {SLOW} if module in sys.modules]
    print(f"{{name}}: {{len(said.getvalue()) > 4}} {{imported}}")
"""


def test_help_imports_nothing_that_is_slow():
    done = subprocess.run([sys.executable, "-c", _ASK], capture_output=True, text=True, check=True)
    asked = ["", *COMMANDS, "--version"]
    assert done.stdout.splitlines() == [f"{name}: True []" for name in asked]


def test_the_overview_names_every_command(capsys):
    assert main(["--help"]) == 0
    page = capsys.readouterr().out
    assert main([]) == 2
    assert capsys.readouterr().out == page
    told = {name: str(run.__doc__).splitlines()[0] for name, (_, run) in COMMANDS.items()}
    assert dict(re.findall(r"^  (\w+)  +(.+)$", page.partition("options:")[0], re.M)) == told


def test_every_command_explains_every_option(capsys):
    for name in COMMANDS:
        with pytest.raises(SystemExit) as ended:
            main([name, "--help"])
        page = capsys.readouterr().out
        assert ended.value.code == 0
        assert options_of(name) <= set(re.findall(r"--?[\w][\w.+-]*", page))


def test_no_message_names_an_option_that_there_is_not():
    known = {"--version"}.union(*map(options_of, COMMANDS))
    others = {
        "--nproc-per-node",
        "--gpus-per-task",
        "--error-unmatch",
        "--always",
        "--dirty",
        "--abbrev",
    }
    style = {"palette.py"}  # Variables of CSS.
    for file in (file for file in SOURCE.rglob("*.py") if file.name not in style):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named = re.findall(r"(?<![\w-])--[a-z][\w.-]*\w(?![\w:])", node.value)
                assert set(named) <= known | others, (file, node.lineno)


def options_of(name):
    parser = ArgumentParser()
    COMMANDS[name][0](parser)
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train digits extra", "unexpected argument 'extra'"),
        ("train digits --print", "unknown option --print"),
        ("train digits --data.help", "unknown option --data.help (did you mean --data.cache?)"),
        ("train digits --train {lrr: 1}", "unknown key --train.lrr (did you mean --train.lr?)"),
        ("train digits --train {lr: x}", "--train.lr must be a number, not x"),
        ("train digits --train x", "--train must be settings such as {NAME: VALUE}"),
        ("train digits --seed null", "--seed must be a whole number, not null"),
        ("simulate", "missing: --photos, --out;"),
        ("predict", "missing: run;"),
        ("data check folders --sensor a b", "--sensor must be a whole number, not a"),
        ("trian digits", "unknown command 'trian' (did you mean train?); see spikebridge --help"),
    ],
)
def test_messages_name_options_as_they_are_typed(command, message, capsys):
    words = re.findall(r"{.*?}|\S+", command)
    assert main(words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert "shtab" not in said


@pytest.mark.parametrize(
    ("given", "settings"),
    [
        (["--data.size", "[8, 6]"], {"data": {"size": (8, 6)}}),
        (["--train.lr", "1e-3", "--seed", "7"], {"train": {"lr": 1e-3}, "seed": 7}),
        (["--data.name", "8"], None),
        (["--data.cache", "8", "--data.events", "null"], {"data": {"cache": "8", "events": None}}),
        (["--data.exclude", "[1e3, a]"], {"data": {"exclude": ["1e3", "a"]}}),
        (["--train", "{lr: 1, epochs: 2}", "--train.lr=3"], {"train": {"lr": 3.0, "epochs": 2}}),
        (["--train.lr=3", "--train", "{lr: 1}"], {"train": {"lr": 1.0}}),
        (["--train", "{epochs: 1.5}"], None),
        (["--train", "train.yaml"], {"train": {"epochs": 4}}),
        (["--data.simulator", "{width: 8}"], {"data": {"simulator": {"width": 8}}}),
    ],
    ids=lambda value: " ".join(value or "refused"),
)
def test_settings_are_laid_over_one_another_in_the_order_in_which_they_are_typed(
    given, settings, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    Path("train.yaml").write_text("epochs: 4\n")
    parser = ArgumentParser(exit_on_error=False)
    add_settings(parser)
    if settings is None:
        with pytest.raises(ArgumentError, match=f"{given[0]}.* must be"):
            parser.parse_args(given)
    else:
        assert parser.parse_args(given).settings == settings


def test_help_says_what_each_setting_is_and_its_default(capsys):
    with pytest.raises(SystemExit):
        main(["simulate", "--help"])
    page = " ".join(capsys.readouterr().out.split())
    assert "Side in pixels of the box that the path stays in" in page
    assert "Frames rendered of the motion. (a whole number; default: 60)" in page
    assert '(one of saccade, pan, random; default: "saccade")' in page
