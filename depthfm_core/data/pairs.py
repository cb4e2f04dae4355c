"""A folder of one's own: pictures with depth maps, in any of four layouts, also below further folders.

    NAME/image.png  with  NAME/depth.npy     metres, 0, NaN or infinite where nothing was measured
    NAME.png        with  NAME.npy           the same
    NAME.png        with  NAME_depth.png     16-bit gray, millimetres, 0 where nothing was measured, 65535 where depth
                                             was too large to be stored
    NAME_rgb.jpg    with  NAME_depth_mm.png  the same; the form of the synthetic scenes

Pictures may be of any format that is read, whatever the layout. They are turned upright by their EXIF tag as in
`predict`, so a depth map belongs to the upright picture.
"""

import math
import re
from collections.abc import Iterable, Sequence
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from ..depth.files import read_image
from .entries import Entry, read_lines, require_folder
from .folder import KNOWN_UP_TO_M
from .photos import is_hidden, photos_in, read_suffixes
from .rasters import between, make_sample, read_npy, read_png_m
from .sample import DepthSample

NAME = "folder"
MIN_DEPTH_M, MAX_DEPTH_M = 0.0, math.inf
# Ends of lines, and what Python makes of a file name's bytes that are no UTF-8.
_UNFIT = re.compile("[\n\r\ud800-\udfff]")
# End of the picture's path without its suffix -> end of the depth map's with it.
_LAYOUTS = (("/image", "/depth.npy"), ("", ".npy"), ("", "_depth.png"), ("_rgb", "_depth_mm.png"))
_USUAL = (".png", ".jpg", ".jpeg")  # of photographs; beside one, a TIFF is its original and a GIF a preview
_SHOWS_DEPTH = re.compile(r"(^|_)depth(_mm)?$")  # the end of a picture's name, without its suffix


class _Pair(NamedTuple):
    """NAME, and where its picture and depth map lie in the folder."""

    name: str
    image: str
    depth: str


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The pairs below a folder, by name (in the list's order with a list).

    Pictures without depth are left out, and hidden files, as a Mac leaves them (`._NAME.png`). Of several pictures with
    one depth map the PNG or JPEG is taken.

    Args:
        root: the folder.
        split: a list of NAMEs, one a line, relative to `root`, for a part of the pairs.

    Raises:
        ValueError: no such folder, no pair in it, two depth maps for one picture or two usual pictures for one depth
            map, a file name that is no line of UTF-8, or a name that is not there.
    """
    root = require_folder(root, "your data set", "name the one that holds them")
    found = (path for path in root.rglob("*") if path.is_file())
    files = {path.as_posix() for path in (path.relative_to(root) for path in found) if not is_hidden(path)}
    suffixes = read_suffixes()
    pictures = [file for file in sorted(files) if PurePosixPath(file).suffix.lower() in suffixes]
    pairs = [
        _Pair(_name(image, layout), image, depth)
        for image in pictures
        for layout in _LAYOUTS
        if (depth := _depth_of(image, layout)) in files
    ]
    if not pairs:
        ends = "; ".join(f"NAME{image}.jpg (.png, ...) with NAME{depth}" for image, depth in _LAYOUTS)
        raise ValueError(f"{root} holds no picture with a depth map; looked for {ends}.")
    chosen = _unambiguous(pairs, root)
    entries = {pair.name: Entry(pair.name, root / pair.image, root / pair.depth) for pair in chosen}
    return list(entries.values()) if split is None else _chosen(entries, root, split)


def read(entry: Entry, *, max_depth_m: float = MAX_DEPTH_M) -> DepthSample:
    """One pair; `valid` where depth was measured.

    Args:
        entry: as `list_entries` gives it.
        max_depth_m: from where on depth does not count, in metres.

    Raises:
        ValueError: a file that cannot be read, or files of different sizes.
    """
    is_npy = entry.depth.suffix == ".npy"
    depth_m = read_npy(entry.depth) if is_npy else read_png_m(entry.depth, 1000)
    valid = between(depth_m, MIN_DEPTH_M, max_depth_m if is_npy else min(max_depth_m, KNOWN_UP_TO_M))
    return make_sample(read_image(entry.image)[0], depth_m, valid, entry.image)


def _unambiguous(pairs: Sequence[_Pair], root: Path) -> list[_Pair]:
    """A pair for each depth map, of the usual kind of picture where there are several; ValueError for what is left."""
    usual = {pair.depth for pair in pairs if _is_usual(pair.image)}
    chosen = [pair for pair in pairs if _is_usual(pair.image) or pair.depth not in usual]
    by_name: dict[str, _Pair] = {}
    by_image: dict[str, _Pair] = {}  # one may be in two layouts
    for pair in chosen:
        name, image, depth = pair
        if _UNFIT.search(name):
            raise ValueError(f"The file name {name!a} in {root} is no line of UTF-8 text, as a table needs; rename it.")
        if before := by_name.get(name) or by_image.get(image):
            raise ValueError(
                f"{name} in {root} has more than one picture or depth map ({before.image} with {before.depth}, {image} "
                f"with {depth}); keep one pair of them."
            )
        by_name[name] = by_image[image] = pair
    return chosen


def _is_usual(image: str) -> bool:
    return image.lower().endswith(_USUAL)


def _chosen(entries: dict[str, Entry], root: Path, split: Path) -> list[Entry]:
    names = read_lines(split)  # whole lines: a NAME may hold spaces
    missing = [name for name in names if name not in entries]
    if missing:
        raise ValueError(
            f"{missing[0]!r} in {split} is no pair below {root}, which has {', '.join(list(entries)[:5])}."
        )
    return [entries[name] for name in names]


def count_others(pictures: Iterable[Path], num_pairs: int) -> int:
    """How many pictures are in none of so many pairs; those that show depth themselves do not count."""
    return sum(not _SHOWS_DEPTH.search(path.stem) for path in pictures) - num_pairs


def describe_others(root: Path, num_pairs: int) -> str | None:
    """How many pictures below a folder have no depth map, in words; None without any.

    Args:
        root: as of `list_entries`.
        num_pairs: how many that found without a list.
    """
    others = count_others(photos_in(root, below=True), num_pairs)
    if not others:
        return None
    return f"{others} other picture{'s' if others > 1 else ''} without a depth map in a layout of docs/benchmarks.md"


def _depth_of(image: str, layout: tuple[str, str]) -> str | None:
    """Where the depth of a picture would be; None for one of another layout, or that shows depth itself."""
    end, depth_end = layout
    path = PurePosixPath(image)
    has_layout = image.lower().endswith(end + path.suffix.lower())
    return _name(image, layout) + depth_end if has_layout and not _SHOWS_DEPTH.search(path.stem) else None


def _name(image: str, layout: tuple[str, str]) -> str:
    """NAME of a picture of this layout."""
    return image[: -len(layout[0] + PurePosixPath(image).suffix)]
