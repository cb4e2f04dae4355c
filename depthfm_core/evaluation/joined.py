"""The paper's table, methods x data sets, out of the reports of `evaluate`, with the published rows below.

A method has a row for each alignment that it was measured under, since numbers under different ones do not compare, and
for each of its settings: "nano (num_steps 1)" and "nano (num_steps 4)".
"""

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..replacing import write_text
from .published import TABLES, find_published
from .report import FITTED_BY_RANSAC, Report, Table, markdown, number, tell_settings

SCORES = ("abs_rel", "delta1")
PAPER = "depthfm"  # the table whose rows all stand below the measured ones
MEASURED_HERE = "measured here"
_UNKNOWN = (None, None)
_OF_THE_MACHINE = ("members_at_once",)  # of `made_with`: what changes no map
_OF_THE_CAMERA = ("focal_px",)  # what data sets have each their own of


@dataclass(frozen=True)
class Row:
    """A method with one choice of settings, under one alignment.

    Attributes:
        method: its name, with the settings that tell it from its other rows.
        alignment: by which it was fitted; "" for a published row, which may not say.
        source: `MEASURED_HERE`, or the title of the published table.
        scores: data set -> AbsRel and delta1 as fractions; None where there is none.
    """

    method: str
    alignment: str
    source: str
    scores: Mapping[str, tuple[float | None, float | None]]


def read_reports(folders: Sequence[Path]) -> dict[str, dict]:
    """Data set -> what report.json in an output folder of `evaluate` holds; of several on one, the methods of all.

    Raises:
        ValueError: a folder without a report, a report that is broken or of an earlier version, or two of one data set
            that were measured on other images or by another protocol, or that have a method with the same settings.
    """
    reports: dict[str, dict] = {}
    for folder in folders:
        report = _read_report(folder)
        before = reports.setdefault(report["data_set"], report)
        if before is not report:
            _check_joinable(before, report)
            before["methods"] += report["methods"]
    return reports


def _check_joinable(first: Mapping, second: Mapping) -> None:
    """Whether the methods of two reports on one data set may share its columns, each in a row of its own."""
    for report in (first, second):
        if "images" not in report:
            raise ValueError(
                f"{report['folder']} does not say which images of {report['data_set']} it is on, as another report on "
                "them needs; run `evaluate` into it again, nothing is remeasured."
            )
    places = f"{first['folder']} and {second['folder']} are both reports on {first['data_set']}"
    if _measured_on(first) != _measured_on(second):
        raise ValueError(
            f"{places}, but on other images or by another protocol ({_told(first)}; {_told(second)}); measure both "
            "alike, or rename one folder of pictures and run `evaluate` on it, if they are two data sets."
        )
    for method in second["methods"]:
        if any(_is_same_row(method, other) for other in first["methods"]):
            raise ValueError(
                f"{places}, and each has {method['name']} with the same settings; leave one of them out, or delete "
                f"{method['name']} in one and run `evaluate` on its other methods again, nothing is remeasured."
            )


def _measured_on(report: Mapping) -> tuple:
    """What reports must share to stand in one column."""
    by_ransac = report["facts"].get("fitted to") == FITTED_BY_RANSAC  # of a folder no departure
    return report["benchmark"], report["departures"], report["images"], by_ransac


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
    return report | {"folder": folder}


def join_rows(reports: Mapping[str, Mapping]) -> list[Row]:
    """The measured rows, then the paper's, then other tables' rows of measured methods that the paper's does not have.

    A published score is left out where the data set was not measured by the protocol of published numbers.
    """
    measured = {}
    methods = [(name, method) for name, report in reports.items() for method in report["methods"]]
    for name, report in reports.items():
        for method in report["methods"]:
            for alignment, scores in _measured(method):
                measured.setdefault((_row_name(name, method, methods), alignment), {})[name] = scores
    rows = [Row(*key, MEASURED_HERE, scores) for key, scores in measured.items()]
    return [*rows, *_published_rows(reports)]


def _row_name(data_set: str, method: Mapping, methods: Sequence[tuple[str, Mapping]]) -> str:
    """The method's name, with those of its settings that it has otherwise elsewhere among the methods."""
    settings = _settings(method)
    others = [(name, _settings(other)) for name, other in methods if other["name"] == method["name"]]

    def differs(key: str, value: object) -> bool:
        comparable = (other for name, other in others if name == data_set or key not in _OF_THE_CAMERA)
        return any(other.get(key) != value for other in comparable)

    apart = {key: value for key, value in settings.items() if differs(key, value)}
    return f"{method['name']} ({tell_settings(apart)})" if apart else method["name"]


def _is_same_row(method: Mapping, other: Mapping) -> bool:
    alignments = dict(_measured(method)).keys() & dict(_measured(other)).keys()
    return bool(alignments) and method["name"] == other["name"] and _settings(method) == _settings(other)


def _settings(method: Mapping) -> dict[str, object]:
    """What makes a method another one: its weights and what it was run with, but not what it was told of the images."""
    counted = "images)" in str(method["made_with"].get("domain"))  # "indoor (654 images)": the benchmark's, not chosen
    left_out = (*_OF_THE_MACHINE, "domain") if counted else _OF_THE_MACHINE
    made_with = {name: value for name, value in method["made_with"].items() if name not in left_out}
    return made_with | {"weights": method["weights"]}


def _measured(method: Mapping) -> Iterator[tuple[str, tuple[float | None, float | None]]]:
    """Alignment, and AbsRel and delta1 under it."""
    scores = method["scores"]
    for column in scores:
        alignment, _, name = column.partition(".")
        if name == SCORES[0]:
            yield alignment, tuple(scores.get(f"{alignment}.{score}") for score in SCORES)


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
        notes=[f"{table.title}: {table.source}. {' '.join(table.notes)}" for table in tables],
        pictures={},
    )


def _told(report: Mapping) -> str:
    """What was measured, and what keeps it from being compared."""
    facts, departures = report["facts"], report["departures"]
    told = [facts["data set"]]
    told += [facts["not the whole benchmark"]] if "not the whole benchmark" in facts else []
    told += [f"fitted to {FITTED_BY_RANSAC}"] if facts.get("fitted to") == FITTED_BY_RANSAC else []
    told += [f"measured with {', '.join(departures)}, so published numbers are left out"] if departures else []
    return "; ".join(told)


def _values(names: Iterable[str], row: Row) -> list[float | None]:
    return [value for name in names for value in row.scores.get(name, _UNKNOWN)]


def _as_csv(names: Sequence[str], rows: Sequence[Row]) -> str:
    text = io.StringIO(newline="")
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["method", "alignment", "source", *(f"{name}.{score}" for name in names for score in SCORES)])
    for row in rows:
        writer.writerow([row.method, row.alignment, row.source, *_values(names, row)])
    return text.getvalue()
