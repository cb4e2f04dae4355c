"""The table of a run, a line an image: written as soon as an image is measured, so that a run can go on later.

CSV, one file a process; whatever number of processes goes on with a run, it reads the files of all.
"""

import csv
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from ..depth.files import write_text

NAME, STATUS = "name", "status"
MEASURED, SKIPPED = "measured", "no valid pixel"
SETTINGS_FILE = "settings.json"
_GIVES_FILE = "gives.txt"
_LATER = ("root", "beside")  # settings that earlier versions did not keep


def open_folder(folder: Path, settings: Mapping[str, object]) -> None:
    """Makes the folder of a run, or makes sure that what lies there was measured with the same settings.

    Raises:
        ValueError: for results of other settings.
    """
    folder.mkdir(parents=True, exist_ok=True)
    path, wanted = folder / SETTINGS_FILE, json.loads(json.dumps(settings))
    if not path.exists():
        write_text(path, json.dumps(wanted, indent=2))  # whole or not at all: several processes may start at once
        return
    found = json.loads(path.read_text(encoding="utf-8"))
    later = {name: wanted[name] for name in _LATER if name in wanted and name not in found}
    if later:  # a table of an earlier version, which goes on with these
        found |= later
        write_text(path, json.dumps(found, indent=2))
    changed = sorted(name for name in {*found, *wanted} if found.get(name) != wanted.get(name))
    if changed:
        told = ", ".join(f"{name} was {found.get(name)!r} and is {wanted.get(name)!r}" for name in changed)
        raise ValueError(f"{folder} holds results of other settings ({told}); choose another --output or delete it.")


def write_gives(folder: Path, gives: str) -> None:
    """Keeps what the loaded method gives, a key of `baselines.GIVES`: weights at a path may give something unusual."""
    write_text(folder / _GIVES_FILE, f"{gives}\n")


def read_gives(folder: Path) -> str | None:
    """What `write_gives` kept; None in a run of an earlier version."""
    path = folder / _GIVES_FILE
    return path.read_text(encoding="utf-8").strip() if path.exists() else None


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
