"""Files are written whole or not at all."""

import ast
import errno
import hashlib
import json
import math
import os
from pathlib import Path

import numpy as np
import pytest

import spikebridge
from factories import refused
from spikebridge.base.files import (
    atomic_path,
    expand_path,
    file_sha256,
    json_text,
    read_yaml,
    settings_key,
    write_json,
    write_text,
)


def _names(folder: Path) -> list[str]:
    return sorted(f.name for f in folder.iterdir())


def test_a_file_takes_its_place_when_it_is_whole(tmp_path: Path) -> None:
    target = tmp_path / "deep/er/a.txt"
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert not target.exists()
        assert temporary.parent == target.parent
    assert target.read_text() == "new"
    assert _names(target.parent) == ["a.txt"]
    assert target.stat().st_mode & 0o777 == 0o644


@pytest.mark.parametrize("error", [RuntimeError("x"), KeyboardInterrupt(), ValueError("y")])
def test_a_failure_keeps_the_old_content_and_leaves_nothing(
    tmp_path: Path, error: BaseException
) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def fail() -> None:
        with atomic_path(target) as temporary:
            temporary.write_text("half of the n")
            raise error

    with pytest.raises(type(error)):
        fail()
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    target = tmp_path / "a.txt"
    write_text(target, "old")

    def full(self: Path, *_: object, **__: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "write_text", full)
    refused(lambda: write_text(target, "new"), target, os.strerror(code), "free some space")
    monkeypatch.undo()
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["a.txt"]


def test_a_really_full_disk_is_refused(tiny_disk: Path) -> None:
    target = tiny_disk / "a.txt"
    write_text(target, "old")
    refused(lambda: write_text(target, "x" * 200_000), target, "No space left", "free some space")
    assert target.read_text() == "old"
    assert _names(tiny_disk) == ["a.txt"]


def test_what_is_no_file_is_not_replaced(tmp_path: Path) -> None:
    """A device, a pipe; a link stays one."""
    os.mkfifo(tmp_path / "pipe")
    refused(lambda: write_text(tmp_path / "pipe", "new"), tmp_path / "pipe", "no file")
    (tmp_path / "link").symlink_to("file")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "file").read_text() == "new"
    assert (tmp_path / "pipe").is_fifo()
    assert _names(tmp_path) == ["file", "link", "pipe"]


@pytest.mark.parametrize(
    ("text", "line"),
    [("a: 1\nb: {c: 2}\na: 3\n", 3), ("b:\n  c: 2\n  d: 3\n  c: 4\n", 4)],
)
def test_a_key_that_stands_twice_is_refused(tmp_path: Path, text: str, line: int) -> None:
    """YAML's reader takes the last: a second `data` block would silently replace the first."""
    (tmp_path / "r.yaml").write_text(text)
    refused(lambda: read_yaml(tmp_path / "r.yaml"), "r.yaml", "stands twice", f"line {line}")
    merged = "w: &w {b: 0}\na: {deep: {er: &x {<<: *w, b: 1}}}\nc: {<<: *x, b: 2}\n"
    (tmp_path / "r.yaml").write_text(merged)
    found = read_yaml(tmp_path / "r.yaml")[0]
    assert (found["c"], found["a"]["deep"]["er"]) == ({"b": 2}, {"b": 1})


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    for target in (tmp_path / "file/a.txt", tmp_path / "file/deep/a.txt"):
        refused(lambda t=target: write_text(t, "new"), target, "choose a folder")
    (tmp_path / "folder").mkdir()
    refused(lambda: write_text(tmp_path / "folder", "new"), tmp_path / "folder", "choose a folder")
    assert _names(tmp_path) == ["file", "folder"]
    assert _names(tmp_path / "folder") == []


def test_a_folder_that_cannot_be_written_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if os.geteuid() == 0:  # root may write anywhere

        def denied(**_: object) -> None:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

        monkeypatch.setattr("spikebridge.base.files.tempfile.mkstemp", denied)
    else:
        tmp_path.chmod(0o500)
    refused(
        lambda: write_text(tmp_path / "a.txt", "new"),
        tmp_path / "a.txt",
        "Permission denied",
        "choose a folder that can be written",
    )
    tmp_path.chmod(0o700)
    assert _names(tmp_path) == []


def test_json_and_text_are_utf8_with_a_final_line_break(tmp_path: Path) -> None:
    write_json(tmp_path / "a.json", {"ü": [1, 2.5, None]})
    assert (tmp_path / "a.json").read_bytes().endswith(b"\n}\n")
    write_text(tmp_path / "a.txt", "µs\n")
    assert (tmp_path / "a.txt").read_bytes() == "µs\n".encode()


def test_content_hash(tmp_path: Path) -> None:
    data = bytes(range(256)) * 5000
    (tmp_path / "a").write_bytes(data)
    assert file_sha256(tmp_path / "a") == hashlib.sha256(data).hexdigest()


def test_a_key_tells_settings_apart_and_knows_no_order() -> None:
    assert settings_key({"a": 1, "b": [2]}) == settings_key({"b": [2], "a": 1})
    keys = [settings_key(*k) for k in ([1], [2], ["1"], [[1]], [1, 1], [{"a": 1}], [{"a": 2}])]
    assert len(set(keys)) == len(keys)
    assert settings_key("frames", [4, "time"]) == settings_key("frames", [4, "time"])
    assert len(keys[0]) == 20


def test_paths_are_expanded_as_a_shell_would(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    monkeypatch.setenv("WHERE", "/big")
    monkeypatch.setenv("SPIKEBRIDGE_DATA", "~/sets")
    written = ["$WHERE/a", "${WHERE}_2/a", "~/a", "a/~/b", "a$/5$", "$SPIKEBRIDGE_DATA/nmnist"]
    expanded = ["/big/a", "/big_2/a", "/home/me/a", "a/~/b", "a$/5$", "/home/me/sets/nmnist"]
    assert [str(expand_path(text)) for text in written] == expanded
    for unset in ("", None):
        monkeypatch.delenv("SPIKEBRIDGE_DATA")
        if unset is not None:
            monkeypatch.setenv("SPIKEBRIDGE_DATA", unset)
        assert expand_path("$SPIKEBRIDGE_DATA/nmnist") == Path("../shared/data/nmnist")
        monkeypatch.setenv("SPIKEBRIDGE_DATA", "")


def test_a_variable_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_SUCH_FOLDER", raising=False)
    refused(lambda: expand_path("$NO_SUCH_FOLDER/a"), "$NO_SUCH_FOLDER/a: ", "NO_SUCH_FOLDER is")


def test_json_is_valid_whatever_is_in_it(tmp_path: Path) -> None:
    value = {"a": math.nan, "b": [1.5, -math.inf, (math.inf, "NaN")], "c": {"d": np.float64("nan")}}
    expected = {"a": None, "b": [1.5, None, [None, "NaN"]], "c": {"d": None}}
    write_json(tmp_path / "a.json", value)
    for text in ((tmp_path / "a.json").read_text(), json_text(value, indent=None)):
        assert json.loads(text, parse_constant=pytest.fail) == expected
        assert text.endswith("\n")
    assert json_text(value, indent=None).count("\n") == 1
    assert math.isnan(value["a"])  # Nothing is changed.


_OWN_READERS = {"data/formats/foreign.py", "data/formats/foreign_worker.py",
                "runs/sweep/space.py", "training/checkpoint.py"}  # fmt: skip
"""Modules whose JSON only this program reads: pipes between its processes, keys, a header."""


def test_json_for_others_is_written_in_one_place() -> None:
    root = Path(spikebridge.__file__).parent
    lax = {
        str(path.relative_to(root))
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and ast.unparse(node.func) in ("json.dumps", "json.dump", "dumps", "JSONEncoder")
        and "allow_nan=False" not in ast.unparse(node)
    }
    assert lax - {"base/files.py"} == _OWN_READERS  # There, a key of settings is hashed.
