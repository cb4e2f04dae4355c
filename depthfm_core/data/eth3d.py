"""ETH3D's high-resolution training scenes: 454 pictures of an SLR camera with depth of a laser scanner.

Two layouts: Marigold's archive (`eth3d.tar`: `rgb/SCENE/...` and `depth/SCENE_dslr_depth/SCENE/...`), and the original
archives extracted into one folder (`SCENE/images/...`, `SCENE/ground_truth_depth/...`). A depth map has the name of
its picture (*.JPG) but is raw: little-endian float32 row after row without a header, infinite where nothing was
measured. Its size is the picture's, 4032 x 6048. Every measured pixel counts (depth above 1e-5 m).

Source: Schoeps et al. 2017, https://www.eth3d.net/documentation; range: Marigold, `src/dataset/eth3d_dataset.py`.
"""

import math
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from .entries import Entry, first_existing, nothing_found, read_split, require_folder
from .rasters import between, make_sample, read_rgb, read_size
from .sample import DepthSample

NAME = "eth3d"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-5, math.inf
EXAMPLE = (
    "rgb/office/images/dslr_images/DSC_0219.JPG "
    "depth/office_dslr_depth/office/ground_truth_depth/dslr_images/DSC_0219.JPG"
)
# The other seven scenes are indoors: Schoeps et al. 2017, figure 6.
OUTDOOR_SCENES = ("courtyard", "electro", "facade", "meadow", "playground", "terrace")
_IMAGES, _DEPTHS = "images/dslr_images", "ground_truth_depth/dslr_images"


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The pictures that have a depth map, in the list's order, or by scene and name without a list.

    Args:
        root: the folder into which Marigold's archive, or the original ones, were extracted.
        split: Marigold's list, of picture and depth map; the picture says where its depth map lies.

    Raises:
        ValueError: files or the list are missing or of another form.
    """
    root = require_folder(root, "ETH3D")
    if split is not None:
        return [_entry(root, PurePosixPath(line[0])) for line in read_split(split)]
    patterns = (f"depth/*_dslr_depth/*/{_DEPTHS}/*.JPG", f"*/{_DEPTHS}/*.JPG")
    depths = [path for pattern in patterns for path in root.glob(pattern)]
    if not depths:
        raise nothing_found(root, "ETH3D", patterns)
    frames = sorted({(path.parents[2].name, path.name) for path in depths})
    return [_entry(root, PurePosixPath(scene, _IMAGES, name)) for scene, name in frames]


def read(entry: Entry) -> DepthSample:
    """One picture at its full size; `valid` is the protocol's mask.

    Raises:
        ValueError: a file that cannot be read, or a depth map that does not have the picture's number of pixels.
    """
    depth_m = _read_raw(entry.depth, read_size(entry.image))
    return make_sample(read_rgb(entry.image), depth_m, between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M), entry.image)


def domain_of(entry: Entry) -> str:
    """Whether a picture is "indoor" or "outdoor", by its scene."""
    return "outdoor" if entry.name.partition("/")[0] in OUTDOOR_SCENES else "indoor"


def _entry(root: Path, image: PurePosixPath) -> Entry:
    """The picture .../SCENE/images/dslr_images/NAME and its depth map, in whichever layout they lie."""
    if len(image.parts) < 4:
        raise ValueError(f"{image} is no picture of ETH3D; a line of its list is {EXAMPLE!r}.")
    scene, name = image.parts[-4], image.name
    images = (root / folder / scene / _IMAGES / name for folder in ("rgb", "."))
    depths = (root / folder / scene / _DEPTHS / name for folder in (f"depth/{scene}_dslr_depth", "."))
    paths = (first_existing(candidates, "ETH3D") for candidates in (images, depths))
    return Entry(f"{scene}/{image.stem}", *paths)


def _read_raw(path: Path, size: tuple[int, int]) -> Tensor:
    values = np.fromfile(path, dtype="<f4")
    if values.size != size[0] * size[1]:
        raise ValueError(
            f"{path} holds {values.size} numbers, but its picture is {size[1]}x{size[0]} pixels; take the pictures "
            "of the archives *_dslr_jpg (not the undistorted ones) and depth maps that were downloaded whole."
        )
    return torch.from_numpy(values.reshape(size).astype(np.float32))[None]
