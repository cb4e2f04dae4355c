"""From the tables of images to one line a method: means over images, medians of the cost."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from .run import COST, SCALE, columns
from .table import MEASURED, NAME, SKIPPED, STATUS


@dataclass(frozen=True)
class Summary:
    """One method on one data set.

    Attributes:
        name: the method, as it was asked for.
        gives: what its numbers are, see `baselines.Method`.
        weights: the SHA-256 of its file, or where its weights come from.
        num_images: how many were measured.
        num_skipped: how many had no valid pixel.
        scores: column of the table -> mean over the measured images; no column that no image has a value for.
        cost: seconds, peak memory and network calls, medians over the images.
        made_with: name -> value of what it was run with, chosen or its own, and "beside", digests of the files beside
            the weights.
        published: its name in `published.TABLES`, "" where no table has it.
        inverted: alignment -> how many images were fitted upside down, with a scale below zero; no alignment with none.
    """

    name: str
    gives: str
    weights: str
    num_images: int
    num_skipped: int
    scores: Mapping[str, float]
    cost: Mapping[str, float]
    made_with: Mapping[str, object] = field(default_factory=dict)
    published: str = ""
    inverted: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict:
        """Plain values."""
        return asdict(self)


def summarize(
    name: str, gives: str, weights: str, rows: Sequence[Mapping[str, str]], alignments: Sequence[str]
) -> Summary:
    """The summary of a method's table.

    The first image is left out of the seconds where there are others: it pays for loading and compiling.
    """
    measured = [row for row in rows if row[STATUS] == MEASURED]
    scales = {alignment: f"{alignment}.{SCALE}" for alignment in alignments}
    names = [name for name in columns(alignments) if name not in (NAME, STATUS, *COST, *scales.values())]
    inverted = {alignment: _num_negative(measured, column) for alignment, column in scales.items()}
    warm = measured[1:] or measured
    return Summary(
        name=name,
        gives=gives,
        weights=weights,
        num_images=len(measured),
        num_skipped=sum(row[STATUS] == SKIPPED for row in rows),
        scores=_over(measured, names, statistics.fmean),
        cost=_over(warm, COST, statistics.median),
        inverted={alignment: count for alignment, count in inverted.items() if count},
    )


def _over(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], reduce: Callable[[list[float]], float]
) -> dict[str, float]:
    """Column -> reduced value of the rows that have one."""
    values = {name: _values(rows, name) for name in names}
    return {name: reduce(found) for name, found in values.items() if found}


def _num_negative(rows: Sequence[Mapping[str, str]], name: str) -> int:
    return sum(value < 0 for value in _values(rows, name))


def _values(rows: Sequence[Mapping[str, str]], name: str) -> list[float]:
    """A column, of the rows that have a value."""
    return [float(row[name]) for row in rows if row.get(name) not in ("", None)]
