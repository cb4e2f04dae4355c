"""Any picture to a size that the networks take, and the depth map back to the caller's exact size.

The short side becomes the working resolution. What the sides miss to a multiple of the network's step is stretched
where it is little, since a network takes a mirrored rim for part of the scene: over rendered frames of three aspects
nano's delta1 is 0.002 to 0.004 higher so than padded. What is more than that is padded by reflection and cut off again.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SIDE_PX = 16384
# Beyond this ratio of the sides the long side, not the short one, decides the working size.
MAX_ASPECT = 4
# What a side may be stretched or shrunk by to become a multiple: all that is asked for where the short side
# has 6 of them or more, as nano's and the published model's.
MAX_STRETCH = 1.09
# Long and short side of the shapes that `few_shapes` pads to: those that photographs have, so that most gain nothing.
SHAPES = ((1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (12, 5), (3, 1), (4, 1))


@dataclass(frozen=True)
class Placement:
    """How a picture was fitted, enough to undo it.

    Attributes:
        size: the caller's (H, W).
        working_size: (H, W) after resizing, before padding; its aspect differs from that of `size` by a few percent.
        padding: (left, right, top, bottom) in pixels.
    """

    size: tuple[int, int]
    working_size: tuple[int, int]
    padding: tuple[int, int, int, int]

    @property
    def is_enlarged(self) -> bool:
        """Whether the picture has more pixels than the networks saw of it."""
        return self.working_size != self.size and all(w <= s for w, s in zip(self.working_size, self.size, strict=True))

    def undo(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the padded working size to [B, C, H, W] at the caller's size."""
        return self.enlarge(self.crop(depth_map))

    def crop(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the padded working size to the working size."""
        left, _, top, _ = self.padding
        height, width = self.working_size
        return depth_map[..., top : top + height, left : left + width]

    def enlarge(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the working size to [B, C, H, W] at the caller's size, a slope going on up to the rim."""
        return enlarge(depth_map, self.size)


def fit(image: Tensor, resolution: int, multiple: int, *, few_shapes: bool = False) -> tuple[Tensor, Placement]:
    """The picture at the working resolution, padded to a multiple, and the placement that undoes it.

    Args:
        image: [B, C, H, W], sides from 1 to 16,384.
        resolution: short side in pixels, to the next multiple if that is near; 0 keeps the picture's own size.
        multiple: what both sides must be divisible by.
        few_shapes: pads on to the next of `SHAPES`, upright or lying, so that pictures of any aspect become one of
            15 sizes (at resolution 0, of those for each short side).

    Raises:
        ValueError: for a negative or huge resolution, or sides outside 1..16,384.
    """
    if not 0 <= resolution <= MAX_SIDE_PX:
        raise ValueError(f"processing_resolution is {resolution}; choose 0 (the image's own size) to {MAX_SIDE_PX}.")
    size = (image.shape[-2], image.shape[-1])
    if not all(1 <= side <= MAX_SIDE_PX for side in size):
        raise ValueError(f"The image is {size[1]}x{size[0]} pixels; sides must be 1 to {MAX_SIDE_PX}.")
    placement = _placement(size, resolution, multiple, few_shapes)
    return _pad(shrink(image, placement.working_size), placement.padding), placement


def resize_long_side(image: Tensor, side_px: int) -> Tensor:
    """A picture [B, 3, H, W] in [0, 1] with a long side of so many pixels, smaller or larger; 0 keeps its own.

    Source: Marigold, `resize_max_res` (bilinear, antialiased, whole pixels rounded down).
    """
    longest = max(image.shape[-2:])
    size = tuple(max(1, side * side_px // longest) for side in image.shape[-2:])
    return shrink(image, size).clamp(0, 1) if side_px else image  # rounding takes white beyond 1


def enlarge(depth_map: Tensor, size: tuple[int, int]) -> Tensor:
    """A map [B, C, h, w] at another size (H, W), as `Placement.enlarge`."""
    width_first = _along(depth_map, size[1], -1)  # while the map is small, since this axis is the slow one
    return _along(width_first, size[0], -2)


def extend(depth_map: Tensor, margins: tuple[int, int, int, int]) -> Tensor:
    """A map [B, C, h, w] with so many cells more to the left, right, top and bottom, a slope going on into them."""
    for axis, before, after in ((-1, *margins[:2]), (-2, *margins[2:])):
        for _ in range(before):
            depth_map = torch.cat([_beyond(depth_map, 0, axis), depth_map], axis)
        for _ in range(after):
            depth_map = torch.cat([depth_map, _beyond(depth_map, depth_map.shape[axis] - 1, axis)], axis)
    return depth_map


def _placement(size: tuple[int, int], resolution: int, multiple: int, few_shapes: bool) -> Placement:
    working_size = _working_size(size, resolution, multiple) if resolution else size
    padded_size = tuple(side + -side % multiple for side in working_size)
    if few_shapes:
        padded_size = _next_shape(padded_size, resolution, multiple)
    missing_height, missing_width = (padded - side for padded, side in zip(padded_size, working_size, strict=True))
    left, top = missing_width // 2, missing_height // 2
    return Placement(size, working_size, (left, missing_width - left, top, missing_height - top))


def _working_size(size: tuple[int, int], resolution: int, multiple: int) -> tuple[int, int]:
    scale = min(resolution / min(size), MAX_ASPECT * resolution / max(size))
    kept = tuple(max(1, round(side * scale)) for side in size)
    stretched = tuple(max(multiple, round(side / multiple) * multiple) for side in kept)
    pairs = zip(kept, stretched, strict=True)
    return stretched if all(max(a / b, b / a) <= MAX_STRETCH for a, b in pairs) else kept


def _next_shape(padded_size: tuple[int, int], resolution: int, multiple: int) -> tuple[int, int]:
    """The smallest of `SHAPES` that holds a size; beyond the longest of them, the size itself."""
    side = _working_size((resolution, resolution), resolution, multiple)[0] if resolution else 0
    short = max(min(padded_size), side + -side % multiple)
    wanted = max(padded_size)
    longs = (round(short * long / (unit * multiple)) * multiple for long, unit in SHAPES)
    long = next((side for side in longs if side >= wanted), wanted)
    return (short, long) if padded_size[0] < padded_size[1] else (long, short)


def shrink(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Pictures or maps [B, C, h, w] at another size (H, W), bilinear, with a filter against aliasing."""
    if tuple(image.shape[-2:]) == size:
        return image
    if size[1] == 1:  # PyTorch 2.14 filters what is one pixel wide wrongly, and what is one pixel high rightly
        return _filtered(image.mT, size[::-1]).mT
    return _filtered(image, size)


def _filtered(image: Tensor, size: tuple[int, int]) -> Tensor:
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


def _along(depth_map: Tensor, side: int, axis: int) -> Tensor:
    """One axis of a map to a number of pixels, linearly between the centers of cells and outside of the outermost.

    Repeating the outermost cell, as images are enlarged, would make a flat rim half a cell wide: no surface has one,
    and normals show it as a frame.
    """
    cells = depth_map.shape[axis]
    if side <= cells:
        size = (*depth_map.shape[-2:-1], side) if axis == -1 else (side, depth_map.shape[-1])
        return shrink(depth_map, size)
    extended = torch.cat([_beyond(depth_map, 0, axis), depth_map, _beyond(depth_map, cells - 1, axis)], axis)
    pixels = torch.arange(side, dtype=torch.float64, device="cpu")
    position = (pixels + 0.5) * (cells / side) + 0.5  # in cells of `extended`
    below = position.floor().long()
    shape = [1] * depth_map.ndim
    shape[axis] = side
    weight = (position - below).to(depth_map).reshape(shape)
    below = below.to(depth_map.device)
    return torch.lerp(extended.index_select(axis, below), extended.index_select(axis, below + 1), weight)


def _beyond(depth_map: Tensor, end: int, axis: int) -> Tensor:
    """The cell outside of an end: on by the smaller of the last two steps, by none at a turn, so no edge overshoots."""
    cells = depth_map.shape[axis]
    first, second, third = (depth_map.narrow(axis, abs(end - min(inward, cells - 1)), 1) for inward in range(3))
    last_step, step_before = first - second, second - third
    smaller = torch.where(last_step.abs() < step_before.abs(), last_step, step_before)
    return first + torch.where(last_step * step_before > 0, smaller, 0)


def _pad(image: Tensor, padding: tuple[int, int, int, int]) -> Tensor:
    """Reflection, repeated where the picture is smaller than its padding; a single pixel is repeated."""
    left, right, top, bottom = padding
    return _pad_axis(_pad_axis(image, left, right, -1), top, bottom, -2)


def _pad_axis(image: Tensor, before: int, after: int, axis: int) -> Tensor:
    side = image.shape[axis]
    period = max(1, 2 * (side - 1))
    positions = [abs((i + side - 1) % period - (side - 1)) for i in range(-before, side + after)]
    if not before and not after:
        return image
    return image.index_select(axis, torch.tensor(positions, device=image.device))
