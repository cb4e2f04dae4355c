"""The ways as one picture: a bar for each, made of its stages, with what it gains and what that costs beside it."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from .stages import STAGES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_COLORS = dict(zip(STAGES, ("#4c78a8", "#d1750c", "#3a8f5c", "#999999"), strict=True))
_ROOM_FOR_TEXT = 1.6  # of the longest bar
_LEGEND = "seconds, medians; beside the bars: times as fast as the first, peak memory, relative difference in log depth"


def write_plot(summary: Mapping[str, Mapping[str, Mapping]], path: Path) -> None:
    """A PNG of `summary.summarize`'s result, a panel for each case.

    Raises:
        ImportError: when matplotlib is missing.
    """
    from matplotlib.figure import Figure  # optional: only plots need it

    cases = {case: ways for case, ways in summary.items() if ways}
    heights = [0.6 + 0.36 * len(ways) for ways in cases.values()]
    figure = Figure(figsize=(9, sum(heights) + 0.8), layout="constrained")
    panels = figure.subplots(len(cases), 1, squeeze=False, height_ratios=heights)[:, 0]
    for (case, ways), axes in zip(cases.items(), panels, strict=True):
        _draw(axes, case, ways)
    panels[-1].set_xlabel(_LEGEND, fontsize=8)
    figure.legend(*panels[0].get_legend_handles_labels(), fontsize=8, loc="outside upper center", ncols=len(STAGES))
    figure.savefig(path, dpi=120)


def _draw(axes: "Axes", case: str, ways: Mapping[str, Mapping]) -> None:
    starts = [0.0] * len(ways)
    for stage in STAGES:
        widths = [told["seconds"][stage]["median"] for told in ways.values()]
        axes.barh(range(len(ways)), widths, left=starts, color=_COLORS[stage], label=stage, height=0.7)
        starts = [start + width for start, width in zip(starts, widths, strict=True)]
    for row, (told, end) in enumerate(zip(ways.values(), starts, strict=True)):
        axes.text(end, row, "  " + _words(told), va="center", fontsize=8)
    axes.set_yticks(range(len(ways)), ways)
    axes.invert_yaxis()
    axes.set_xlim(0, _ROOM_FOR_TEXT * max(starts))
    axes.set_title(case, fontsize=10)
    axes.grid(axis="x", alpha=0.3)


def _words(told: Mapping) -> str:
    ratio = told["ratio"]
    words = [f"{ratio['median']:.2f}x ({ratio['min']:.2f}-{ratio['max']:.2f})"]
    if told["peak_bytes"]:
        words.append(f"{told['peak_bytes'] / 1e9:.2f} GB")
    return ", ".join([*words, f"{told['difference']['relative_l2']:.0e}"])
