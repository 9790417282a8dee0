"""Training over progress u: accuracy, replacement, distillation and losses on one axis."""

from collections.abc import Mapping, Sequence

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from spikebridge.results.report.palette import INK, SHADE, style_of
from spikebridge.results.report.read import Run, binned, validation_curve
from spikebridge.results.report.svg import new_figure

LOSSES = {
    "total": "L, the sum",
    "hybrid": "hybrid stream, classification",
    "kd": "distillation · W(u)",
    "alignment": "alignment",
    "dvs": "DVS stream, classification",
    "classification": "classification",
}
_POINTS = 400
"""Steps at which P(u) and W(u) are drawn."""


def training(groups: Mapping[str, Sequence[Run]], shown: Run | None) -> Figure:
    """Validation top-1 of every method over u; below it P(u) and W(u) of one run.

    Lines are means over seeds, bands reach from the lowest to the highest seed.

    Args:
        groups: Runs by name.
        shown: Whose schedules are drawn; None, or one without a hybrid stream, draws none.
    """
    scheduled = shown is not None and bool(shown.config.objective.hybrid_until)
    figure = new_figure(4.9 if scheduled else 3.0)
    ratios = [3, 2] if scheduled else [1]
    panels = figure.subplots(len(ratios), 1, sharex=True, squeeze=False, height_ratios=ratios)
    above, below = panels[0, 0], panels[-1, 0]
    for method, runs in groups.items():
        style = style_of(method)
        u_E, top1_RE = validation_curve([run.evaluations for run in runs])
        if not len(u_E):
            continue
        above.fill_between(u_E, top1_RE.min(0), top1_RE.max(0), color=style.light, alpha=0.15, lw=0)
        above.plot(
            u_E,
            top1_RE.mean(0),
            "--" if runs[0].method == "teacher" else "-",
            color=style.light,
            marker=style.marker,
            markevery=max(1, len(u_E) // 10),
        )
    above.set_ylim(0, 102)
    above.set_ylabel("validation top-1, %")
    if scheduled and shown is not None:
        shade_phases(above, shown)
        _schedules(below, shown)
        figure.legend(loc="outside lower center", ncols=1)
    below.tick_params("x", pad=6)
    below.set_xlim(0, 1)
    below.set_xlabel("progress u")
    return figure


def losses(runs: Sequence[Run]) -> Figure | None:
    """Every term of the loss over u, one above the other, over the phases."""
    logged = {name for run in runs for step in run.steps for name in step["losses"]}
    names = [n for n in LOSSES if n in logged] + sorted(logged - LOSSES.keys())
    if not names:
        return None
    colour = style_of(runs[0].name).light
    figure = new_figure(0.45 + 0.9 * len(names))
    panels = figure.subplots(len(names), 1, sharex=True, squeeze=False)[:, 0]
    for axes, name in zip(panels, names, strict=True):
        u_K, value_RK = binned(runs, lambda step, name=name: step["losses"].get(name))
        if len(u_K):
            axes.fill_between(u_K, value_RK.min(0), value_RK.max(0), color=colour, alpha=0.15, lw=0)
            axes.plot(u_K, value_RK.mean(0), color=colour)
        shade_phases(axes, runs[0], named=False)
        axes.set_title(LOSSES.get(name, name), fontsize=9, loc="left")
        axes.set_ylim(bottom=0)
        axes.yaxis.set_major_locator(MaxNLocator(3))
    panels[-1].tick_params("x", pad=6)
    panels[-1].set_xlim(0, 1)
    panels[-1].set_xlabel("progress u")
    return figure


def shade_phases(axes: Axes, run: Run, *, named: bool = True) -> None:
    """Shade the switching phase of phased distillation, and name the phases."""
    objective = run.config.objective
    schedule = objective.distillation
    if not (objective.hybrid_until and objective.kd_weight) or schedule.shape != "phased":
        return
    end, start = schedule.phase_one_end, schedule.phase_two_start
    axes.axvspan(end, start, color=SHADE, lw=0, zorder=0)
    phases = ((0, end, "Phase I"), (end, start, "switching"), (start, 1, "Phase II"))
    for left, right, name in phases if named else ():
        if right - left > 0.1:
            axes.annotate(name, ((left + right) / 2, 1.0), xycoords=("data", "axes fraction"),
                          xytext=(0, 3), textcoords="offset points", ha="center",
                          fontsize=9, annotation_clip=False)  # fmt: skip


def _schedules(axes: Axes, run: Run) -> None:
    """P(u) and W(u) as logged, and the share of samples that were replaced."""
    objective = run.config.objective
    steps = [step for step in run.steps if step.get("replacement") is not None]
    steps = steps[:: max(1, len(steps) // _POINTS)]
    u_N = [step["progress"] for step in steps]
    replacement_N = [step["replacement"] for step in steps]
    axes.plot(u_N, replacement_N, color=INK, label="P(u), replacement probability")
    if objective.kd_weight and objective.distillation.shape != "none":
        weight_N = [step["distillation"] for step in steps]
        axes.plot(u_N, weight_N, "--", color=INK, label="W(u), distillation weight")
        shade_phases(axes, run, named=False)
    u_K, replaced_RK = binned([run], lambda step: step.get("replaced"))
    if len(u_K):
        axes.plot(u_K, replaced_RK[0], "o", color=style_of(run.name).light, ms=3.5,
                  label="share replaced, as measured")  # fmt: skip
    axes.set_ylim(-0.03, 1.05)
    axes.set_ylabel("P, W")
