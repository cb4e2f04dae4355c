"""The report of a run: the same tables as Markdown, for a terminal and a repository, and as one HTML page."""

import html
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..replacing import write_json, write_text
from .boundaries import BOUNDARIES
from .metrics import METRICS
from .pictures import LARGEST_ERROR
from .published import PUBLISHED_ALIGNMENTS, TABLES, find_published
from .run import UNCERTAINTY
from .summary import Summary

_STYLE = (
    "body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1b1b1b;"
    "background:#fff}table{border-collapse:collapse;margin:1rem 0;display:block;overflow-x:auto}"
    "th,td{padding:.3rem .6rem;border-bottom:1px solid #ddd;text-align:right;white-space:nowrap}"
    "th{white-space:normal;vertical-align:bottom}td:nth-child(2):last-child{white-space:normal;text-align:left}"
    "th:first-child,td:first-child{text-align:left}img{max-width:100%;height:auto}figcaption{color:#555}"
)
_PICTURES = (
    "Image, measured depth, aligned prediction, relative error: black is 0, or not measured, and the brightest color "
    f"{LARGEST_ERROR:g} or more."
)

FITTED_BY_RANSAC = "the pixels that RANSAC keeps"


@dataclass(frozen=True)
class Table:
    """Rows of text under a head."""

    title: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Report:
    """All that a report says.

    Attributes:
        title: of the page.
        data_set: the name of what was measured on.
        benchmark: its key in `protocol.BENCHMARKS`.
        facts: name -> value: data set, settings, machine.
        tables: in their order.
        departures: what was measured otherwise than by the protocol of published numbers.
        images: `data.entries.digest_images` of what was measured on.
        notes: what a reader of the numbers must know.
        pictures: caption -> file, relative to the report.
    """

    title: str
    data_set: str
    benchmark: str
    facts: Mapping[str, str]
    tables: Sequence[Table]
    notes: Sequence[str]
    pictures: Mapping[str, str]
    departures: Sequence[str] = ()
    images: str = ""


def build_tables(
    benchmark: str, summaries: Sequence[Summary], alignments: Sequence[str], *, comparable: bool = True
) -> list[Table]:
    """The measured rows beside their published ones, then every score, the cost, and all published rows.

    Where the protocol was another than that of published numbers (not `comparable`), these stand apart alone; so they
    do for a method that was fitted by none of `PUBLISHED_ALIGNMENTS`.
    """
    tables = [_main_table(benchmark if comparable else "", summaries, alignments)]
    for alignment in alignments:
        names = {f"{alignment}.{name}": name for name in (*METRICS, *BOUNDARIES)}
        tables.append(_score_table(f"All scores, aligned by {alignment}", names, summaries))
    uncertainty = _score_table(
        "The ensemble's uncertainty against the error of log depth", {n: n for n in UNCERTAINTY}, summaries
    )
    tables += [table for table in (uncertainty, _options_table(summaries)) if table.rows]
    return [*tables, _cost_table(summaries), *_published_tables(benchmark)]


def write_report(report: Report, summaries: Sequence[Summary], folder: Path) -> str:
    """Writes report.md, report.json and report.html into `folder`; returns the Markdown but for the pictures."""
    told, pictures = markdown(report), _markdown_pictures(report.pictures)
    content = {"data_set": report.data_set, "benchmark": report.benchmark, "departures": list(report.departures)}
    content |= {"images": report.images, "facts": dict(report.facts), "notes": list(report.notes)}
    content["methods"] = [summary.as_json() for summary in summaries]
    write_text(folder / "report.md", f"{told}\n{pictures}" if pictures else told)
    write_text(folder / "report.html", _html(report))
    write_json(folder / "report.json", content)
    return told


def _main_table(benchmark: str, summaries: Sequence[Summary], alignments: Sequence[str]) -> Table:
    """A line a method; where one of them was published on the data set, with what was, and where."""
    head = ["method", "images"]
    for alignment in alignments:
        head += [f"AbsRel ({alignment})", f"delta1 ({alignment})"]
    rows = []
    for summary in summaries:
        images = f"{summary.num_images}" + (f" (+{summary.num_skipped} empty)" if summary.num_skipped else "")
        scores = [number(summary.scores.get(f"{a}.{name}")) for a in alignments for name in ("abs_rel", "delta1")]
        rows.append([summary.name, images, *scores])
    published = [_published(summary, benchmark) for summary in summaries]
    if any(published):
        head += ["published AbsRel", "published delta1", "published in"]
        rows = [row + (found or ["-"] * 3) for row, found in zip(rows, published, strict=True)]
    return Table("Measured here", head, rows)


def _published(summary: Summary, benchmark: str) -> list[str]:
    """AbsRel, delta1 and the title of the first table that has the method on the data set; empty where none has."""
    if not any(f"{alignment}.abs_rel" in summary.scores for alignment in PUBLISHED_ALIGNMENTS):
        return []
    for name, row in find_published(summary.published).items():
        if benchmark in row:
            return [number(row[benchmark].abs_rel), number(row[benchmark].delta1), TABLES[name].title]
    return []


def _published_tables(benchmark: str) -> list[Table]:
    """What others measured on the same data set; the report's notes say what keeps it from being compared."""
    tables = []
    for published in TABLES.values():
        scores = {method: row[benchmark] for method, row in published.rows.items() if benchmark in row}
        rows = [[method, number(score.abs_rel), number(score.delta1)] for method, score in scores.items()]
        if rows:
            tables.append(
                Table(f"Published, not measured here: {published.title}", ["method", "AbsRel", "delta1"], rows)
            )
    return tables


def published_notes(benchmark: str) -> list[str]:
    """Sources of the published tables that have the data set, and what keeps their numbers from being compared."""
    tables = [table for table in TABLES.values() if any(benchmark in row for row in table.rows.values())]
    return [f"{table.title}: {table.source}. {' '.join(table.notes)}" for table in tables]


def _score_table(title: str, names: Mapping[str, str], summaries: Sequence[Summary]) -> Table:
    """A line a method that has any of the scores."""
    rows = [
        [summary.name, *(number(summary.scores.get(column)) for column in names)]
        for summary in summaries
        if any(column in summary.scores for column in names)
    ]
    return Table(title, ["method", *names.values()], rows)


def _cost_table(summaries: Sequence[Summary]) -> Table:
    columns = {"seconds": "s an image", "peak_memory_mb": "peak MB", "num_calls": "network calls"}
    rows = [
        [
            s.name,
            *(number(s.cost.get(column), 2 if column == "seconds" else 0) for column in columns),
            s.gives,
            _short(s.weights),
        ]
        for s in summaries
    ]
    return Table("Cost (medians) and weights", ["method", *columns.values(), "gives", "weights"], rows)


def _options_table(summaries: Sequence[Summary]) -> Table:
    """A line for each method that has settings, its own or chosen ones."""
    rows = [[summary.name, tell_settings(summary.made_with)] for summary in summaries if summary.made_with]
    return Table("What each method was run with", ["method", "settings"], rows)


def tell_settings(settings: Mapping[str, object]) -> str:
    """Settings as text; digests cut short."""
    return ", ".join(f"{name} {_told(value)}" for name, value in settings.items())


def _told(value: object) -> str:
    if isinstance(value, Mapping):
        return " ".join(f"{name} {_told(part)}" for name, part in value.items())
    return _short(str(value))


def _short(text: str) -> str:
    """A digest or commit cut to its beginning, which is enough to compare; other names whole."""
    return re.sub(r"((?:^|@)(?:sha256:)?[0-9a-f]{12})[0-9a-f]{28,}$", r"\1", text)


def number(value: float | None, digits: int = 3) -> str:
    """A cell of a table; a dash where there is no value."""
    return "-" if value is None else f"{value:.{digits}f}"


def markdown(report: Report) -> str:
    """A report but for its pictures. Columns are padded, so that the tables read well in a terminal too."""
    parts = [f"# {report.title}", "\n".join(f"- {name}: {value}" for name, value in report.facts.items())]
    for table in report.tables:
        parts.append(f"## {table.title}\n\n{_markdown_table(table)}")
    if report.notes:
        parts.append("## Notes\n\n" + "\n".join(f"- {note}" for note in report.notes))
    return "\n\n".join(parts) + "\n"


def _markdown_pictures(pictures: Mapping[str, str]) -> str:
    shown = [f"{caption}\n\n![{caption}]({path})" for caption, path in pictures.items()]
    return "\n\n".join(["## Largest errors", _PICTURES, *shown]) + "\n" if shown else ""


def _markdown_table(table: Table) -> str:
    lines = [table.head, *table.rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(table.head))]
    rule = ["-" * widths[0], *("-" * (width - 1) + ":" for width in widths[1:])]
    return "\n".join(
        "| "
        + " | ".join(
            cell.ljust(w) if i == 0 else cell.rjust(w) for i, (cell, w) in enumerate(zip(line, widths, strict=True))
        )
        + " |"
        for line in (table.head, rule, *table.rows)
    )


def _html(report: Report) -> str:
    say = html.escape
    parts = [f"<h1>{say(report.title)}</h1>", "<ul>"]
    parts += [f"<li>{say(name)}: {say(value)}</li>" for name, value in report.facts.items()]
    parts.append("</ul>")
    for table in report.tables:
        parts += [f"<h2>{say(table.title)}</h2>", "<table><thead>", _html_row(table.head, "th"), "</thead><tbody>"]
        parts += [*(_html_row(row, "td") for row in table.rows), "</tbody></table>"]
    if report.notes:
        parts += ["<h2>Notes</h2><ul>", *(f"<li>{say(note)}</li>" for note in report.notes), "</ul>"]
    if report.pictures:
        parts.append(f"<h2>Largest errors</h2><p>{_PICTURES}</p>")
    for caption, path in report.pictures.items():
        parts.append(
            f'<figure><img src="{say(path)}" alt="{say(caption)}"><figcaption>{say(caption)}</figcaption></figure>'
        )
    head = (
        f'<meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{say(report.title)}</title>'
    )
    return (
        f'<!doctype html>\n<html lang="en"><head>{head}<style>{_STYLE}</style></head><body>\n'
        + "\n".join(parts)
        + "\n</body></html>\n"
    )


def _html_row(cells: Sequence[str], tag: str) -> str:
    """A head may be broken at its underscores, so that wide tables fit a page."""
    told = [html.escape(cell).replace("_", "_<wbr>") if tag == "th" else html.escape(cell) for cell in cells]
    return "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in told) + "</tr>"
