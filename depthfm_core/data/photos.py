"""Photographs in folders, told from other files by their suffixes; none is opened."""

from collections.abc import Iterator
from pathlib import Path

from PIL import Image

from ..depth.picture_decoding import NOT_DECODED
from ..replacing import is_same

# Of photographs that Pillow reads with a plugin, if at all: phones' and cameras' own.
_FOREIGN = {".heic", ".heif", ".hif", ".avif", ".jxl", ".hdr", ".exr", ".raw"}
_FOREIGN |= {".dng", ".cr2", ".cr3", ".nef", ".arw", ".raf", ".orf", ".rw2", ".pef"}


def photos_in(folder: Path, *, below: bool = False, without: Path | None = None) -> list[Path]:
    """The files with a picture's suffix, sorted by path; hidden files, and those in hidden folders, are left out.

    Args:
        folder: where to look.
        below: also in the folders inside it, and inside those.
        without: one of these that is left out with all that is in it.

    Raises:
        ValueError: for a folder without pictures.
    """
    images = sorted(_files_of(folder, read_suffixes(), below, without))
    if not images:
        unread = describe_unread(folder, below=below, without=without)
        advice = unread or "name files, or a folder with files like .jpg, .png or .webp."
        raise ValueError(f"{folder} holds no pictures; {advice}")
    return images


def any_photo_below(folder: Path, without: Path) -> bool:
    """Whether `photos_in` finds one in the folders inside; it looks no further than to the first."""
    return any(True for _ in _files_of(folder, read_suffixes(), True, without))


def describe_unread(folder: Path, *, below: bool = False, without: Path | None = None) -> str | None:
    """How many photographs in a folder are in formats that are not read, in one sentence; None without any."""
    files = list(_files_of(folder, _FOREIGN - read_suffixes(), below, without))
    if not files:
        return None
    kinds = ", ".join(sorted({file.suffix.lower() for file in files}))
    count = "1 photograph" if len(files) == 1 else f"{len(files)} photographs"
    return f"{folder} has {count} in formats that are not read ({kinds}); save as .jpg or .png."


def read_suffixes() -> set[str]:
    """Suffixes of pictures that are read, in lower case with their dot."""
    kinds = Image.registered_extensions()
    return {suffix for suffix, kind in kinds.items() if kind in Image.OPEN and kind not in NOT_DECODED}


def _files_of(folder: Path, suffixes: set[str], below: bool, without: Path | None) -> Iterator[Path]:
    found = (path for path in folder.glob("**/*" if below else "*") if path.suffix.lower() in suffixes)
    for path in found:
        inside = path.relative_to(folder)
        if is_hidden(inside) or not path.is_file():
            continue
        parents = [folder / parent for parent in inside.parents[:-1]]  # the last one is the folder itself
        if without is None or not any(is_same(parent, without) for parent in parents):
            yield path


def is_hidden(path: Path) -> bool:
    """Whether a path, relative to the folder that is searched, is of a hidden file or goes through a hidden folder."""
    return any(part.startswith(".") for part in path.parts)
