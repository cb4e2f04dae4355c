"""Surface normals from depth, by the cross product of differences of neighboring camera points.

Any difference between points of a plane lies in the plane, so a plane's normal is exact at every tilt and in
perspective. At an edge between two surfaces a central difference would invent a third one, so there the
one-sided difference that stays on the pixel's own surface is taken. With smoothing, normals follow from the slopes of
1 / depth, averaged within surfaces.

The former takes some thirty planes of the image's size, so it goes strip by strip. Sums over x, y and z are
written out: PyTorch's own reductions over three values that lie planes apart are several times slower.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch import Tensor

from .points import focal_length, unproject
from .smoothing import smooth_within_surfaces

# Signs that turn camera axes (x right, y down, z forward) into a normal map's (z to the viewer). ControlNet's normal
# model of Stable Diffusion 1.5 has red to the left: github.com/lllyasviel/ControlNet-v1-1-nightly, "Normal 1.1".
CONVENTIONS = {"opengl": (1.0, -1.0, -1.0), "directx": (1.0, 1.0, -1.0), "controlnet": (-1.0, -1.0, -1.0)}

# A pixel lies at an edge if the step to one neighbor is steeper than EDGE_SLOPE (depth per width; 2 is 63
# degrees) and EDGE_RATIO times as steep as the step to the other: a steep surface is steep on both sides.
EDGE_SLOPE = 2.0
EDGE_RATIO = 3.0

# With smoothing, steps count the less the larger they are: one of this log depth 0.37, of three times as much nothing.
# The steps of 8 bits are a third as large where a picture spans 1 to 50.
SMALL_STEP = 0.05

_STRIP_PX = 2**16  # a strip's planes stay in a processor's cache


def normals_from_depth(
    depth: Tensor,
    *,
    fov_deg: float = 60.0,
    focal_px: float | None = None,
    strength: float = 1.0,
    smoothing: float = 0.0,
    convention: str = "opengl",
) -> Tensor:
    """Unit surface normals that face the camera, [B, 3, H, W] in [-1, 1]; a wall facing it has (0, 0, 1).

    Args:
        depth: [B, 1, H, W] positive planar depth in any unit, at least 2 x 2: `prediction.relative_depth` or
            metres, not the depth in [0, 1] whose nearest point is 0.
        fov_deg: horizontal field of view in degrees; not used if `focal_px` is given.
        focal_px: focal length in pixels.
        strength: > 0; factor of the slopes, 1 = true normals, more = more relief.
        smoothing: >= 0; sigma in pixels over which slopes are averaged, within surfaces: edges stay, planes stay exact,
            and the steps of a depth picture of 8 bits become slopes again.
        convention: a key of `CONVENTIONS`: "opengl" has x right and y up, "directx" has y down, "controlnet" has
            x left and y up.

    Raises:
        ValueError: another shape, no picture at all, depth that is not positive and finite, or a setting out of range.
    """
    _check_settings(depth, strength, smoothing, convention)
    focal_px = focal_length(depth.shape[3], fov_deg, focal_px)
    depth = depth.float()
    x_sign, y_sign, z_sign = CONVENTIONS[convention]
    scale = depth.new_tensor([x_sign * strength, y_sign * strength, z_sign]).view(1, 3, 1, 1)
    if smoothing > 0:
        return unit(_smooth_normals(depth, focal_px, smoothing) * scale)
    points = unproject(depth, focal_px)  # [B, 3, H, W]
    normals = torch.empty_like(points)
    for rows, seen, inner in _strips(points):
        normals[:, :, rows] = unit(_camera_normals(points[:, :, seen], focal_px)[:, :, inner] * scale)
    return normals


def normals_to_image(normals: Tensor) -> Tensor:
    """Normals as colors, (n + 1) / 2: [B, 3, H, W] in [-1, 1] to an image in [0, 1]; facing is light blue."""
    return ((normals + 1) / 2).clamp(0, 1)


def unit(vectors: Tensor) -> Tensor:
    """[B, 3, H, W] with length 1 in dimension 1, as `F.normalize`; a vector of no length stays as it is."""
    x, y, z = vectors.split(1, dim=1)
    return vectors / (x * x + y * y + z * z).sqrt().clamp_min(1e-12)


def _strips(points: Tensor) -> Iterator[tuple[slice, slice, slice]]:
    """Rows of each strip, the same with a margin of one row, and where in the latter they are."""
    batch, _, height, width = points.shape
    step = max(1, _STRIP_PX // (batch * width))
    for top in range(0, height, step):
        bottom, above = min(top + step, height), max(top - 1, 0)
        yield slice(top, bottom), slice(above, bottom + 1), slice(top - above, bottom - above)


def _smooth_normals(depth: Tensor, focal_px: float, sigma_px: float) -> Tensor:
    """As `_camera_normals`, from depth and with the mean slope of each pixel's surroundings on its surface.

    Slopes are of 1 / depth, which is linear over a plane.
    """
    inverse, log_depth = 1 / depth, depth.log()
    sums = []
    for dim in (3, 2):
        step = log_depth.diff(dim=dim) / SMALL_STEP
        counts = (-step * step).exp().clamp_min(1e-6)  # a pixel among edges has slopes, too
        sums += [_of_both_steps(counts * inverse.diff(dim=dim), dim), _of_both_steps(counts, dim)]
    sums = smooth_within_surfaces(torch.cat(sums, dim=1), log_depth, sigma_px)
    across, down = focal_px * sums[:, 0:1] / sums[:, 1:2], focal_px * sums[:, 2:3] / sums[:, 3:4]
    rays = unproject(torch.ones_like(depth), focal_px)
    return -torch.cat([across, down, inverse - across * rays[:, 0:1] - down * rays[:, 1:2]], dim=1)


def _of_both_steps(steps: Tensor, dim: int) -> Tensor:
    """For each pixel the sum over the steps along dim from it and to it, one of them at the border."""
    none = torch.zeros_like(steps.narrow(dim, 0, 1))
    return torch.cat([none, steps], dim) + torch.cat([steps, none], dim)


def _camera_normals(points: Tensor, focal_px: float) -> Tensor:
    """Normals in camera axes that face the camera, [B, 3, H, W] of any length, from the points of the pixels."""
    footprint = points[:, 2:] / focal_px  # a pixel's width on a surface that faces the camera
    across, down = _tangent(points, footprint, dim=3), _tangent(points, footprint, dim=2)
    # Unit tangents first: the product of two short ones would fall below float32.
    return _cross(unit(down), unit(across))


def _cross(a: Tensor, b: Tensor) -> Tensor:
    """The cross product of [B, 3, H, W] vectors in dimension 1."""
    (a_x, a_y, a_z), (b_x, b_y, b_z) = a.unbind(1), b.unbind(1)
    return torch.stack([a_y * b_z - a_z * b_y, a_z * b_x - a_x * b_z, a_x * b_y - a_y * b_x], dim=1)


def _tangent(points: Tensor, footprint: Tensor, dim: int) -> Tensor:
    """Central difference of [B, 3, H, W] points along dim, one-sided at the border and at edges."""
    steps = points.diff(dim=dim)  # one shorter along dim
    first, last = steps.narrow(dim, 0, 1), steps.narrow(dim, steps.shape[dim] - 1, 1)
    after, before = torch.cat([steps, last], dim), torch.cat([first, steps], dim)
    rise_after, rise_before = after[:, 2:].abs(), before[:, 2:].abs()  # [B, 1, H, W]
    small, large = torch.minimum(rise_after, rise_before), torch.maximum(rise_after, rise_before)
    at_edge = (large > EDGE_SLOPE * footprint) & (large > EDGE_RATIO * small)
    one_sided = torch.where(rise_after < rise_before, after, before)
    return torch.where(at_edge, one_sided, (after + before) / 2)


def _check_settings(depth: Tensor, strength: float, smoothing: float, convention: str) -> None:
    if depth.ndim != 4 or depth.shape[1] != 1 or min(depth.shape[2:]) < 2:
        raise ValueError(f"depth must be [B, 1, H, W] of at least 2 x 2 px, but came as {list(depth.shape)}.")
    if not len(depth):
        raise ValueError(f"depth came as {list(depth.shape)}; give at least one picture.")
    if not ((depth > 0) & depth.isfinite()).all():
        raise ValueError(
            f"Normals need positive, finite depth, but {depth.amin():.4g} to {depth.amax():.4g} came; "
            "pass prediction.relative_depth, or metres with the invalid pixels filled."
        )
    if not 0 < strength < math.inf:
        raise ValueError(f"strength must be a positive number, but {strength} came; 1 gives true normals.")
    if not 0 <= smoothing < math.inf:
        raise ValueError(f"smoothing must be a sigma of 0 or more pixels, but {smoothing} came.")
    if convention not in CONVENTIONS:
        raise ValueError(f"Unknown convention {convention!r}; choose one of {', '.join(CONVENTIONS)}.")
