"""800 frames sampled from ScanNet's validation scenes, indoor pictures of a tablet's depth sensor.

Two layouts: Marigold's archive (`scannet_val_sampled_800_1.tar`: `SCENE/color/000300.jpg`, `SCENE/depth/000300.png`),
and what ScanNet's own exporter writes from the `.sens` files (`SCENE/color/300.jpg`). Exported pictures (1296 x 968)
are larger than the depth maps (640 x 480); they are then scaled to the depth map, which is never resampled. Depth
counts between 1 mm and 10 m, both excluded.

Source: Dai et al. 2017, http://www.scan-net.org; sampling and range: Marigold, `src/dataset/scannet_dataset.py`.
"""

from collections.abc import Iterator
from pathlib import Path

from torch import Tensor

from ..resize import shrink
from .entries import Entry, fields_of, first_existing, list_needed, nothing_found, read_split, require_folder
from .rasters import between, check_sizes, make_sample, read_png_m, read_rgb
from .sample import DepthSample

NAME = "scannet"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-3, 10.0
SPLIT_SOURCE = "data_split/scannet_depth/scannet_val_sampled_list_800_1.txt in the repository prs-eth/Marigold"
EXAMPLE = "scene0406_02/color/000300.jpg scene0406_02/depth/000300.png"
_ARCHIVE_DIGITS = 6
_SAME_SHAPE = 0.01


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The frames, in the list's order, or by scene and number without a list.

    Args:
        root: the folder into which the archive was extracted, or the one with the exported scenes.
        split: Marigold's list, of picture and depth map. Needed for exported scenes, which hold every frame.

    Raises:
        ValueError: files or the list are missing or of another form.
    """
    root = require_folder(root, "ScanNet")
    if split is not None:
        return [_entry(root, *fields_of(line, 2, split, EXAMPLE)) for line in read_split(split)]
    images = sorted(root.glob("scene*/color/*.jpg"))
    if not images:
        raise nothing_found(root, "ScanNet", ("SCENE/color/*.jpg",))
    if any(len(image.stem) < _ARCHIVE_DIGITS for image in images):
        raise list_needed(root, "ScanNet", "the folder holds exported scenes with all their frames", SPLIT_SOURCE)
    names = [image.relative_to(root) for image in images]
    return [_entry(root, name.as_posix(), f"{name.parts[0]}/depth/{name.stem}.png") for name in names]


def read(entry: Entry) -> DepthSample:
    """One frame at the depth map's size; `valid` is the protocol's mask.

    Raises:
        ValueError: a file that cannot be read, or a picture that is smaller than its depth map or of another shape.
    """
    depth_m = read_png_m(entry.depth, 1000)
    image = read_rgb(entry.image)
    if not _is_larger_alike(image, depth_m):
        check_sizes(image, depth_m, entry.image)
    image = shrink(image[None], tuple(depth_m.shape[1:]))[0].clamp(0, 1)
    return make_sample(image, depth_m, between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M), entry.image)


def _entry(root: Path, image: str, depth: str) -> Entry:
    paths = (first_existing(_spellings(root, name), "ScanNet") for name in (image, depth))
    return Entry(image.rpartition(".")[0], *paths)


def _spellings(root: Path, name: str) -> Iterator[Path]:
    """The archive's file name, and the exporter's, which has no leading zeros."""
    path = root / name
    yield path
    if path.stem.isdecimal():
        yield path.with_stem(str(int(path.stem)))


def _is_larger_alike(image: Tensor, depth_m: Tensor) -> bool:
    """Whether a picture is larger than its depth map and of its shape, as exported ones are (to within 0.4 %)."""
    down, across = (image.shape[axis] / depth_m.shape[axis] for axis in (1, 2))
    return min(down, across) >= 1 and abs(down / across - 1) <= _SAME_SHAPE
