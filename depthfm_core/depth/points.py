"""Depth to camera points: a pinhole camera, square pixels, the principal point in the image's center.

The camera looks along +z, x points right and y down. Pixel centers lie at half integers, so the center of the
image is (W / 2, H / 2).
"""

from __future__ import annotations

import math

import torch
from einops import rearrange
from torch import Tensor

_FILM_DIAGONAL_MM = math.hypot(36, 24)  # 43.27


def unproject(depth: Tensor, focal_px: float) -> Tensor:
    """The 3D point of every pixel: [B, 3, H, W] (x right, y down, z forward), in the unit of `depth`.

    Args:
        depth: [B, 1, H, W] planar depth, the z of each point (not its distance to the camera); any unit.
        focal_px: focal length in pixels of this image, as `focal_length` gives it.

    Raises:
        ValueError: another shape.
    """
    if depth.ndim != 4 or depth.shape[1] != 1:
        raise ValueError(f"depth must be [B, 1, H, W], but came as {list(depth.shape)}.")
    height, width = depth.shape[2:]
    x = (torch.arange(width, dtype=torch.float32, device=depth.device) + 0.5 - width / 2) / focal_px
    y = (torch.arange(height, dtype=torch.float32, device=depth.device) + 0.5 - height / 2) / focal_px
    x, y = rearrange(x, "w -> 1 1 1 w"), rearrange(y, "h -> 1 1 h 1")
    return torch.cat([x * depth, y * depth, depth], dim=1)


def focal_length(width_px: int, fov_deg: float | None, focal_px: float | None) -> float:
    """`focal_px` where it is given, or else the focal length in pixels of the horizontal field of view.

    Raises:
        ValueError: the one that is used is out of range.
    """
    if focal_px is None:
        return focal_from_fov(width_px, fov_deg)
    if not 0 < focal_px < math.inf:
        raise ValueError(f"focal_px must be a positive number of pixels, but {focal_px} came.")
    return focal_px


def focal_from_fov(width_px: int, fov_deg: float) -> float:
    """Focal length in pixels of an image `width_px` wide with this horizontal field of view.

    Raises:
        ValueError: a field of view outside of (0, 180) degrees.
    """
    if not 0 < fov_deg < 180:
        raise ValueError(f"fov_deg must lie between 0 and 180 degrees, but {fov_deg} came; 60 is usual.")
    return width_px / 2 / math.tan(math.radians(fov_deg) / 2)


def fov_from_film_focal(film_focal_mm: float, width_px: int, height_px: int) -> float:
    """Horizontal field of view in degrees of a picture, from the focal length that would take it on 35 mm film.

    Such a lens sees the same angle from corner to corner: the diagonal counts as that of 36 mm x 24 mm, whatever the
    picture's shape. Width and height are those of the upright picture.

    Source: CIPA DCG-001, https://www.cipa.jp/std/documents/e/DCG-001_E.pdf, the industry's rule for this number.
    """
    width_mm = _FILM_DIAGONAL_MM * width_px / math.hypot(width_px, height_px)
    return math.degrees(2 * math.atan(width_mm / 2 / film_focal_mm))
