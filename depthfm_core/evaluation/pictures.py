"""Pictures of the largest errors: image, measured depth, aligned prediction, relative error, side by side."""

import hashlib
import re
from pathlib import Path

import torch
from einops import rearrange
from torch import Tensor

from ..data import DepthSample
from ..depth.color import colorize
from ..depth.files import write_png
from ..resize import shrink

HEIGHT_PX = 240
LARGEST_ERROR = 0.5  # the relative error that takes the brightest color


def picture_path(folder: Path, name: str) -> Path:
    """Where the picture of an image lies; a name that is no file name gets one, and no two get the same."""
    return folder / f"{unique_name(name)}.png"


def unique_name(name: str) -> str:
    """What of a name any file system takes, and a digest of all of it."""
    readable = re.sub(r"[^A-Za-z0-9_.-]+", "_", name)[-60:]
    return f"{readable}_{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def save_error_picture(folder: Path, name: str, sample: DepthSample, depth_m: Tensor) -> None:
    """Writes the `error_picture` of one image into `folder`, which is made if missing; `depth_m` is [1, 1, H, W]."""
    folder.mkdir(parents=True, exist_ok=True)
    write_png(picture_path(folder, name), error_picture(sample.image, sample.depth_m, sample.valid, depth_m[0]))


def error_picture(image: Tensor, target_m: Tensor, valid: Tensor, depth_m: Tensor) -> Tensor:
    """Image, measured depth, estimate and relative error side by side: [3, 240, W] in [0, 1].

    Both depth maps share their range, the measured one's; pixels that were not measured are black. Maps are shrunk
    before they are painted: those of ETH3D have 24 million pixels.

    Args:
        image: [3, H, W] in [0, 1].
        target_m: [1, H, W] depth in metres, > 0 where valid.
        valid: [1, H, W] bool, somewhere true.
        depth_m: [1, H, W] aligned estimate in metres.
    """
    target, valid, estimate = target_m[None], valid[None], depth_m[None].float()
    low, high = target.where(valid, torch.inf).amin(), target.where(valid, -torch.inf).amax()
    error = (estimate - target).abs() / target.where(valid, 1.0)
    depths = [(depth - low) / (high - low).clamp_min(1e-6) for depth in (target, estimate)]
    panels = [
        _small(image[None]),
        _painted(depths[0], valid),
        _painted(depths[1], torch.ones_like(valid)),
        _painted(error / LARGEST_ERROR, valid, "magma"),
    ]
    return rearrange(panels, "n 1 c h w -> c h (n w)")


def keep_only(folder: Path, names: list[str]) -> None:
    """Removes the pictures of all other images."""
    wanted = {picture_path(folder, name) for name in names}
    for path in folder.glob("*.png"):
        if path not in wanted:
            path.unlink()


def _painted(values: Tensor, shown: Tensor, *colormap: str) -> Tensor:
    """The color of the mean of the shown values, cut to [0, 1], the darker the fewer there are."""
    share = _small(shown.float())
    mean = _small(values.clamp(0, 1).where(shown, 0.0)) / share.where(share > 0, 1.0)
    return colorize(mean.clamp(0, 1), *colormap) * share


def _small(image: Tensor) -> Tensor:
    width = max(1, round(HEIGHT_PX * image.shape[-1] / image.shape[-2]))
    return shrink(image, (HEIGHT_PX, width)).clamp(0, 1)
