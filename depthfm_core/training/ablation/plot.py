"""The ablations as one picture: a column for each experiment, ours above and the paper's below."""

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, pstdev
from typing import TYPE_CHECKING

from .arms import CALLS, Experiment
from .data import DOMAINS
from .results import Results, values_of

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_SHOWN_CALLS = (CALLS[0], CALLS[-1])
_COLORS = dict(zip(_SHOWN_CALLS, ("#d1750c", "#1f5fa8"), strict=True))
_LINES = dict(zip(DOMAINS, ("--", "-"), strict=True))
_PAPER_COLOR = "#444444"


def write_plot(experiments: Sequence[Experiment], results: Results, path: Path) -> None:
    """A PNG of means with standard deviations over the seeds, and the paper's values on NYU below.

    Raises:
        ImportError: when matplotlib is missing.
    """
    from matplotlib.figure import Figure  # optional: only this plot needs it

    figure = Figure(figsize=(3.4 * len(experiments), 6), layout="constrained")
    columns = figure.subplots(2, len(experiments), squeeze=False).T
    for experiment, (ours, papers) in zip(experiments, columns, strict=True):
        _draw_ours(ours, experiment, results)
        _draw_papers(papers, experiment)
    columns[0][0].legend(fontsize=8)
    figure.savefig(path, dpi=120)


def _draw_ours(axes: "Axes", experiment: Experiment, results: Results) -> None:
    for calls, color in _COLORS.items():
        for domain, line in _LINES.items():
            by_arm = [values_of(results, arm, domain, calls, experiment.metric) for arm in experiment.arms]
            label = f"{domain}, {calls} call" + ("s" if calls > 1 else "")
            heights, spreads = ([f(values) for values in by_arm] for f in (mean, pstdev))
            axes.errorbar(
                range(len(by_arm)), heights, spreads, color=color, ls=line, marker="o", capsize=3, label=label
            )
    axes.set_title(experiment.title)
    _name_axes(axes, experiment, "here")


def _draw_papers(axes: "Axes", experiment: Experiment) -> None:
    positions = {arm: index for index, arm in enumerate(experiment.arms)}
    all_calls = sorted({calls for _, calls in experiment.published})
    for calls in all_calls:
        points = [(positions[arm], value) for (arm, of), value in experiment.published.items() if of == calls]
        color = _COLORS[calls] if len(all_calls) > 1 else _PAPER_COLOR
        axes.plot(*zip(*sorted(points), strict=True), color=color, marker="s")
    _name_axes(axes, experiment, "paper, NYU")


def _name_axes(axes: "Axes", experiment: Experiment, where: str) -> None:
    axes.set_xticks(range(len(experiment.arms)), experiment.arms.values())
    axes.set_xlim(-0.3, len(experiment.arms) - 0.7)
    axes.set_ylabel(f"{'delta1 in %' if experiment.metric == 'delta1' else 'AbsRel (lower is better)'}, {where}")
    axes.grid(alpha=0.3)
