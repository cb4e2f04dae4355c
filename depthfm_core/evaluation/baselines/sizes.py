"""The sizes that published methods see pictures at."""

import torch.nn.functional as F
from torch import Tensor


def told_size(side_px: int) -> int | str:
    """A long side as `made_with` tells it; 0 is the picture's own."""
    return side_px or "of the picture"


def midas_size(size: tuple[int, int], side_px: int, bound: str) -> tuple[int, int]:
    """(H, W) that MiDaS and DPT see, the aspect kept up to the rounding to a multiple of 32.

    Args:
        size: (H, W) of the picture.
        side_px: the square that the picture is fitted to.
        bound: a key of `MIDAS_BOUNDS`.

    Source: isl-org/MiDaS, `hubconf.py` and `midas/transforms.py`.
    """
    multiple = 32
    scale = MIDAS_BOUNDS[bound](side_px / size[0], side_px / size[1])
    rounded = [round(side * scale / multiple) * multiple for side in size]
    if bound == "upper":
        rounded = [min(side, side_px // multiple * multiple) for side in rounded]
    return max(multiple, rounded[0]), max(multiple, rounded[1])


# Of the two scales that would fit the height and the width, the one that is taken.
MIDAS_BOUNDS = {
    "upper": min,
    "minimal": lambda height, width: width if abs(1 - width) < abs(1 - height) else height,
    "lower": max,
}


def letterbox(image: Tensor, size: tuple[int, int], fill: Tensor) -> tuple[Tensor, tuple[slice, slice]]:
    """The picture as large as it fits into a frame, centered on a color, and where in the frame it is.

    Args:
        image: [1, 3, H, W].
        size: (H, W) of the frame.
        fill: [3] the color around it.

    Source: YvanYin/Metric3D, `hubconf.py`.
    """
    scale = min(size[0] / image.shape[-2], size[1] / image.shape[-1])
    height, width = (max(1, int(side * scale + 1e-6)) for side in image.shape[-2:])
    top, left = (size[0] - height) // 2, (size[1] - width) // 2
    where = (slice(top, top + height), slice(left, left + width))
    frame = fill.view(1, 3, 1, 1).repeat(1, 1, *size)
    frame[..., where[0], where[1]] = F.interpolate(image, (height, width), mode="bilinear", align_corners=False)
    return frame, where
