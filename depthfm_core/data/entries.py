"""What a reader lists before it reads: one entry an image, from the user's split list or from the folder itself.

A split list is a text file of one line an image whose fields are paths below the data set's folder. Readers look for
each path in every layout in which the data set is handed out, so one list serves the archives and the original
downloads. Listing opens no picture; a file that is missing is reported before the first network call.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

_FETCH = "what to fetch stands in docs/benchmarks.md and docs/training.md"


@dataclass(frozen=True)
class Entry:
    """One image of a data set, found but not yet read.

    Attributes:
        name: unique within the data set and the same on every machine; may hold slashes.
        image: the picture's file.
        depth: the depth map's file; the picture's own for a container of both.
        extra: what else the reader needs or the file list tells, such as `focal_px`.
    """

    name: str
    image: Path
    depth: Path
    extra: Mapping[str, object] = field(default_factory=dict)


def read_split(split: Path) -> list[list[str]]:
    """The fields of each line of a split list; blank lines are left out. Errors: `read_lines`."""
    return [line.split() for line in read_lines(split)]


def read_lines(split: Path) -> list[str]:
    """The lines of a split list without what surrounds them; blank lines are left out.

    Raises:
        ValueError: no such file, no text, or a list without a line.
    """
    split = Path(split)
    if not split.is_file():
        raise ValueError(
            f"There is no split list at {split}; docs/benchmarks.md and docs/training.md say where each one comes from."
        )
    try:
        text = split.read_text(encoding="utf-8-sig")  # editors on Windows begin a file with a mark
    except UnicodeDecodeError as error:
        raise ValueError(f"{split} is not a text file; a split list has one line an image.") from error
    lines = [line.strip() for line in text.split("\n") if line.strip()]
    if not lines:
        raise ValueError(f"The split list {split} is empty; a split list has one line an image.")
    return lines


def fields_of(line: list[str], count: int, split: Path, example: str) -> list[str]:
    """The first fields of a line of a split list.

    Raises:
        ValueError: the line has fewer than `count` of them.
    """
    if len(line) < count:
        raise ValueError(
            f"A line of {split} is {' '.join(line)!r}; {count} fields or more are needed, as in {example!r}."
        )
    return line[:count]


def check_names(entries: Sequence[Entry]) -> None:
    """Raises ValueError for an image that stands twice in a list: it would count once, and another be missed."""
    ((name, count),) = Counter(entry.name for entry in entries).most_common(1)
    if count > 1:
        raise ValueError(f"{name} is listed {count} times; a split list has one line an image. Correct the list.")


def digest_images(entries: Sequence[Entry]) -> str:
    """SHA-256 of the images' names and sizes in bytes: the same for the same images, wherever they lie."""
    told = (f"{entry.name} {[path.stat().st_size for path in (entry.image, entry.depth)]}\n" for entry in entries)
    return hashlib.sha256("".join(sorted(told)).encode()).hexdigest()


def require_folder(root: Path, data_set: str, remedy: str = _FETCH) -> Path:
    """`root`, which is a folder.

    Args:
        root: the folder.
        data_set: whose files it holds.
        remedy: what to do where it is missing.

    Raises:
        ValueError: it is not; an archive is to be extracted first.
    """
    root = Path(root)
    if root.is_file():
        raise ValueError(f"{root} is a file; extract it and give the folder with {data_set}'s files.")
    if not root.is_dir():
        raise ValueError(f"There is no folder {root} with {data_set}'s files; {remedy}.")
    return root


def first_existing(candidates: Iterable[Path], data_set: str) -> Path:
    """The first candidate that is a file.

    Raises:
        ValueError: none is; all places that were looked at are named.
    """
    candidates = list(candidates)
    for candidate in candidates:
        if candidate.is_file():
            return candidate
    places = ", ".join(map(str, candidates))
    raise ValueError(
        f"A file of {data_set} is missing; looked for {places}. "
        "Check that the root is the folder the archive was extracted into and that the archive is complete."
    )


def nothing_found(root: Path, data_set: str, patterns: Iterable[str]) -> ValueError:
    """The error for a folder in which no image of a data set lies."""
    return ValueError(
        f"{root} holds nothing of {data_set}; looked for {' and '.join(patterns)}. "
        "Check that the root is the folder the archive was extracted into; the layouts stand in docs/benchmarks.md and "
        "docs/training.md."
    )


def list_needed(root: Path, data_set: str, reason: str, source: str) -> ValueError:
    """The error for a folder whose content does not say which images are the benchmark's."""
    return ValueError(f"{data_set} in {root} needs a split list (--split): {reason}. The benchmark's list is {source}.")
