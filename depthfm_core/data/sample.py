"""One picture with its measured depth, the unit every reader and generator hands out."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class DepthSample:
    """A picture and its depth, pixel for pixel.

    Attributes:
        image: [3, H, W] float32 RGB in [0, 1].
        depth_m: [1, H, W] float32 planar z in metres (distance along the optical axis, not along the ray).
        valid: [1, H, W] bool, True where `depth_m` was measured; sky and holes are False.

    Raises:
        ValueError: A tensor has another shape or type, or the three sizes differ.
    """

    image: Tensor
    depth_m: Tensor
    valid: Tensor

    def __post_init__(self) -> None:
        _check("image", self.image, 3, torch.float32)
        _check("depth_m", self.depth_m, 1, torch.float32)
        _check("valid", self.valid, 1, torch.bool)
        sizes = {name: tuple(getattr(self, name).shape[1:]) for name in ("image", "depth_m", "valid")}
        if len(set(sizes.values())) > 1:
            raise ValueError(f"image, depth_m and valid must have one height and width; got {sizes}.")


def _check(name: str, value: Tensor, channels: int, dtype: torch.dtype) -> None:
    if value.ndim != 3 or value.shape[0] != channels or value.dtype != dtype:
        raise ValueError(
            f"{name} must be [{channels}, H, W] {dtype}; got {list(value.shape)} {value.dtype}. "
            "Drop the batch axis and convert it first."
        )
