"""Recording sessions: what was recorded in a row is near copies and belongs to one split."""

import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

import numpy as np

from spikebridge.base.errors import UserError
from spikebridge.data.collection import Collection, Item
from spikebridge.data.settings import SplitConfig

_TRIES = 100


def with_sessions(collection: Collection, group: str) -> Collection:
    """The same files with their sessions; a photo whose name tells none has none.

    Args:
        collection: Recordings and photos.
        group: As ``data.split.group``.

    Raises:
        UserError: a recording's name tells no session.
    """

    def told(item: Item) -> Item:
        return replace(item, group=session_of(item.number, group) or item.group)

    recordings = [told(item) for item in collection.recordings]
    for item in recordings:
        if not item.group:
            raise UserError(
                f"{item.file}: data.split.group {group!r} finds no session in {item.number!r}; "
                "write one that matches every recording's name"
            )
    photos = [told(item) for item in collection.photos]
    return replace(collection, recordings=recordings, photos=photos)


def session_of(number: str, group: str) -> str:
    """The session that ``data.split.group`` finds in a name; empty where there is none."""
    found = re.search(group, number)
    return (found[1 if found.re.groups else 0] or "") if found else ""


def split_sessions(
    collection: Collection, config: SplitConfig, random: np.random.Generator
) -> list[list[tuple[Item, str]]]:
    """Each class's recordings in random order with their splits; no session is in two of them.

    Whole sessions are drawn until every class has its numbers. What a session has beyond the
    numbers that are set is unused.

    Args:
        collection: Recordings with their sessions.
        config: The numbers per class.
        random: Source of the draws.

    Raises:
        UserError: a class has too few sessions.
    """
    sessions: dict[str, list[Item]] = defaultdict(list)
    for item in collection.recordings:
        sessions[item.group].append(item)
    split_of = _draw(collection, sessions, config, random)
    result = []
    for label in range(len(collection.classes)):
        own = [item for item in collection.recordings if item.label == label]
        order = [own[i] for i in random.permutation(len(own))]
        limits: dict[str, int | None] = {
            "validation": config.validation_per_class,
            "test": config.test_per_class,
            "train": config.labelled_per_class,
        }
        taken: Counter[str] = Counter()
        drawn = []
        for item in order:
            split = split_of[item.group]
            limit = limits.get(split)
            if limit is not None and taken[split] == limit:
                split = "unused"
            taken[split] += 1
            drawn.append((item, split))
        result.append(drawn)
    return result


def _draw(
    collection: Collection,
    sessions: Mapping[str, Sequence[Item]],
    config: SplitConfig,
    random: np.random.Generator,
) -> dict[str, str]:
    """The split of each session."""
    counts = {name: Counter(item.label for item in items) for name, items in sessions.items()}
    total = sum(counts.values(), Counter())
    labelled, test = config.labelled_per_class, config.test_per_class
    needs = {
        "validation": dict.fromkeys(total, config.validation_per_class),
        "test": {label: test or (1 if labelled else max(1, total[label] // 5)) for label in total},
        "train": dict.fromkeys(total, labelled or 1),
    }
    names = list(sessions)
    lacking = 0
    for _ in range(_TRIES):
        order = [names[i] for i in random.permutation(len(names))]
        split_of: dict[str, str] = {}
        for split, need in needs.items():
            left = Counter(need)
            for name in order:
                if name not in split_of and any(left[label] > 0 for label in counts[name]):
                    split_of[name] = split
                    left.subtract(counts[name])
            if short := [label for label in need if left[label] > 0]:
                lacking = short[0]
                break
        else:
            rest = "train" if labelled is None else "test" if test is None else "unused"
            return {name: rest for name in names} | split_of
    number = sum(lacking in count for count in counts.values())
    wanted = ", ".join(f"{split} {need[lacking]}" for split, need in needs.items())
    raise UserError(
        f"class {collection.classes[lacking]!r} has {total[lacking]} recordings in {number} "
        f"sessions of data.split.group, too few for whole sessions in each split ({wanted}); lower "
        "data.split.*_per_class, record more sessions or exclude the class"
    )


def named_like_series(names: Iterable[str]) -> list[tuple[str, str, int]]:
    """Runs of names that differ only in a number at the end, as a camera counts takes of a session.

    Plain counting (image_0001 …) is none: the part before the number has a digit itself, or there
    are several such parts.

    Returns:
        First and last name, and how many there are, of each run of three or more.
    """
    numbered: dict[str, list[tuple[int, str]]] = defaultdict(list)
    for name in names:
        if found := _COUNTED.fullmatch(name):
            numbered[found[1]].append((int(found[2]), name))
    runs = [(prefix, sorted(some)) for prefix, some in numbered.items() if len(some) >= _RUN]
    runs = [(p, s) for p, s in runs if s[-1][0] - s[0][0] < 2 * len(s)]
    told = len(runs) > 1 or any(re.search(r"\d", prefix) for prefix, _ in runs)
    return [(some[0][1], some[-1][1], len(some)) for _, some in runs] if told else []


_COUNTED = re.compile(r"(.*?)(\d+)", re.DOTALL)
_RUN = 3
