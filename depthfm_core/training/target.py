"""Depth as the network learns it: log depth, scaled between two percentiles of the picture to [-1, 1].

What was not measured takes +1, the far plane: in the synthetic frames that is the sky, which Virtual KITTI likewise
writes at its cap. Holes of a sensor are anywhere and take the nearest depth instead (`fill_holes`), since the
autoencoder would carry a far plane in them into the cells beside them. Beyond the percentiles the value is cut, so that
a few stray pixels do not stretch the latent.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

MIN_RANGE = 0.02  # a wall seen head-on: 2 % of depth fill the range rather than noise

_WIDEST = 1000.0  # far over near: a lens cap's distance and a mountain's; more is a number that stands for no depth
_EVERY = 16  # one of so many pixels is looked at, for speed

# What is scaled: log depth, or depth in units of its geometric mean, so that no unit of length matters.
SPACES: dict[str, Callable[[Tensor], Tensor]] = {"log": lambda x: x, "linear": lambda x: (x - x.mean()).exp()}


@dataclass(frozen=True)
class NormalizationSettings:
    """The percentiles of a picture's measured depth that become -1 (near) and +1 (far), and what lies between them.

    Attributes:
        near_percentile, far_percentile: ordered within 0..100.
        space: one of `SPACES`. Only "log" makes a DepthFM; "linear" is what the paper compares it with.

    Raises:
        ValueError: for percentiles that are not ordered within 0..100, or an unknown space.
    """

    near_percentile: float = 2.0
    far_percentile: float = 98.0
    space: str = "log"

    def __post_init__(self) -> None:
        if self.space not in SPACES:
            raise ValueError(f"Unknown space of depth {self.space!r}; choose one of {', '.join(SPACES)}.")
        if not 0 <= self.near_percentile < self.far_percentile <= 100:
            raise ValueError(
                f"Percentiles {self.near_percentile} and {self.far_percentile} are not ordered; choose e.g. 2 and 98."
            )


def normalize_target(depth_m: Tensor, valid: Tensor, settings: NormalizationSettings) -> Tensor:
    """Affine log depth in [-1, 1], or affine depth: -1 near, +1 far and where nothing was measured.

    Args:
        depth_m: [1, H, W] depth in metres, > 0 where valid.
        valid: [1, H, W] bool.
        settings: the percentiles, taken over the valid pixels, and the space.

    Returns:
        [1, H, W]; all +1 for a picture without a valid pixel.

    Source: CompVis/diff2flow, `depth_preprocessing.py` (other percentiles, not cut, no guard for zeros).
    """
    if not valid.any():
        return torch.ones_like(depth_m)
    values = SPACES[settings.space](depth_m[valid].log())
    levels = torch.tensor([settings.near_percentile / 100, settings.far_percentile / 100])
    near, far = torch.quantile(values, levels).tolist()
    scaled = torch.ones_like(depth_m)
    scaled[valid] = ((values - near) / max(far - near, MIN_RANGE) * 2 - 1).clamp(-1, 1)
    return scaled


def is_stretched(depth_m: Tensor, valid: Tensor, settings: NormalizationSettings) -> bool:
    """Whether the percentiles lie so far apart that the far one must be a number for "no depth", as renderers leave it.

    What was seen then takes a small part of the range. Arguments: `normalize_target`.
    """
    seen = depth_m[valid][::_EVERY]
    if not len(seen):
        return False
    near, far = torch.quantile(seen, torch.tensor([settings.near_percentile, settings.far_percentile]) / 100).tolist()
    return far > near * _WIDEST


def fill_holes(values: Tensor, valid: Tensor) -> Tensor:
    """Each pixel that is not valid takes the value of the nearest valid one, counted in steps up, down and sideways.

    Args:
        values: [..., H, W].
        valid: the same shape, bool; without a valid pixel the values stay.

    Returns:
        [..., H, W].
    """
    steps = torch.zeros_like(values).masked_fill(~valid, torch.inf)  # from the pixel whose value this is
    for dim in (-2, -2, -1, -1):  # down, up, right, left: from one end, then from the other
        place = torch.arange(values.shape[dim], dtype=values.dtype).unflatten(0, (-1, 1) if dim == -2 else (1, -1))
        from_start, nearest = (steps - place).cummin(dim)
        steps, values = (from_start + place).flip(dim), values.gather(dim, nearest).flip(dim)
    return values
