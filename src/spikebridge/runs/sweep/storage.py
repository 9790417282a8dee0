"""The SQLite file of a sweep's trials, which several processes and commands share."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from sqlalchemy.exc import SQLAlchemyError
from sqlalchemy.pool import NullPool

from spikebridge.base.errors import UserError
from spikebridge.base.files import json_text
from spikebridge.base.locks import locked
from spikebridge.base.typed import first_difference
from spikebridge.data.manifest import Manifest
from spikebridge.runs.sweep.space import Setting
from spikebridge.runs.sweep.spec import Sweep

STORAGE = "sweep.sqlite"
_NAME = "sweep"
_IDENTITY = "identity"
_WAIT_S = 60


@contextmanager
def opened(folder: Path, epochs: int) -> Iterator[tuple[optuna.Study, RDBStorage]]:
    """A sweep's study, which is made where there is none.

    Args:
        folder: The sweep's folder.
        epochs: Of a run; in their first quarter nothing is pruned.

    Raises:
        UserError: the file is damaged or cannot be written.
    """
    path = folder / STORAGE
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    with locked(folder), refusing_failures(path):
        storage = RDBStorage(
            f"sqlite:///{path}",
            engine_kwargs={"connect_args": {"timeout": _WAIT_S}, "poolclass": NullPool},
        )
        study = optuna.create_study(
            storage=storage,
            study_name=_NAME,
            direction="maximize",
            pruner=optuna.pruners.MedianPruner(n_warmup_steps=epochs // 4),
            load_if_exists=True,
        )
    try:
        yield study, storage
    finally:
        storage.remove_session()


@contextmanager
def refusing_failures(path: Path) -> Iterator[None]:
    """Say in one line what is wrong with a storage."""
    try:
        yield
    except (SQLAlchemyError, StorageInternalError) as error:
        cause = str(error.__cause__ or error).split("\n")[0][:150]
        raise UserError(
            f"{path}: cannot be read or written ({cause}); free some space, or choose another --out"
        ) from error


def require_same(study: optuna.Study, sweep: Sweep, folder: Path) -> None:
    """Note what is searched in a new study; refuse to go on with a study of something else.

    Raises:
        UserError: names the first difference.
    """
    here = json.loads(json_text(sweep.identity))
    there = study.user_attrs.get(_IDENTITY)
    if there is None:
        study.set_user_attr(_IDENTITY, here)
    elif there != here:
        name, was, now = first_difference(there, here)
        raise UserError(
            f"{folder}: holds a sweep of something else ({name} is {was} there and {now} here); "
            "choose another --out or delete this one"
        )


def require_same_data(study: optuna.Study, seed: int, split: Manifest, folder: Path) -> None:
    """Note what validates in a sweep's first trial; refuse other recordings later.

    Raises:
        UserError: the trial is not to be compared with those before it.
    """
    validates = split.used("recording", "validation")
    name, here = f"validates {seed}", [list(e.identity) for e in validates]
    there = study.user_attrs.get(name)
    if there is None:
        study.set_user_attr(name, here)
    elif there != here:
        raise UserError(
            f"{folder}: other recordings validate seed {seed} than in the trials before, for some "
            "are new, gone or changed; restore them, or choose another --out"
        )


def distribution(setting: Setting) -> BaseDistribution:
    """A setting as Optuna knows it."""
    if setting.choices:
        return CategoricalDistribution(list(setting.labels))
    if setting.whole:
        low, high, step = int(setting.low), int(setting.high), int(setting.step or 1)
        return IntDistribution(low, high - (high - low) % step, setting.log, step)
    step = setting.step
    high = setting.high if step is None else _last(setting.low, setting.high, step)
    return FloatDistribution(setting.low, high, setting.log, step)


def _last(low: float, high: float, step: float) -> float:
    """The last point of a grid."""
    start, end, gap = (Decimal(str(number)) for number in (low, high, step))
    return float(start + (end - start) // gap * gap)


def stored_trial(study: optuna.Study, storage: RDBStorage, number: int) -> optuna.Trial:
    """A trial by its number, to be reported to; any process may have begun it."""
    of_study = storage.get_study_id_from_name(_NAME)
    return optuna.Trial(study, storage.get_trial_id_from_study_id_trial_number(of_study, number))
