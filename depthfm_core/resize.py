"""Any picture to a size that the networks take, and the depth map back to the caller's exact size.

Aspect is kept: the short side becomes the working resolution, and what is missing to a multiple of the network's step
is padded by reflection, then cut off again. Rounding the sides instead would stretch the picture.
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_SIDE_PX = 16384
# Beyond this ratio of the sides the long side, not the short one, decides the working size.
MAX_ASPECT = 4
# Long and short side of the shapes that `few_shapes` pads to: those that photographs have, so that most gain nothing.
SHAPES = ((1, 1), (4, 3), (3, 2), (16, 9), (2, 1), (12, 5), (3, 1), (4, 1))


@dataclass(frozen=True)
class Frame:
    """How a picture was fitted, enough to undo it.

    Attributes:
        size: the caller's (H, W).
        working_size: (H, W) after resizing, before padding.
        padding: (left, right, top, bottom) in pixels.
    """

    size: tuple[int, int]
    working_size: tuple[int, int]
    padding: tuple[int, int, int, int]

    def undo(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the padded working size to [B, C, H, W] at the caller's size."""
        return self.enlarge(self.crop(depth_map))

    def crop(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the padded working size to the working size."""
        left, _, top, _ = self.padding
        height, width = self.working_size
        return depth_map[..., top : top + height, left : left + width]

    def enlarge(self, depth_map: Tensor) -> Tensor:
        """[B, C, h, w] at the working size to [B, C, H, W] at the caller's size."""
        return _resize(depth_map, self.size)


def fit(image: Tensor, resolution: int, multiple: int, *, few_shapes: bool = False) -> tuple[Tensor, Frame]:
    """The picture at the working resolution, padded to a multiple, and the frame that undoes it.

    Args:
        image: [B, C, H, W], sides from 1 to 16,384.
        resolution: short side in pixels; 0 keeps the picture's own size.
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
    frame = _frame(size, resolution, multiple, few_shapes)
    return _pad(_resize(image, frame.working_size), frame.padding), frame


def _frame(size: tuple[int, int], resolution: int, multiple: int, few_shapes: bool) -> Frame:
    scale = 1.0
    if resolution:
        scale = min(resolution / min(size), MAX_ASPECT * resolution / max(size))
    working_size = tuple(max(1, round(side * scale)) for side in size)
    padded_size = tuple(side + -side % multiple for side in working_size)
    if few_shapes:
        padded_size = _next_shape(padded_size, resolution, multiple)
    missing_height, missing_width = (padded - side for padded, side in zip(padded_size, working_size, strict=True))
    left, top = missing_width // 2, missing_height // 2
    return Frame(size, working_size, (left, missing_width - left, top, missing_height - top))


def _next_shape(padded_size: tuple[int, int], resolution: int, multiple: int) -> tuple[int, int]:
    """The smallest of `SHAPES` that holds a size; beyond the longest of them, the size itself."""
    short = max(min(padded_size), resolution + -resolution % multiple)
    wanted = max(padded_size)
    longs = (-(-short * long // (unit * multiple)) * multiple for long, unit in SHAPES)
    long = next((side for side in longs if side >= wanted), wanted)
    return (short, long) if padded_size[0] < padded_size[1] else (long, short)


def _resize(image: Tensor, size: tuple[int, int]) -> Tensor:
    """Bilinear, with a filter that keeps a smaller picture free of aliasing."""
    if tuple(image.shape[-2:]) == size:
        return image
    return F.interpolate(image, size, mode="bilinear", align_corners=False, antialias=True)


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
