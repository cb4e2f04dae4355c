"""The paper's table, methods x data sets, out of the reports of `evaluate`, with the published rows below.

A method has a row for each alignment that it was measured under, since numbers under different ones do not compare.
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..replacing import write_text
from .published import TABLES, find_published
from .report import Report, Table, markdown, number

SCORES = ("abs_rel", "delta1")
PAPER = "depthfm"  # the table whose rows all stand below the measured ones
MEASURED_HERE = "measured here"
_UNKNOWN = (None, None)
_OF_THE_IMAGES = ("domain",)  # of `made_with`: what a method is told of the images, not how it was run


@dataclass(frozen=True)
class Row:
    """A method under one alignment.

    Attributes:
        method: its name.
        alignment: by which it was fitted; "" for a published row, which may not say.
        source: `MEASURED_HERE`, or the title of the published table.
        scores: data set -> AbsRel and delta1 as fractions; None where there is none.
    """

    method: str
    alignment: str
    source: str
    scores: Mapping[str, tuple[float | None, float | None]]


def read_reports(folders: Sequence[Path]) -> dict[str, dict]:
    """Data set -> what report.json in an output folder of `evaluate` holds.

    Raises:
        ValueError: a folder without a report, a report that is broken or of an earlier version, or two of one data set.
    """
    reports, places = {}, {}
    for folder in folders:
        report = _read_report(folder)
        name = report["data_set"]
        if name in reports:
            raise ValueError(
                f"{places[name]} and {folder} are both reports on {name}; let `evaluate` write all methods of a data "
                "set into one --output, or rename one folder, if they are two data sets."
            )
        reports[name], places[name] = report, folder
    return reports


def _read_report(folder: Path) -> dict:
    path = folder / "report.json"
    if not path.is_file():
        raise ValueError(f"There is no {path}; name folders that `evaluate --output` has written.")
    try:
        report = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # neither JSON nor text
        raise ValueError(f"{path} is broken ({error}); run `evaluate` again, nothing is remeasured.") from error
    if "data_set" not in report:
        raise ValueError(f"{path} was not written by this version's `evaluate`; run it again, nothing is remeasured.")
    return report


def join_rows(reports: Mapping[str, Mapping]) -> list[Row]:
    """The measured rows, then the paper's, then other tables' rows of measured methods that the paper's does not have.

    A published score is left out where the data set was not measured by the protocol of published numbers.
    """
    measured = {}
    for name, report in reports.items():
        for method, alignment, scores in _measured(report):
            measured.setdefault((method, alignment), {})[name] = scores
    rows = [Row(*key, MEASURED_HERE, scores) for key, scores in measured.items()]
    return [*rows, *_published_rows(reports)]


def _measured(report: Mapping) -> Iterator[tuple[str, str, tuple[float | None, float | None]]]:
    """Method, alignment, and AbsRel and delta1 under it."""
    for method in report["methods"]:
        scores = method["scores"]
        for column in scores:
            alignment, _, name = column.partition(".")
            if name == SCORES[0]:
                yield method["name"], alignment, tuple(scores.get(f"{alignment}.{score}") for score in SCORES)


def _published_rows(reports: Mapping[str, Mapping]) -> list[Row]:
    comparable = {name: report["benchmark"] for name, report in reports.items() if not report["departures"]}
    rows = []
    for table, method in _published(reports):
        found = TABLES[table].rows[method]
        scores = {name: (found[key].abs_rel, found[key].delta1) for name, key in comparable.items() if key in found}
        rows.append(Row(method, "", TABLES[table].title, scores))
    return [row for row in rows if row.scores]


def _published(reports: Mapping[str, Mapping]) -> list[tuple[str, str]]:
    """Key of `TABLES` and method of each published row to show."""
    methods = [method["published"] for report in reports.values() for method in report["methods"]]
    others = {method: next(iter(find_published(method))) for method in methods if find_published(method)}
    beyond = [(table, method) for method, table in others.items() if table != PAPER]
    return [*((PAPER, method) for method in TABLES[PAPER].rows), *beyond]


def write_joined(reports: Mapping[str, Mapping], folder: Path) -> str:
    """Writes table.md and table.csv (not rounded) into `folder`, which is made if missing; returns the Markdown."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = join_rows(reports)
    told = markdown(_as_report(reports, rows))
    write_text(folder / "table.md", told)
    write_text(folder / "table.csv", _as_csv(list(reports), rows))
    return told


def _as_report(reports: Mapping[str, Mapping], rows: Sequence[Row]) -> Report:
    head = ["method", "aligned by", *(f"{name} {score}" for name in reports for score in ("AbsRel", "delta1")), "from"]
    cells = [
        [row.method, row.alignment or "-", *(number(value) for value in _values(reports, row)), row.source]
        for row in rows
    ]
    tables = [table for table in TABLES.values() if any(row.source == table.title for row in rows)]
    return Report(
        title="Zero-shot depth, methods x data sets",
        data_set=", ".join(reports),
        benchmark="",
        facts={name: _told(report) for name, report in reports.items()},
        tables=[Table("AbsRel and delta1", head, cells)],
        notes=[*_differing(reports), *(f"{table.title}: {table.source}. {' '.join(table.notes)}" for table in tables)],
        pictures={},
    )


def _told(report: Mapping) -> str:
    """What was measured, and what keeps it from being compared."""
    facts, departures = report["facts"], report["departures"]
    told = [facts["data set"]]
    told += [facts["not the whole benchmark"]] if "not the whole benchmark" in facts else []
    told += [f"measured with {', '.join(departures)}, so published numbers are left out"] if departures else []
    return "; ".join(told)


def _differing(reports: Mapping[str, Mapping]) -> list[str]:
    """Methods that are not one and the same on all data sets, by their weights or by what they were run with."""
    seen: dict[str, list] = {}
    for report in reports.values():
        for method in report["methods"]:
            made_with = {name: value for name, value in method["made_with"].items() if name not in _OF_THE_IMAGES}
            seen.setdefault(method["name"], []).append((method["weights"], made_with))
    names = [name for name, found in seen.items() if any(one != found[0] for one in found)]
    return [f"{name} has other weights or settings on some of the data sets; see their reports." for name in names]


def _values(names: Iterable[str], row: Row) -> list[float | None]:
    return [value for name in names for value in row.scores.get(name, _UNKNOWN)]


def _as_csv(names: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "alignment", "source", *(f"{name}.{score}" for name in names for score in SCORES)])
    for row in rows:
        writer.writerow([row.method, row.alignment, row.source, *_values(names, row)])
    return text.getvalue()
