"""The pictures that `predict` is given, and what their results are called."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count
from pathlib import Path

from ..data.photos import describe_unread, photos_in


def find_images(inputs: Iterable[Path]) -> dict[Path, str]:
    """The pictures themselves, and of folders the files in them with a picture's suffix, sorted by name, each once.

    Returns:
        Picture -> the name of its results, of which no two are alike on any disk.

    Raises:
        ValueError: for a path that does not exist, or a folder without pictures.
    """
    found = [image for path in inputs for image in (photos_in(path) if path.is_dir() else [path])]
    for image in found:
        if not image.exists():
            raise ValueError(f"{image} does not exist; check the spelling and the current folder.")
    once: dict[str, Path] = {}
    for image in found:
        once.setdefault(os.path.normcase(image.parent.resolve() / image.name), image)
    return _result_names(list(once.values()))


def unread_photos(inputs: Iterable[Path]) -> Iterator[str]:
    """A sentence for each folder with photographs in formats that are not read."""
    told = (describe_unread(path) for path in inputs if path.is_dir())
    return (sentence for sentence in told if sentence)


def _result_names(images: Sequence[Path]) -> dict[Path, str]:
    """The shortest of STEM, STEM.suffix, FOLDER_STEM, FOLDER_STEM.suffix, ... that no other picture has, or a number.

    Names that differ in case alone are alike, since many disks take them for one.
    """
    told_apart = _telling_names(images)
    names, taken = {}, set()
    for image in images:
        name = told_apart.get(image, image.name)
        numbered = (f"{name}_{number}" for number in count(2))
        names[image] = next(free for free in chain([name], numbered) if free.casefold() not in taken)
        taken.add(names[image].casefold())
    return names


def _telling_names(images: Sequence[Path]) -> dict[Path, str]:
    """As `_result_names`, without the pictures that no such name tells from another one."""
    paths = {image: (image.parent.resolve() / image.name).parts[1:] for image in images}
    names: dict[Path, str] = {}
    for num_parts in range(1, 1 + max(map(len, paths.values()))):
        for last in ("stem", "name"):
            tried = {i: "_".join((*parts[-num_parts:-1], getattr(i, last))) for i, parts in paths.items()}
            alike = Counter(name.casefold() for name in chain(tried.values(), names.values()))
            names = {image: name for image, name in tried.items() if alike[name.casefold()] == 1} | names
    return names
