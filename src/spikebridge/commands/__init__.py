"""What each command parses and calls; a module per group, its COMMANDS by name."""

from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping

from spikebridge.commands import (
    backbone,
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

Commands = Mapping[str, tuple[Callable[[ArgumentParser], None], Callable[[Namespace], int | None]]]

COMMANDS: Commands = {
    **demo.COMMANDS,
    **data.COMMANDS,
    **simulate.COMMANDS,
    **prepare.COMMANDS,
    **calibrate.COMMANDS,
    **backbone.COMMANDS,
    **train.COMMANDS,
    **study.COMMANDS,
    **sweep.COMMANDS,
    **measure.COMMANDS,
    **report.COMMANDS,
    **predict.COMMANDS,
    **energy.COMMANDS,
    **export.COMMANDS,
}
"""Name → what adds the arguments, and what runs: its docstring is the help, None means exit 0.

These modules and what adds the arguments import nothing that is slow: help answers at once.
"""
