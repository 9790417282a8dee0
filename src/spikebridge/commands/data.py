"""The commands `data list` and `data check`."""

import re
from argparse import ArgumentParser, Namespace
from dataclasses import replace
from pathlib import Path
from typing import get_args, get_type_hints

from spikebridge.base.errors import UserError

_SETTING = re.compile(
    r"(?<![\w./-])data\.(events_alone|events|photos|unlabelled|exclude|sensor)\b(?![./])"
)


def _data_arguments(parser: ArgumentParser) -> None:
    from spikebridge.data.settings import DataConfig

    parser.usage = (
        "spikebridge data list [--json FILE]\n"
        "       spikebridge data check NAME [--events DIR] [--photos DIR] [--unlabelled DIR] "
        "[--json FILE]"
    )
    known = get_args(get_type_hints(DataConfig)["name"])
    names = [name for name in known if name != "digits"]
    parser.add_argument("action", choices=["list", "check"], help="what to do")
    parser.add_argument("name", nargs="?", choices=names, help="check: the data set")
    parser.add_argument("--events", type=str, help="check: folder of recordings")
    parser.add_argument("--photos", type=str, help="check: folder of photos")
    parser.add_argument("--unlabelled", type=str, help="check: folder of photos without labels")
    parser.add_argument("--exclude", nargs="+", default=[], help="check: classes to leave out")
    parser.add_argument(
        "--events-alone", nargs="+", default=[], help="check: classes that train without photos"
    )
    parser.add_argument(
        "--sensor",
        nargs=2,
        type=int,
        help="check: the camera's width and height, where files do not tell them",
    )
    parser.add_argument("--group", type=str, help="check: data.split.group, which names sessions")
    parser.add_argument(
        "--json", type=str, help="write all as JSON to a file; - prints it instead of the page"
    )


def _data(given: Namespace) -> int:
    """List the known data sets, or check the folders of one before training.

    `list` says of each data set what it holds, where a person gets it and how it must lie on disk.
    `check` reads every file and reports, per class, what is found, missing, empty, unreadable,
    duplicated or without its partner; its exit code is 2 where training could not use the folders.
    """
    return _list(given) if given.action == "list" else _check(given)


def _list(given: Namespace) -> int:
    from spikebridge.data.datasets import DATASETS
    from spikebridge.data.datasets.page import dataset_json, datasets_page

    datasets = list(DATASETS.values())
    _show(datasets_page(datasets), [dataset_json(dataset) for dataset in datasets], given.json)
    return 0


def _check(given: Namespace) -> int:
    from spikebridge.data.check import check
    from spikebridge.data.check_page import check_page
    from spikebridge.data.settings import DataConfig, SplitConfig

    if given.name is None:
        raise UserError("data check: name the data set; spikebridge data list shows them")
    try:
        split = SplitConfig(group=given.group)
    except ValueError as error:
        raise UserError(f"--group: {error}") from error
    try:
        config = DataConfig(
            name=given.name,
            events=given.events,
            photos=given.photos,
            unlabelled=given.unlabelled,
            exclude=given.exclude,
            events_alone=given.events_alone,
            sensor=tuple(given.sensor) if given.sensor else None,
            split=split,
        )
    except ValueError as error:
        raise UserError(_SETTING.sub(_option, str(error))) from error
    report = check(config)
    # Messages name settings of a recipe; this command has options in their place.
    findings = [replace(one, message=_SETTING.sub(_option, one.message)) for one in report.findings]
    report = replace(report, findings=findings)
    _show(check_page(report), report.as_json(), given.json)
    if report.errors:
        raise UserError(report.verdict)
    if given.json != "-":
        print(report.verdict)
    return 0


def _option(setting: re.Match[str]) -> str:
    return "--" + setting[1].replace("_", "-")


def _show(page: str, value: object, target: str | None) -> None:
    """The page on stdout, and the JSON where it is wanted."""
    from spikebridge.base.files import json_text, write_json

    if target == "-":
        print(json_text(value), end="")
        return
    print(page)
    if target:
        write_json(Path(target), value)


COMMANDS = {
    "data": (_data_arguments, _data),
}
