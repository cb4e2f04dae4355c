"""Pictures, depth maps and masks of the benchmarks, read as their makers stored them.

Unlike `depth.files.read_image`, no EXIF rotation is applied: the depth maps belong to the pixels as stored, and the
protocols that the readers follow do not rotate either.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..depth.picture_decoding import DECODER_ERRORS, open_picture
from .sample import DepthSample


def read_rgb(path: Path) -> Tensor:
    """[3, H, W] float32 in [0, 1], not rotated.

    Raises:
        ValueError: no such file, or no whole picture.
    """
    with _picture(path) as picture:
        image = np.array(picture.convert("RGB"))  # [H, W, 3]
    return torch.from_numpy(image).permute(2, 0, 1).float().div_(255).contiguous()


def read_size(path: Path) -> tuple[int, int]:
    """(H, W) of a picture, from its header. Errors: `read_rgb`."""
    with _picture(path) as picture:
        return picture.height, picture.width


def read_png_m(path: Path, units_per_m: int) -> Tensor:
    """[1, H, W] depth in metres from a 16-bit PNG, 0 where it has 0.

    Args:
        path: a gray PNG of more than 8 bits.
        units_per_m: what one metre is in the file.

    Raises:
        ValueError: no such file, no whole picture, or one of 8 bits.
    """
    with _picture(path) as picture:
        mode, units = picture.mode, np.array(picture)
    if not mode.startswith("I"):
        raise ValueError(f"{path} has the mode {mode}; depth is stored in 16-bit gray PNG files.")
    # Divided in float64 and rounded once, as in the protocols, because the limits of the range are exact.
    return torch.from_numpy((units.astype(np.float64) / units_per_m).astype(np.float32))[None]


def read_npy(path: Path) -> Tensor:
    """[1, H, W] float32 from an array [H, W], [H, W, 1] or [1, H, W].

    Raises:
        ValueError: no such file, no array, or one of another shape.
    """
    try:
        values = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise ValueError(f"{path} cannot be read as an array ({error}); copy or download it again.") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiub":
        raise ValueError(f"{path} holds no array of numbers; a map is one float array, saved by numpy.save.")
    if values.ndim == 3 and 1 in (values.shape[0], values.shape[2]):
        values = values[0] if values.shape[0] == 1 else values[..., 0]
    if values.ndim != 2:
        raise ValueError(f"{path} holds {list(values.shape)}; a map is [H, W], [H, W, 1] or [1, H, W].")
    return torch.from_numpy(values.astype(np.float32))[None]


def between(depth_m: Tensor, nearest_m: float, farthest_m: float) -> Tensor:
    """Where depth lies within the limits, both excluded, as in every protocol here; False for NaN."""
    return (depth_m > nearest_m) & (depth_m < farthest_m)


def rectangle(depth_m: Tensor, rows: tuple[int, int], cols: tuple[int, int]) -> Tensor:
    """A mask of depth_m's shape, True from the first row and column to before the last ones."""
    inside = torch.zeros_like(depth_m, dtype=torch.bool)
    inside[..., rows[0] : rows[1], cols[0] : cols[1]] = True
    return inside


def make_sample(image: Tensor, depth_m: Tensor, valid: Tensor, image_path: Path) -> DepthSample:
    """The sample, with 0 where depth is NaN or infinite. Errors: `check_sizes`."""
    check_sizes(image, depth_m, image_path)
    return DepthSample(image=image, depth_m=depth_m.nan_to_num(nan=0.0, posinf=0.0, neginf=0.0), valid=valid)


def check_sizes(image: Tensor, depth_m: Tensor, image_path: Path) -> None:
    """Raises ValueError where a picture [C, H, W] and its depth map differ in size; names the picture's file.

    To be called before both are cropped to one size, which hides it.
    """
    if image.shape[1:] != depth_m.shape[1:]:
        raise ValueError(
            f"{image_path} is {image.shape[2]}x{image.shape[1]} pixels, but its depth map is "
            f"{depth_m.shape[2]}x{depth_m.shape[1]}; are the two of one data set and neither resized?"
        )


@contextmanager
def _picture(path: Path) -> Iterator[Image.Image]:
    try:
        with open_picture(path) as picture:
            yield picture
    except (*DECODER_ERRORS, Image.DecompressionBombError) as error:
        raise ValueError(f"{path} cannot be read as a picture ({error}); copy or download it again.") from error
