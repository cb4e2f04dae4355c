"""The table of a run, a line an image: written as soon as an image is measured, so that a run can go on later.

CSV, one file a process; whatever number of processes goes on with a run, it reads the files of all.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..model.layouts import flatten_settings
from ..replacing import write_json

NAME, STATUS = "name", "status"
MEASURED, SKIPPED = "measured", "no valid pixel"
SETTINGS_FILE = "settings.json"
_FACTS_FILE = "method.json"


class Facts(NamedTuple):
    """What a loaded method says of itself; weights at a path may say something unusual, and the next run may load none.

    Attributes:
        gives: a key of `baselines.GIVES`.
        made_with: what it is run with, as `Method.made_with`.
    """

    gives: str
    made_with: Mapping[str, object]


def open_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Makes the folder of a run, or makes sure that what lies there was measured with the same settings.

    Raises:
        ValueError: for results of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / SETTINGS_FILE, json.loads(json.dumps(settings))
    if not path.exists():
        write_json(path, wanted)  # whole or not at all: several processes may start at once
        return
    _refuse_changes(folder, read_settings(folder), wanted)


def is_run(folder: Path) -> bool:
    """Whether a folder holds all that stands beside a run's table."""
    return all((folder / name).exists() for name in (SETTINGS_FILE, _FACTS_FILE))


def read_settings(folder: Path) -> dict[str, object]:
    """The settings that `open_folder` kept of a run."""
    return json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))


def describe_changes(found: Mapping[str, object], wanted: Mapping[str, object]) -> str:
    """What differs of two runs' settings, as JSON keeps them: "NAME was X and is Y, ..."; empty where nothing does."""
    before, now = (_flat(settings) for settings in (found, wanted))
    changed = sorted(name for name in {*before, *now} if before.get(name) != now.get(name))
    return ", ".join(f"{name} was {before.get(name)!r} and is {now.get(name)!r}" for name in changed)


def _refuse_changes(folder: Path, found: Mapping[str, object], wanted: Mapping[str, object]) -> None:
    if changed := describe_changes(found, wanted):
        raise ValueError(f"{folder} holds results of other settings ({changed}); choose another --output or delete it.")


def _flat(settings: Mapping[str, object]) -> dict[str, object]:
    """The settings under dotted names; an empty table says nothing."""
    flat = flatten_settings(json.loads(json.dumps(settings)))
    return {name: value for name, value in flat.items() if value != {}}


def drop_without_results(folder: Path) -> None:
    """Removes what a run without a result left, as of a method that could not be loaded; it would bind nobody."""
    if folder.is_dir() and not read_rows(folder):
        for name in (SETTINGS_FILE, _FACTS_FILE):
            (folder / name).unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()


def write_facts(folder: Path, facts: Facts) -> None:
    """Keeps what the loaded method of a run says of itself.

    Raises:
        ValueError: for results that were made with something else, as of another precision where "auto" takes another
            on this machine.
    """
    if (folder / _FACTS_FILE).exists():
        _refuse_changes(folder, *({"gives": told.gives, **told.made_with} for told in (read_facts(folder), facts)))
    write_json(folder / _FACTS_FILE, facts._asdict())


def read_facts(folder: Path) -> Facts:
    """What `write_facts` kept, which it did before the first line of the table."""
    return Facts(**json.loads((folder / _FACTS_FILE).read_text(encoding="utf-8")))


def read_rows(folder: Path) -> dict[str, dict[str, str]]:
    """All finished lines of a run, by image; a line that was cut off by an interruption is not one."""
    return {row[NAME]: row for path in sorted(folder.glob("images*.csv")) for row in _finished(path)}


def check_columns(folder: Path, columns: Sequence[str]) -> None:
    """Raises ValueError for a table of a run whose columns are others: lines of both would not mean the same."""
    for path in sorted(folder.glob("images*.csv")):
        head, end, _ = path.read_bytes().decode("utf-8").partition("\n")
        if end and head != ",".join(columns):
            raise ValueError(
                f"{path} has other columns than this version measures; choose another --output or delete the folder."
            )


def append_row(path: Path, columns: Sequence[str], row: Mapping[str, object]) -> None:
    """Adds a line, after a head in a new file; what an interruption left of a line is cut off first."""
    path.parent.mkdir(parents=True, exist_ok=True)
    _cut_unfinished(path)
    is_new = not path.exists()
    with path.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, columns, lineterminator="\n")
        if is_new:
            writer.writeheader()
        writer.writerow(row)


def _finished(path: Path) -> Iterator[dict[str, str]]:
    text = path.read_bytes().decode("utf-8")
    # Lines end where CSV says, unlike `splitlines`: a name may hold what Unicode calls the end of a line.
    yield from csv.DictReader(io.StringIO(text[: text.rfind("\n") + 1], newline=""))


def _cut_unfinished(path: Path) -> None:
    if path.exists():
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if whole != content:
            path.write_bytes(whole)
        if not whole:
            path.unlink()
