"""From the tables of images to one line a method: means over images, medians of the cost."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from .run import COST, columns
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
    names = [column for column in columns(alignments) if column not in (NAME, STATUS, *COST)]
    warm = measured[1:] or measured
    return Summary(
        name=name,
        gives=gives,
        weights=weights,
        num_images=len(measured),
        num_skipped=sum(row[STATUS] == SKIPPED for row in rows),
        scores=_over(measured, names, statistics.fmean),
        cost=_over(warm, COST, statistics.median),
    )


def _over(
    rows: Sequence[Mapping[str, str]], names: Sequence[str], reduce: Callable[[list[float]], float]
) -> dict[str, float]:
    """Column -> reduced value of the rows that have one."""
    values = {name: [float(row[name]) for row in rows if row.get(name) not in ("", None)] for name in names}
    return {name: reduce(found) for name, found in values.items() if found}
