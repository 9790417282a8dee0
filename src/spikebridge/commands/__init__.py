"""What each command parses and calls; a module per group, its COMMANDS by name."""

from collections.abc import Callable

from jsonargparse import ArgumentParser, Namespace

from spikebridge.commands import (
    bench,
    calibrate,
    data,
    demo,
    energy,
    export,
    measure,
    predict,
    prepare,
    report,
    simulate,
    study,
    sweep,
    train,
)

COMMANDS: dict[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int | None]]] = {
    **demo.COMMANDS,
    **data.COMMANDS,
    **simulate.COMMANDS,
    **prepare.COMMANDS,
    **calibrate.COMMANDS,
    **train.COMMANDS,
    **study.COMMANDS,
    **sweep.COMMANDS,
    **measure.COMMANDS,
    **report.COMMANDS,
    **predict.COMMANDS,
    **energy.COMMANDS,
    **export.COMMANDS,
    **bench.COMMANDS,
}
"""Name → what adds the arguments, and what runs: its docstring is the help, None means exit 0.

These modules and what adds the arguments import nothing that is slow: help answers at once.
"""
GROUPS = {"bench": "Measure speed, each figure beside a plain baseline in the same run."}
"""First word of commands of two words → what they have in common."""
