"""DIODE's validation set: 325 indoor and 446 outdoor pictures with depth of a laser scanner, 768 x 1024.

Marigold's archive (`diode_val.tar`) and the original `val.tar.gz` differ by one folder, `val`. What counts is the mask
that comes with each depth map, without a range: that is Marigold's protocol, and at the borders of objects it keeps
values that mix near and far. The gradient filter, an option, follows Pixel-Perfect Depth and takes these out.

Source: Vasiljevic et al. 2019, https://diode-dataset.org; mask: Marigold, `src/dataset/diode_dataset.py`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from .entries import Entry, fields_of, first_existing, nothing_found, read_split, require_folder
from .rasters import between, make_sample, read_npy, read_rgb
from .sample import DepthSample

NAME = "diode"
MIN_DEPTH_M, MAX_DEPTH_M = 0.6, 350.0
MAX_GRADIENT_M = 0.3
EXAMPLE = "indoors/SCENE/SCAN/NAME.png indoors/SCENE/SCAN/NAME_depth.npy indoors/SCENE/SCAN/NAME_depth_mask.npy"
_FOLDERS = (".", "val")


def list_entries(root: Path, split: Path | None = None) -> list[Entry]:
    """The pictures of the validation set, in the list's order, or by name without a list.

    Args:
        root: the folder into which either archive was extracted.
        split: Marigold's list, of picture, depth map and mask.

    Raises:
        ValueError: files or the list are missing or of another form.
    """
    root = require_folder(root, "DIODE")
    if split is not None:
        return [_entry(root, *fields_of(line, 3, split, EXAMPLE)) for line in read_split(split)]
    patterns = [f"{folder}/*door*/scene_*/scan_*/*_depth.npy" for folder in _FOLDERS]
    depths = [
        (root / folder, path) for folder, pattern in zip(_FOLDERS, patterns, strict=True) for path in root.glob(pattern)
    ]
    if not depths:
        raise nothing_found(root, "DIODE", patterns)
    stems = sorted({path.relative_to(folder).as_posix().removesuffix("_depth.npy") for folder, path in depths})
    return [_entry(root, stem + ".png", stem + "_depth.npy", stem + "_depth_mask.npy") for stem in stems]


def read(entry: Entry, *, gradient_filter: bool = False) -> DepthSample:
    """One picture; `valid` is the protocol's mask.

    Args:
        entry: as `list_entries` gives it.
        gradient_filter: also leave out depth outside of 0.6 to 350 m (both excluded) and where the Sobel gradient of
            depth, |d/dx| + |d/dy|, is above `MAX_GRADIENT_M`.

    Raises:
        ValueError: a file that cannot be read, or files of different sizes.
    """
    depth_m, mask = read_npy(entry.depth), read_npy(entry.extra["mask"])
    if mask.shape != depth_m.shape:
        raise ValueError(f"{entry.extra['mask']} is {list(mask.shape[1:])}, its map {list(depth_m.shape[1:])}.")
    # Depth of 0 or less has no logarithm or inverse; the masks of the data set leave none in.
    valid = (mask != 0) & depth_m.isfinite() & (depth_m > 0)
    if gradient_filter:
        valid &= between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M) & (_gradient_m(depth_m) <= MAX_GRADIENT_M)
    return make_sample(read_rgb(entry.image), depth_m, valid, entry.image)


def domain_of(entry: Entry) -> str:
    """Whether a picture is "indoor" or "outdoor", by the folder that it lies in."""
    return "outdoor" if "outdoor" in entry.name.split("/") else "indoor"


def _entry(root: Path, image: str, depth: str, mask: str) -> Entry:
    image_path, depth_path, mask_path = (
        first_existing((root / folder / name for folder in _FOLDERS), "DIODE") for name in (image, depth, mask)
    )
    return Entry(image.rpartition(".")[0], image_path, depth_path, {"mask": mask_path})


def _gradient_m(depth_m: Tensor) -> Tensor:
    """|gx| + |gy| with the 3 x 3 Sobel kernels as they are (sum of weights 8); the border is reflected."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]])
    kernels = torch.stack([across, across.T])[:, None]  # [2, 1, 3, 3]
    padded = F.pad(depth_m[None], (1, 1, 1, 1), mode="reflect")
    return F.conv2d(padded, kernels)[0].abs().sum(0, keepdim=True)
