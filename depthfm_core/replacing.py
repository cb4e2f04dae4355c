"""A file or folder that is there whole or not at all: written beside its target, and put in its place at the end."""

import hashlib
import json
import os
import shutil
import sys
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from glob import escape
from pathlib import Path

ABANDONED_AFTER_S = 24 * 3600  # what is half written and younger, another process may be writing
_TRIES, _TRY_AGAIN_AFTER_S = 10, 0.1
_NAME_CHARACTERS = 40  # of the target's name in the temporary one: with four bytes each they fit the 255 of most disks


@contextmanager
def replacing(path: Path, *, durable: bool = False) -> Iterator[Path]:
    """A temporary path beside `path` that takes its place if the block succeeds, and is gone if not.

    A process that is killed leaves the old file as it was, and the temporary one, for `remove_leftovers`.

    Args:
        path: the target; its folder must exist.
        durable: whether to wait until the new file is on the disk, so that a power failure too leaves one of the two.
            For what took hours to compute; it is too slow for pictures.
    """
    temporary = _temporary(path)
    try:
        yield temporary
        if durable:
            with temporary.open("rb+") as file:
                os.fsync(file.fileno())
        _move(temporary, path)
        if durable:
            _sync_folder(path.parent)
    finally:
        with suppress(OSError):  # it took its place, or was not written, or is held: the error that counts is another
            temporary.unlink()


class OutputError(ValueError):
    """A file that cannot be written: which one, what is wrong, what to do."""


@contextmanager
def replacing_output(path: str | Path) -> Iterator[Path]:
    """As `replacing`, for what a user asked to have written.

    Raises:
        OutputError: the folder does not exist, or the file cannot be written.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise OutputError(f"Cannot write {path}: the folder {path.parent} does not exist; make it first.")
    try:
        with replacing(path) as temporary:
            yield temporary
    except (OSError, RuntimeError) as error:  # OpenEXR raises RuntimeError
        raise OutputError(
            f"Cannot write {path} ({error}). Is it a folder, read-only or in use, or is the disk full?"
        ) from error


def write_text(path: str | Path, text: str) -> None:
    """Writes text as UTF-8. Errors: `replacing_output`."""
    with replacing_output(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def write_json(path: str | Path, content: object) -> None:
    """Writes what JSON can say, to be read by people too. Errors: `replacing_output`."""
    write_text(path, json.dumps(content, indent=2))


@contextmanager
def replacing_folder(path: Path) -> Iterator[Path]:
    """A temporary folder beside `path` that takes its place if the block succeeds, and is gone if not.

    Its files are on the disk by then. What was at `path` before is removed, or stays whole where the system does not
    let it go; of two processes that write the same folder, one's stays.

    Args:
        path: the target, whose parent must exist.
    """
    temporary = _temporary(path)
    temporary.mkdir()
    try:
        yield temporary
        for file in filter(Path.is_file, temporary.iterdir()):
            with file.open("rb+") as written:
                os.fsync(written.fileno())
        _exchange(temporary, path)
        _sync_folder(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _exchange(new: Path, path: Path) -> None:
    """Puts a folder in the place of another."""
    old = _temporary(path)
    if path.is_dir():
        with suppress(FileNotFoundError):  # the other process has just taken it away
            _move(path, old)
    try:
        _move(new, path)
    except OSError:
        if not path.is_dir():  # or the other process was quicker
            if old.is_dir():
                _move(old, path)
            raise
    shutil.rmtree(old, ignore_errors=True)


def remove_folder(path: Path) -> None:
    """Removes a folder, all of it or nothing: under its name there is never a part.

    Raises:
        OSError: it is not there, or another process has one of its files open, under Windows.
    """
    going = _temporary(path)
    _move(path, going)
    shutil.rmtree(going, ignore_errors=True)


def _temporary(path: Path) -> Path:
    return path.with_name(f"{_beginning(path)}{uuid.uuid4().hex[:8]}.tmp")


def _move(source: Path, target: Path) -> None:
    """Renames a file or a folder; under Windows it waits a second for a scanner that has just opened what is new."""
    for _ in range(_TRIES - 1 if sys.platform == "win32" else 0):
        try:
            return os.replace(source, target)
        except PermissionError:
            time.sleep(_TRY_AGAIN_AFTER_S)
    return os.replace(source, target)


def is_same(path: Path, other: Path) -> bool:
    """Whether two paths are one file or folder that is there, however they are spelled.

    Disks of Windows and macOS know `Model` by the name `model` too, and any path may lead through a link.
    """
    return path.exists() and other.exists() and os.path.samefile(path, other)


def remove_leftovers(path: Path, *, after_s: float = 0) -> None:
    """Removes the temporary files and folders of processes that were killed while they wrote `path`.

    Args:
        path: the target.
        after_s: how many seconds they must be old, where another process may be writing it.
    """
    for leftover in path.parent.glob(f"{escape(_beginning(path))}*.tmp"):
        with suppress(FileNotFoundError):  # that process has just ended
            if time.time() - leftover.stat().st_mtime < after_s:
                continue
            if leftover.is_dir():
                shutil.rmtree(leftover, ignore_errors=True)
            else:
                leftover.unlink()


def _beginning(path: Path) -> str:
    """How the temporary names of a target begin, and those of no other, which another process may be writing."""
    digest = hashlib.sha256(os.fsencode(path.name)).hexdigest()[:8]
    return f".{path.name[:_NAME_CHARACTERS]}.{digest}."


def _sync_folder(folder: Path) -> None:
    """Puts the new name on the disk, where the system can: Windows opens no folders, some file systems sync none."""
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
