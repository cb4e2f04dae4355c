"""Where training frames come from: the kinds of data sets that a recipe can name, and the frames of each.

A frame carries the call that reads it, so that the stages need not know what kind of data set it is of.
"""

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..data import hypersim, pairs, vkitti2
from ..data.entries import Entry
from ..data.folder import list_frames, read_frame
from ..data.photos import photos_in
from ..data.sample import DepthSample


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
