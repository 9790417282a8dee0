"""One student looked at closely: its classes, recordings, spikes and energy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from spikebridge.models.student import Student
from spikebridge.results.report.activity import Activity, record_activity
from spikebridge.results.report.confusion import Matrix, Pair, count_confusions, matrix, worst_pairs
from spikebridge.results.report.costs import Costs, costs
from spikebridge.results.report.examples import Example, Mistake, Recordings
from spikebridge.results.report.gain import ClassGain, class_gains
from spikebridge.results.report.raster import NEURONS
from spikebridge.results.report.read import Run
from spikebridge.results.trained import load_run

MISTAKES = 3


@dataclass(frozen=True)
class Closely:
    """What the page shows of one method; recordings, spikes and energy of its first seed."""

    confusions: Matrix
    mistakes: list[Mistake]
    gains: list[ClassGain]
    """Over scratch."""
    gain_seeds: int
    """Seeds that both have."""
    right: list[Example]
    wrong: list[Example]
    wrong_of: int
    """Wrongly classified test recordings, of which some are shown."""
    recorded: Example | None
    """Whose spikes are drawn."""
    activity: Activity | None
    sampled: int
    """At most so many neurons of a layer are drawn."""
    costs: Costs
    missing: str
    """Why there are no recordings and no spikes, a sentence; empty where there are."""


def look_closely(groups: Mapping[str, Sequence[Run]], shown: str, baseline: str | None) -> Closely:
    """All that needs predictions, recordings or weights.

    Args:
        groups: Runs by name.
        shown: The name of those that are shown.
        baseline: That of those whose gains are over; None without.

    Raises:
        UserError: a run lacks its predictions or its weights.
    """
    runs, run = groups[shown], groups[shown][0]
    trained = load_run(run.folder)
    assert isinstance(trained.model, Student)
    below = groups[baseline] if baseline not in (None, shown) else []
    beside = [r for r in below if r.seed == run.seed]
    recordings = Recordings(run, trained, beside)
    right, wrong = recordings.right, recordings.wrong
    count_CC = count_confusions(runs)
    there = recordings.readable
    gains = class_gains(runs, below)
    recorded, activity = None, None
    for said in (*right, *wrong) if there else ():
        x_TCHW = recordings.input(said.file)
        if x_TCHW is not None:
            recorded = recordings.still(said)
            activity = record_activity(trained.model, trained.config, x_TCHW)
            break
    every = (r for group in groups.values() for r in group)
    teacher = next((r.folder for r in every if (r.method, r.seed) == ("teacher", run.seed)), None)
    return Closely(
        matrix(count_CC),
        _mistakes(
            worst_pairs(count_CC, MISTAKES),
            [recordings, *(Recordings(other, trained) for other in runs[1:])] if there else [],
            run.seed,
        ),
        gains,
        len(gains[0].by_seed) if gains else 0,
        [recordings.still(said) for said in right] if there else [],
        [recordings.film(said) for said in wrong] if there else [],
        sum(not said.right for said in run.predictions),
        recorded,
        activity,
        NEURONS,
        costs(run, teacher),
        "" if there else _gone(run),
    )


def _mistakes(pairs: Sequence[Pair], recordings: Sequence[Recordings], seed: int) -> list[Mistake]:
    """Each pair by the first seed that made it; without pictures where there are no recordings."""
    found = []
    for pair in pairs:
        made = (mistake for one in recordings if (mistake := one.mistake(pair)))
        found.append(next(made, Mistake(pair, seed, ())))
    return found


def _gone(run: Run) -> str:
    where = Path(run.predictions[0].file).parent if run.predictions else run.folder
    return (
        f"The test recordings of {run.name}, seed {run.seed}, can no longer be read where they "
        f"were ({where} …), so that no recording, spike or potential is shown."
    )
