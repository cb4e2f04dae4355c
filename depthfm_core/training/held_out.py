"""Which frames of a data set are trained on: complete ones where the recipe wants these, and none that are held out."""

from collections.abc import Sequence
from pathlib import Path

from tqdm import tqdm

from ..data import hypersim, pairs
from ..data.folder import DEPTH_SUFFIX, IMAGE_SUFFIX
from ..replacing import write_text
from .sources import KINDS, DataSetSettings, Frame

_LISTS = "lists"


def source_frames(settings: DataSetSettings, output: Path, held_out: int) -> tuple[list[Frame], list[Frame]]:
    """The frames of a data set to train on, and `held_out` frames that are not.

    Args:
        settings: the data set.
        output: the folder that relative paths start from.
        held_out: how many to keep apart.

    Raises:
        ValueError: no such data set, one with nothing left to train on, a missing list of complete frames, or frames to
            train on of scenes that are held out.
    """
    frames = _listed(settings, output)
    if settings.complete_only:
        frames = _complete(frames, settings, output)
    if apart := _held_out_frames(settings, output):
        return _without(frames, apart, settings), spread(apart, held_out)
    if len(frames) <= held_out:
        where, remedy = output / settings.root, _remedy(frames, settings)
        raise ValueError(f"{where} has {len(frames)} frames and {held_out} are held out; {remedy}.")
    return frames[held_out:], frames[:held_out]


def _held_out_frames(settings: DataSetSettings, output: Path) -> list[Frame]:
    """The frames that held-out ones are taken from; none where they are the first of those to train on."""
    kind = KINDS[settings.kind]
    listed, split = settings.held_out_list, settings.held_out_split or kind.held_out_split
    if not listed and not split:
        return []
    try:
        if listed:
            return kind.frames(settings, output / settings.root, settings.split, output / listed)
        return kind.frames(settings, output / settings.root, split, None)
    except ValueError as error:
        which = f"held_out_list {listed!r}" if listed else f"held_out_split {split!r}"
        others = " Or name others in a held_out_list." if not listed and "held_out_list" in kind.options else ""
        raise ValueError(f"The frames to hold out of {settings.label}, {which}: {error}{others}") from error


def _without(frames: list[Frame], apart: list[Frame], settings: DataSetSettings) -> list[Frame]:
    """The frames that are not held out. A list may name any of them, but a split's scenes must be others."""
    if settings.held_out_list:
        names = {frame.name for frame in apart}
        kept = [frame for frame in frames if frame.name not in names]
        if not kept:
            raise ValueError(f"{settings.held_out_list} names all frames of {settings.label}; leave some to train on.")
        return kept
    scenes = {_scene(frame) for frame in apart}
    seen = [frame for frame in frames if _scene(frame) in scenes]
    if seen:
        raise ValueError(
            f"{settings.label} would train on {len(seen)} frames of scenes that held-out frames are taken from, as "
            f"{seen[0].name}; set another split or held_out_split, or leave these out of frame_list."
        )
    return frames


def _scene(frame: Frame) -> str:
    return frame.name.partition("/")[0]


def _remedy(frames: Sequence[Frame], settings: DataSetSettings) -> str:
    if frames or settings.kind != "frames":
        return "add some, or lower held_out in [frames]"
    return (
        f"looked for NAME{IMAGE_SUFFIX} with NAME{DEPTH_SUFFIX}. Pictures with depth maps of other names are a "
        '[[frames.datasets]] of kind = "pairs"'
    )


def count_others(settings: DataSetSettings, output: Path, paired: int) -> int:
    """How many pictures of a data set are no frames: without a depth map, or masks, normals and the like beside frames.

    0 where a list says what is in it.

    Args:
        settings, output: as of `source_frames`.
        paired: how many frames that found, held-out ones included.
    """
    pictures = KINDS[settings.kind].pictures
    if pictures is None or settings.frame_list or settings.held_out_list:
        return 0
    return pairs.count_others(pictures(output / settings.root), paired)


def find_complete_frames(settings: DataSetSettings, output: Path) -> None:
    """Reads all depth maps of a data set and lists the frames whose every pixel has depth, unless that was done."""
    path = _complete_list(settings, output)
    if path.exists() and _complete_names(path, settings) is not None:
        return
    entries = hypersim.list_entries(output / settings.root, settings.split, _frame_list(settings, output))
    names = [entry.name for entry in tqdm(entries, desc=f"{settings.label}: complete") if hypersim.is_complete(entry)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(f"{line}\n" for line in (_listed_of(settings), *names)))


def _listed(settings: DataSetSettings, output: Path) -> list[Frame]:
    _check_root(settings, output)
    listed = _frame_list(settings, output)
    return KINDS[settings.kind].frames(settings, output / settings.root, settings.split, listed)


def _check_root(settings: DataSetSettings, output: Path) -> None:
    """Raises ValueError where there is nothing at the root, and says where the recipe's paths start."""
    root = output / settings.root
    if root.exists():
        return
    render = "run stage frames where it is rendered, " if settings.kind == "frames" else ""
    start = (
        "" if root == Path(settings.root) else f" A relative path in a recipe starts at the output folder, {output}."
    )
    raise ValueError(
        f"There is no folder {root} with the data set {settings.label}; {render}correct its path in the recipe, or put "
        f"it there.{start} How its files lie stands in docs/training.md."
    )


def _frame_list(settings: DataSetSettings, output: Path) -> Path | None:
    return output / settings.frame_list if settings.frame_list else None


def _complete_list(settings: DataSetSettings, output: Path) -> Path:
    return output / _LISTS / f"{settings.label}.txt"


def _complete(frames: list[Frame], settings: DataSetSettings, output: Path) -> list[Frame]:
    path = _complete_list(settings, output)
    if not path.exists():
        raise ValueError(f"{path} is missing, the list of complete frames of {settings.label}; run stage frames first.")
    names = _complete_names(path, settings)
    if names is None:
        raise ValueError(f"{path} was made of another root, split or frame_list; run stage frames to make it again.")
    kept = [frame for frame in frames if frame.name in names]
    if not kept:
        raise ValueError(f"{path} names no frame of {settings.label}; if the data set has changed, delete that file.")
    return kept


def _listed_of(settings: DataSetSettings) -> str:
    """The first line of a list: what it was made of."""
    return f"# {settings.root}, {settings.split}, {settings.frame_list or 'all frames'}"


def _complete_names(path: Path, settings: DataSetSettings) -> set[str] | None:
    """The names in a list; None if it was made of something else, which its first line tells."""
    made_of, *names = path.read_text(encoding="utf-8").splitlines() or [""]
    return set(names) if made_of == _listed_of(settings) else None


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` of the frames, evenly spread over all."""
    count = min(count, len(frames))
    return [frames[index * len(frames) // count] for index in range(count)]
