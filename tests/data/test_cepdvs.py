"""CEP-DVS, laid out as it is published."""

import io
from pathlib import Path

import numpy as np
import pytest
from scipy.io import savemat

from factories import as_rows, files_in, png_bytes, refused
from spikebridge.data.datasets.catalog import Item, PhotoReader, open_collection
from spikebridge.data.datasets.cepdvs import CLASSES
from spikebridge.data.events import read_events
from spikebridge.data.prepared import frame_file
from spikebridge.data.settings import DataConfig, SplitConfig
from spikebridge.data.splits.draw import make_split

ROWS = [(1, 2, 30, 1), (4, 5, 60, 0), (9, 3, 95, 1)]


def mat_bytes(rows: list[tuple[int, int, int, int]], off: int = -1) -> bytes:
    """x, y, ts and p as columns of doubles, compressed, as MATLAB saves them."""
    stream = io.BytesIO()
    columns = np.array(rows, np.float64).T[:, :, None]
    variables = dict(zip(("x", "y", "ts", "p"), columns, strict=True))
    variables["p"] = np.where(variables["p"] > 0, 1.0, float(off))
    savemat(stream, variables, do_compression=True)
    return stream.getvalue()


def _row(number: int, name: str) -> str:
    return f"{number} img/{number:05d}.jpg MAT/img/{number:05d}.mat bee {name} 0"


def _class_of(number: int) -> str:
    """Neighbours are of other classes, as in the published order."""
    return CLASSES[7 * number % 20]


def _root(root: Path, count: int = 80, row: object = _row) -> Path:
    rows = [row(number, _class_of(number)) for number in range(count)]  # pyright: ignore[reportCallIssue]
    table = "\n".join(["index image events fine coarse n", *rows]) + "\n"
    files = {"pathFile.csv": table.encode()}
    for number in range(count):
        files[f"data/MAT/img/{number:05d}.mat"] = mat_bytes([*ROWS, (number, 7, 99, 1)])
        files[f"data/img/{number:05d}.jpg"] = png_bytes(number, "jpeg")
    return files_in(root, files)


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _root(tmp_path_factory.mktemp("cep") / "CEP-DVS")


def _config(events: Path, photos: Path | None = None, **changes: object) -> DataConfig:
    folders = {"events": str(events), "photos": str(photos or events)}
    return DataConfig(name="cep-dvs", extent="recording", **folders, **changes)  # pyright: ignore[reportArgumentType]


def test_the_row_of_its_number_tells_the_class(root: Path) -> None:
    collection = open_collection(_config(root))
    assert collection.name == "cep-dvs"
    assert collection.classes == CLASSES
    assert collection.sensor is None
    assert collection.paired
    by_number = {int(i.number): i for i in collection.recordings}
    assert sorted(by_number) == list(range(80))
    assert by_number[9] == Item(str(root / "data/MAT/img/00009.mat"), 3, "00009", "9")
    for number, item in by_number.items():
        assert collection.classes[item.label] == _class_of(number)
    photos = {i.pair: i for i in collection.photos}
    reader = PhotoReader()
    for item in collection.recordings:
        photo = photos[item.pair]
        assert photo.label == item.label
        assert Path(photo.file).name == f"{int(item.number):05d}.jpg"
    assert reader(photos["9"]).shape == (16, 16, 3)


def test_recordings_of_different_sizes_fill_the_frame(root: Path) -> None:
    config = _config(root, size=(8, 8), time_steps=2)
    collection = open_collection(config)
    wide = next(i for i in collection.recordings if i.number == "00050")
    events = read_events(wide.file, collection.sensor)
    assert as_rows(events) == [*ROWS, (50, 7, 99, 1)]
    assert events.sensor == (51, 8)
    frames_TCHW = frame_file(wide.file, config, collection.sensor)
    assert frames_TCHW.sum() == 4
    assert frames_TCHW[1, 1, 7, 7] == 1


def test_polarity_of_0_and_1(tmp_path: Path) -> None:
    for off in (-1, 0):
        file = files_in(tmp_path, {"00000.mat": mat_bytes(ROWS, off)}) / "00000.mat"
        assert as_rows(read_events(file)) == ROWS


@pytest.mark.parametrize("events", ["", "data", "data/MAT", "data/MAT/img"])
@pytest.mark.parametrize("photos", ["", "data", "data/img"])
def test_deeper_folders_will_do(root: Path, events: str, photos: str) -> None:
    assert open_collection(_config(root / events, root / photos)) == open_collection(_config(root))


def test_photos_kept_elsewhere_take_the_table_of_the_recordings(root: Path, tmp_path: Path) -> None:
    elsewhere = files_in(
        tmp_path / "a/b/c/d/photos",
        {file.name: file.read_bytes() for file in (root / "data/img").iterdir()},
    )
    collection = open_collection(_config(root, elsewhere))
    assert [i.pair for i in collection.photos] == [
        i.pair for i in open_collection(_config(root)).photos
    ]


@pytest.mark.parametrize(
    "row",
    [
        lambda n, name: f"{n},img/{n:05d}.jpg,MAT/img/{n:05d}.mat,bee,{name}",
        lambda n, name: f'"{n}", "img", "mat", "bee", "{name}", "0"',
        lambda n, name: f"{n}\timg\tmat\tbee\t{name}",
        # KT's reader counts the empty word between two spaces.
        lambda n, name: f"{n}  mat bee {name}",
    ],
    ids=["commas", "quoted", "tabs", "two spaces"],
)
def test_tables_of_other_separators(tmp_path: Path, row: object) -> None:
    root = _root(tmp_path, 20, row)
    collection = open_collection(_config(root))
    assert {int(i.number): collection.classes[i.label] for i in collection.recordings} == {
        number: _class_of(number) for number in range(20)
    }


def test_any_part_of_it_will_do(tmp_path: Path) -> None:
    root = _root(tmp_path, 40)
    for number in range(40):
        if _class_of(number) not in ("fish", "trees"):
            (root / f"data/MAT/img/{number:05d}.mat").unlink()
    collection = open_collection(_config(root))
    assert collection.classes == ("fish", "trees")
    assert len(collection.photos) == 4
    only = open_collection(_config(root, exclude=["fish"]))
    assert only.classes == ("trees",)


def test_the_split_keeps_a_test_recordings_photo_out_of_training(
    root: Path, tmp_path: Path
) -> None:
    split = SplitConfig(validation_per_class=1, test_per_class=1, near_duplicates="keep")
    manifest = make_split(open_collection(_config(root)), split, 0, tmp_path)
    held = {e.pair for e in manifest.select("recording", "test")}
    assert len(held) == 20
    assert held.isdisjoint(e.pair for e in manifest.select("photo", "train"))


def test_what_is_wrong_with_the_table(tmp_path: Path) -> None:
    root = _root(tmp_path / "root", 20)
    table = root / "pathFile.csv"
    lines = table.read_text().splitlines()
    refused(lambda: open_collection(_config(root / "data/img")), "no recording", "00000.mat")

    broken = [*lines[:4], *(line.replace(_class_of(3), "bees") for line in lines[4:5]), *lines[5:]]
    table.write_text("\n".join(broken))
    refused(lambda: open_collection(_config(root)), table, "row 3", "no known class", "restore")
    table.write_text("\n".join(lines[:11]))
    line = refused(lambda: open_collection(_config(root)), table, "row 10", "is missing")
    assert "9 rows more" in line
    table.write_text("")
    refused(lambda: open_collection(_config(root)), table, "row 0", "19 rows more")
    table.unlink()
    refused(lambda: open_collection(_config(root)), root, "no pathFile.csv", "classes")


def test_files_that_are_not_named_by_number(tmp_path: Path) -> None:
    root = _root(tmp_path, 20)
    (root / "data/img/00004.jpg").rename(root / "data/img/copy of 4.jpg")
    refused(lambda: open_collection(_config(root)), "copy of 4.jpg", "named by number", "rename")


def test_two_recordings_of_one_number_are_refused(tmp_path: Path) -> None:
    root = _root(tmp_path, 20)
    (root / "data/MAT/img/4.mat").write_bytes(mat_bytes(ROWS))
    refused(lambda: open_collection(_config(root)), "4.mat", "same photo", "keep one")
