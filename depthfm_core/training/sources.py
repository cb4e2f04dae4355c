"""Where training frames come from: each data set of a recipe as frames to train on and held-out frames.

A frame carries the call that reads it, so that the stages need not know what kind of data set it is of.
"""

import dataclasses
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from tqdm import tqdm

from ..data import hypersim, pairs, vkitti2
from ..data.entries import Entry
from ..data.folder import DEPTH_SUFFIX, IMAGE_SUFFIX, list_frames, read_frame
from ..data.photos import photos_in
from ..data.sample import DepthSample
from ..replacing import write_text

_LISTS = "lists"
_SHOWS_DEPTH = re.compile(r"(^|_)depth(_mm)?$")  # the end of a picture's name, without its suffix


@dataclass(frozen=True)
class DataSetSettings:
    """One data set to train on.

    Attributes:
        kind: one of `KINDS`.
        root: its folder, absolute or below the output folder.
        name: what its latents are called, unlike any other; "" = the kind.
        share: how many of the batches are drawn from it, in proportion to the other data sets' shares; 0, which then
            holds for all data sets, mixes all of their views in each batch.
        split: which part to train on (hypersim: train, val, test; vkitti2: train, val).
        held_out_split: the part that held-out frames are taken from, evenly; "" = val, scenes that are not in train.
        frame_list: a file that lists the frames of `split`, absolute or below the output folder; "" = all of them.
        held_out_list: a file that lists frames of `split` to take the held-out ones from, evenly; none of it is trained
            on. "" = `held_out_split`; for kinds without it the first frames, by name or as `frame_list` has them.
        complete_only: whether to leave out frames of `split` with pixels of unknown depth. Stage `frames` reads all
            depth maps for that, once, and keeps the names in `lists/NAME.txt`.
        variations: of Virtual KITTI 2.
        crop: whether to cut Virtual KITTI 2's frames to the KITTI benchmark's 352 x 1216.
        max_depth_m: from where on depth of pairs does not count, in metres: maps may hold a large number for the sky.

    Raises:
        ValueError: an unknown kind, a name that `check_name` refuses, a share that is negative or not finite, a largest
            depth that is not positive, an option that the kind does not have, or held-out frames of a split and of a
            list.
    """

    kind: str
    root: str
    name: str = ""
    share: float = 0.0
    split: str = "train"
    held_out_split: str = ""
    frame_list: str = ""
    held_out_list: str = ""
    complete_only: bool = False
    variations: tuple[str, ...] = vkitti2.MARIGOLD_VARIATIONS
    crop: bool = False
    max_depth_m: float = math.inf

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"Unknown kind of data set {self.kind!r}; choose one of {', '.join(KINDS)}.")
        check_name("the name of a data set", self.label)
        if not 0 <= self.share < math.inf:
            raise ValueError(f"The share of {self.label} is {self.share}; it must be positive, or 0 for no shares.")
        if not self.max_depth_m > 0:
            raise ValueError(f"The max_depth_m of {self.label} is {self.max_depth_m}; it must be positive.")
        accepted = (*_COMMON, *KINDS[self.kind].options)
        given = [field.name for field in dataclasses.fields(self) if getattr(self, field.name) != field.default]
        foreign = [name for name in given if name not in accepted]
        if foreign:
            raise ValueError(f"A {self.kind} data set has no {', '.join(foreign)}; it takes {', '.join(accepted)}.")
        if self.held_out_split and self.held_out_list:
            raise ValueError(f"{self.label} has held_out_split and held_out_list; set one of them.")

    @property
    def label(self) -> str:
        """The name, which its latents are called by."""
        return self.name or self.kind


def check_name(what: str, name: str) -> None:
    """Raises ValueError for a name that results cannot lie under, as one file or folder."""
    if name in ("", ".", "..") or set(name) & set("/\\:"):
        raise ValueError(
            f"{name!r} is {what}, and results are called by it; choose one without /, \\ and :, as 'rooms'."
        )


class Frame(NamedTuple):
    """One picture with depth: the label of its data set, its name there, and the call that reads it.

    `source` tells frames of one name apart that hold something else, as the recipe says it: where they lie, and what of
    them is read. `sky_is_far` is its kind's.
    """

    data_set: str
    name: str
    read: Callable[[], DepthSample]
    source: str = ""
    sky_is_far: bool = True


class _Kind(NamedTuple):
    """The frames of a split below a root, and the options beside the common ones.

    `sky_is_far`: whether pixels without depth are the sky, as in what is rendered, or holes of a sensor, near ones too.
    `pictures`: those below a root with and without depth, where these make the data set.
    `held_out_split`: what to hold out unless it is said; the first frames of `split` would show what is trained on,
    from nearby or in other weather.
    """

    frames: Callable[[DataSetSettings, Path, str, Path | None], list[Frame]]
    options: tuple[str, ...] = ()
    sky_is_far: bool = True
    pictures: Callable[[Path], list[Path]] | None = None
    held_out_split: str = ""


def folder_frames(folder: Path, label: str) -> list[Frame]:
    """The frames of a folder in the form of the synthetic scenes, by name. Errors: `list_frames`."""
    return [Frame(label, path.name, partial(read_frame, path)) for path in list_frames([folder])]


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
    return sum(not _SHOWS_DEPTH.search(path.stem) for path in pictures(output / settings.root)) - paired


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
    listed = _frame_list(settings, output)
    return KINDS[settings.kind].frames(settings, output / settings.root, settings.split, listed)


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
    """The names in a list; None if it was made of something else, which lists of earlier versions do not say."""
    lines = path.read_text(encoding="utf-8").splitlines()
    told = [line for line in lines if line.startswith("# ")]
    return set(lines) - set(told) if told in ([], [_listed_of(settings)]) else None


def spread(frames: Sequence[Frame], count: int) -> list[Frame]:
    """At most `count` of the frames, evenly spread over all."""
    count = min(count, len(frames))
    return [frames[index * len(frames) // count] for index in range(count)]


def _from_entries(settings: DataSetSettings, entries: list[Entry], read: Callable[[Entry], DepthSample]) -> list[Frame]:
    source = f"{settings.root}, cropped" if settings.crop else settings.root
    if settings.max_depth_m < math.inf:
        source = f"{source}, below {settings.max_depth_m} m"
    far = KINDS[settings.kind].sky_is_far
    return [Frame(settings.label, entry.name, partial(read, entry), source, far) for entry in entries]


def _of_folder(settings: DataSetSettings, root: Path, _split: str, _listed: Path | None) -> list[Frame]:
    return [frame._replace(source=settings.root) for frame in folder_frames(root, settings.label)]


def _of_pairs(settings: DataSetSettings, root: Path, _split: str, listed: Path | None) -> list[Frame]:
    read = partial(pairs.read, max_depth_m=settings.max_depth_m)
    return _from_entries(settings, pairs.list_entries(root, listed), read)


def _of_hypersim(settings: DataSetSettings, root: Path, split: str, listed: Path | None) -> list[Frame]:
    return _from_entries(settings, hypersim.list_entries(root, split, listed), hypersim.read)


def _of_vkitti2(settings: DataSetSettings, root: Path, split: str, listed: Path | None) -> list[Frame]:
    entries = vkitti2.list_entries(root, split, settings.variations, listed)
    return _from_entries(settings, entries, partial(vkitti2.read, crop=settings.crop))


_COMMON = ("kind", "root", "name", "share")
KINDS: dict[str, _Kind] = {
    # NAME_rgb.jpg with NAME_depth_mm.png in one folder, as the synthetic scenes are kept.
    "frames": _Kind(_of_folder, pictures=photos_in),
    # Pictures with depth maps in any layout of `data.pairs`, also in folders below.
    "pairs": _Kind(
        _of_pairs,
        ("frame_list", "held_out_list", "max_depth_m"),
        sky_is_far=False,
        pictures=partial(photos_in, below=True),
    ),
    "hypersim": _Kind(
        _of_hypersim,
        ("split", "held_out_split", "frame_list", "held_out_list", "complete_only"),
        held_out_split="val",
    ),
    "vkitti2": _Kind(
        _of_vkitti2,
        ("split", "held_out_split", "frame_list", "held_out_list", "variations", "crop"),
        held_out_split="val",
    ),
}
