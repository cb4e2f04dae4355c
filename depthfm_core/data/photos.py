"""Photographs in folders, told from other files by their suffixes; none is opened."""

from pathlib import Path

from PIL import Image

from ..depth.decoding import NOT_DECODED


def photos_in(folder: Path, *, below: bool = False) -> list[Path]:
    """The files with a picture's suffix, sorted by path; hidden files, and those in hidden folders, are left out.

    Args:
        folder: where to look.
        below: also in the folders inside it, and inside those.

    Raises:
        ValueError: for a folder without pictures.
    """
    kinds = Image.registered_extensions()
    suffixes = {suffix for suffix, kind in kinds.items() if kind in Image.OPEN and kind not in NOT_DECODED}
    found = (path for path in folder.glob("**/*" if below else "*") if path.suffix.lower() in suffixes)
    images = sorted(path for path in found if path.is_file() and not is_hidden(path.relative_to(folder)))
    if not images:
        raise ValueError(f"{folder} holds no pictures; name files, or a folder with files like .jpg, .png or .webp.")
    return images


def is_hidden(path: Path) -> bool:
    """Whether a path, relative to the folder that is searched, is of a hidden file or goes through a hidden folder."""
    return any(part.startswith(".") for part in path.parts)
