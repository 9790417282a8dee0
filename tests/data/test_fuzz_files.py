"""What is no plain file is refused, and any name serves."""

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from fuzz_seeds import IDX, PHOTOS, RECORDINGS, ROWS

from factories import as_rows, refused
from spikebridge.data.events import EVENT_SUFFIXES, read_events
from spikebridge.data.photos import read_idx, read_photo

SUFFIXES = {
    **{suffix: (read_events, "no such recording") for suffix in EVENT_SUFFIXES},
    ".jpg": (read_photo, "no such file"),
    ".idx": (read_idx, "no such IDX file"),
    ".gz": (read_idx, "no such IDX file"),
}
KINDS: dict[str, Callable[[Path], object]] = {
    "folder": lambda path: path.mkdir(),
    "pipe": lambda path: os.mkfifo(path),
    "link to itself": lambda path: path.symlink_to(path.name),
    "link to nothing": lambda path: path.symlink_to("nothing"),
    "link to a device": lambda path: path.symlink_to("/dev/zero"),
    "nothing": lambda path: None,
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("suffix", SUFFIXES)
def test_what_is_no_file_is_refused_at_once(tmp_path: Path, suffix: str, kind: str) -> None:
    path = tmp_path / f"a{suffix}"
    KINDS[kind](path)
    read, words = SUFFIXES[suffix]
    refused(lambda: read(path), path, words)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ["a" * 300, "a\0b"], ids=["long", "null"])
def test_impossible_names_are_refused(tmp_path: Path, suffix: str, name: str) -> None:
    read, words = SUFFIXES[suffix]
    refused(lambda: read(tmp_path / (name + suffix)), words)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_a_file_that_may_not_be_read_is_refused(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"a{suffix}"
    path.write_bytes(b"1234567890")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("the superuser reads every file")
    refused(lambda: SUFFIXES[suffix][0](path), path)


NAMES = [
    "with space", "per%cent %s", "'quoted' \"twice\"", "-W", "# hash", "emoji 📷", "ünïcödé", "a.b",
    "back\\slash", "$HOME;ls", "{brace}", "[bracket]",
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_any_name_serves(tmp_path: Path, name: str) -> None:
    for kind in ("bin", "mat", "h5", "npz", "txt", "aedat4", "raw, EVT3", "bag"):
        suffix, data = RECORDINGS[kind]
        file = tmp_path / (name + suffix)
        file.write_bytes(data)
        assert as_rows(read_events(file)) == list(map(tuple, ROWS.tolist()))
        file.write_bytes(data[:7])
        refused(lambda f=file: read_events(f), file)
    for read, (suffix, data) in ((read_photo, PHOTOS["png"]), (read_idx, IDX["idx, gzip"])):
        file = tmp_path / (name + suffix)
        file.write_bytes(data)
        assert read(file).size


@pytest.mark.parametrize("kind", ["bin", "npz", "h5", "txt", "mat", "raw, EVT3", "bag"])
def test_names_that_are_no_text_are_read_or_refused(tmp_path: Path, kind: str) -> None:
    suffix, data = RECORDINGS[kind]
    file = Path(os.fsdecode(os.fsencode(tmp_path) + b"/\xff\xfe" + suffix.encode()))
    file.write_bytes(data)
    if kind in ("bin", "npz", "mat", "h5", "txt"):
        assert len(read_events(file)) == len(ROWS)
    else:
        refused(lambda: read_events(file), file)


@pytest.mark.parametrize("suffix", EVENT_SUFFIXES)
def test_a_sparse_file_of_10_gb_is_refused_at_once(tmp_path: Path, suffix: str) -> None:
    file = tmp_path / f"a{suffix}"
    with open(file, "wb") as stream:
        stream.truncate(10 * 10**9)
    refused(lambda: read_events(file), file, "10.0 GB", "cut it")


def test_a_bin_of_more_than_134_million_events_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "a.bin"
    with open(file, "wb") as stream:
        stream.truncate(5 * (1 << 27) + 5)
    refused(lambda: read_events(file), file, "0.7 GB", "cut it")
