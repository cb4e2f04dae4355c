"""A map smoothed within surfaces and not across the edges between them.

The recursive filter of the domain transform (Gastal and Oliveira, SIGGRAPH 2011,
https://doi.org/10.1145/2010324.1964964): along a row neighbors lie the farther apart the more their depth differs, and
each pixel takes the less from another the farther that is; then along the columns, three times over with a falling
width. A ramp, as an enlarged silhouette has, is as far across as a step.
"""

import math

import torch
from einops import rearrange
from torch import Tensor

_ROUNDS = 3
_SAME_SURFACE = 0.12  # a step of log depth that lies as far apart as sigma: 6 % of what DepthFM says of a picture


def smooth_within_surfaces(values: Tensor, log_depth: Tensor, sigma_px: float) -> Tensor:
    """Values that are blurred where depth goes on evenly, and keep their steps where it does not.

    Args:
        values: [B, C, H, W].
        log_depth: [B, 1, H, W], up to a shift.
        sigma_px: > 0; of the blur where depth is even.

    Returns:
        [B, C, H, W]; constant values stay as they are.
    """
    across, down = (1 + sigma_px / _SAME_SURFACE * log_depth.diff(dim=dim).abs() for dim in (3, 2))
    for left in reversed(range(_ROUNDS)):
        # Variances that add up to that of sigma, each a quarter of the one before (equation 14).
        kept = _kept(sigma_px**2 * 3 * 4**left / (4**_ROUNDS - 1))
        values = _along_rows(values, kept**across)
        values = _along_rows(values.mT, (kept**down).mT).mT
    return values.contiguous()


def _kept(variance: float) -> float:
    """What a pixel takes of its neighbor, once to the right and once to the left, for a blur of this variance.

    Weights a^|n| have the variance 2 a / (1 - a)^2.
    """
    return variance / (1 + variance + math.sqrt(1 + 2 * variance))


def _along_rows(values: Tensor, kept: Tensor) -> Tensor:
    """[B, C, H, W] of which each pixel takes the share `kept` [B, 1, H, W - 1] of the one before, to and fro."""
    pixels, shares = (rearrange(of, "b c h w -> w b c h").contiguous().unbind() for of in (values, kept))
    for _ in ("to", "fro"):
        passed = [pixels[0]]
        for pixel, share in zip(pixels[1:], shares, strict=True):
            passed.append(pixel.lerp(passed[-1], share))
        pixels, shares = passed[::-1], shares[::-1]
    return rearrange(torch.stack(pixels), "w b c h -> b c h w")
