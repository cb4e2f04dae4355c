"""A picture with depth as a cloud of colored points, for viewers and modelers of 3D."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from einops import rearrange
from torch import Tensor

from ..replacing import replacing_output
from .files import check_ending

_VERTEX = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])
_HEADER = """ply
format binary_little_endian 1.0
element vertex {}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""


def write_ply(path: str | Path, points: Tensor, image: Tensor) -> None:
    """Writes one point for every pixel as binary PLY, with axes as viewers have them: y up, z to the viewer.

    Source of the format: https://paulbourke.net/dataformats/ply/.

    Args:
        path: the file, which ends in .ply; its folder must exist.
        points: [3, H, W] camera points (x right, y down, z forward), as of `depth.points.unproject`; any unit.
        image: [3, H, W] RGB in [0, 1].

    Raises:
        ValueError: another ending or other shapes, or points that are not finite.
        OutputError: as `files.write_png16`.
    """
    check_ending(path, ".ply")
    if points.ndim != 3 or points.shape != image.shape or len(points) != 3:
        raise ValueError(
            f"points and image must both be [3, H, W], but came as {list(points.shape)} and {list(image.shape)}."
        )
    if not points.isfinite().all():
        raise ValueError("points holds NaN or infinity; leave such pixels out of the depth map.")
    vertices = np.empty(points[0].numel(), _VERTEX)
    upright = points.float() * points.new_tensor([1.0, -1.0, -1.0]).view(3, 1, 1)
    vertices["xyz"] = rearrange(upright, "c h w -> (h w) c").cpu().numpy()
    vertices["rgb"] = rearrange((image.clamp(0, 1) * 255).round(), "c h w -> (h w) c").cpu().numpy()
    with replacing_output(path) as temporary, temporary.open("wb") as file:
        file.write(_HEADER.format(len(vertices)).encode("ascii"))
        file.write(vertices.view(np.uint8))
