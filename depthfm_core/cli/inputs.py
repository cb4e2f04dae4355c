"""The pictures that `predict` is given, and what their results are called."""

import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from glob import glob
from itertools import chain, count
from pathlib import Path

from ..data.photos import any_photo_below, describe_unread, photos_in


def expand_wildcards(inputs: Iterable[Path]) -> list[Path]:
    """The paths, and for one with * or ? that is not there itself the files it stands for, which no Windows shell does.

    Raises:
        ValueError: for an address, or where nothing matches.
    """
    return [path for given in inputs for path in _expanded(given)]


def _expanded(path: Path) -> list[Path]:
    if re.match("https?:/", path.as_posix()):  # before ?, which addresses may hold
        raise ValueError(f"{path.name} has an address, and these are not fetched; save the picture, and name its file.")
    if path.exists() or not set("*?") & set(str(path)):
        return [path]
    matches = sorted(map(Path, glob(str(path).replace("[", "[[]"))))  # [ is a letter of names, as on Windows
    if not matches:
        raise ValueError(f"Nothing matches {path}; check the spelling and the current folder.")
    return matches


def find_images(inputs: Iterable[Path], output: Path, *, recursive: bool = False) -> dict[Path, str]:
    """The pictures themselves, and of folders the files in them with a picture's suffix, sorted by name, each once.

    Args:
        inputs: pictures and folders.
        output: where the results go; it is left out where it lies in a folder that is searched.
        recursive: also takes the pictures of all folders inside.

    Returns:
        Picture -> the name of its results, of which no two are alike on any disk: STEM or, with `recursive`, the
        picture's own folder below the one that was given goes before it, FOLDER/STEM.

    Raises:
        ValueError: for a path that does not exist, or a folder without pictures.
    """
    once: dict[str, tuple[Path, Path]] = {}
    for path in inputs:
        for image in _photos_of(path, output, recursive) if path.is_dir() else [path]:
            if not image.exists():
                raise ValueError(f"{image} does not exist; check the spelling and the current folder.")
            inside = image.parent.relative_to(path) if path.is_dir() else Path()
            once.setdefault(os.path.normcase(image.parent.resolve() / image.name), (image, inside))
    return _names_by_folder(dict(once.values()))


def unread_photos(inputs: Iterable[Path], output: Path, *, recursive: bool = False) -> Iterator[str]:
    """A sentence for each folder with photographs in formats that are not read. Arguments: `find_images`."""
    told = (describe_unread(path, below=recursive, without=output) for path in inputs if path.is_dir())
    return (sentence for sentence in told if sentence)


def _photos_of(folder: Path, output: Path, recursive: bool) -> list[Path]:
    try:
        return photos_in(folder, below=recursive, without=output)
    except ValueError as error:
        if any_photo_below(folder, output):
            raise ValueError(
                f"{folder} holds no pictures itself, but the folders in it do; add --recursive to take those."
            ) from error
        raise


def _names_by_folder(folders: Mapping[Path, Path]) -> dict[Path, str]:
    """Of picture -> its results' folder: picture -> FOLDER/NAME. Folders, too, are alike that differ in case alone."""
    together = defaultdict(list)
    for image, folder in folders.items():
        together[folder.as_posix().casefold()].append(image)
    names = {image: name for images in together.values() for image, name in _result_names(images).items()}
    return {image: (folder / names[image]).as_posix() for image, folder in folders.items()}


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
