"""The command line: help at once, and messages that name only what there is."""

import ast
import re
import subprocess
import sys
from pathlib import Path

import pytest
from jsonargparse import ArgumentParser

from spikebridge.cli import main
from spikebridge.commands import COMMANDS

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
    parser = ArgumentParser(exit_on_error=False)
    COMMANDS[name][0](parser)
    return {option for action in parser._actions for option in action.option_strings}


@pytest.mark.parametrize(
    ("command", "message"),
    [
        ("train digits extra", "unexpected argument 'extra'"),
        ("train digits --print", "unknown option --print"),
        ("train digits --data.help", "unknown option --data.help (did you mean --data.cache?)"),
        ("train digits --train {lrr: 1}", "unknown setting train.lrr (did you mean train.lr?)"),
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
