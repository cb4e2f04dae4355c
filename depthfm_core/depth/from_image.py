"""A gray depth picture as depth again: what a render, another model or an edited depth map shows.

A picture says how its points lie between the nearest and the farthest, but not how far these are from each other: that
is assumed. Each way of reading undoes one way of `normalize`, `controlnet` or `DepthPrediction` to write depth in
[0, 1], so that with the same two ends nothing but the rounding of the picture is lost.
"""

from __future__ import annotations

import math
from collections.abc import Callable

from torch import Tensor

from .normalize import DisplayLimits, check_fixed_range
from .prediction import DepthPrediction

DEPTH_IMAGE = "depth image"
_LIMITS = DisplayLimits()
_OVERSHOOT = 0.5  # more than the overshoot of any filter that resizes or sharpens


def depth_from_image(
    image: Tensor,
    values: str = DEPTH_IMAGE,
    nearest: float = _LIMITS.nearest,
    farthest: float = _LIMITS.farthest,
) -> DepthPrediction:
    """Depth of the grays of depth pictures, without uncertainty.

    Args:
        image: [B, C, H, W] in [0, 1], any floating dtype. The mean of the channels counts, which for a gray picture is
            its gray. What a filter left slightly outside of [0, 1] is clipped.
        values: a key of `VALUES`, what the grays are.
        nearest, farthest: nearest < farthest, the log depths of the two ends of [0, 1]; the farthest point is
            e^(farthest - nearest) times as far away as the nearest.

    Raises:
        ValueError: an unknown choice, ends without extent, a NaN, or values far outside of [0, 1].
    """
    if values not in VALUES:
        raise ValueError(f"Unknown values {values!r}; choose one of {', '.join(VALUES)}.")
    check_fixed_range(nearest, farthest)
    _check_range(image)
    log_depth = VALUES[values](_gray(image.float()).clamp(0, 1), nearest, farthest)
    return DepthPrediction.from_log_depth(log_depth, log_depth.new_zeros(1, 1, 1, 1).expand_as(log_depth))


def _depth_image(gray: Tensor, nearest: float, farthest: float) -> Tensor:
    """1 is the disparity of the nearest point and 0 that of the farthest."""
    return nearest - _above(gray, nearest - farthest).log()


def _depth(gray: Tensor, nearest: float, farthest: float) -> Tensor:
    """0 is the depth of the nearest point and 1 that of the farthest."""
    return farthest + _above(gray, nearest - farthest).log()


def _disparity(gray: Tensor, nearest: float, farthest: float) -> Tensor:
    """1 is the disparity of the nearest point and 0 would be infinitely far, so that it ends at the farthest."""
    return nearest - gray.clamp_min(math.exp(nearest - farthest)).log()


def _log_depth(gray: Tensor, nearest: float, farthest: float) -> Tensor:
    return nearest + gray * (farthest - nearest)


# What grays may be. Those of one name are what Save Depth writes under it, but "log depth", which it does not scale.
VALUES: dict[str, Callable[[Tensor, float, float], Tensor]] = {
    DEPTH_IMAGE: _depth_image,
    "depth": _depth,
    "near white": lambda gray, nearest, farthest: _depth(1 - gray, nearest, farthest),
    "disparity": _disparity,
    "log depth": _log_depth,
}


def _gray(image: Tensor) -> Tensor:
    """The mean of the channels, [B, 1, H, W], so spelled that no rounding moves it from equal ones."""
    first = image[:, :1]
    return first + (image - first).mean(1, keepdim=True)


def _above(gray: Tensor, log_lowest: float) -> Tensor:
    """[0, 1] onto [exp(log_lowest), 1], so that every gray has a logarithm."""
    lowest = math.exp(log_lowest)
    return lowest + gray * (1 - lowest)


def _check_range(image: Tensor) -> None:
    low, high = image.aminmax()
    if not (low >= -_OVERSHOOT and high <= 1 + _OVERSHOOT):  # so spelled, NaN fails too
        raise ValueError(
            f"The image holds values from {low:.4g} to {high:.4g}, but a depth picture goes from 0 to 1; choose such "
            "an output of the node that it comes from (not raw or metric depth), or scale it first."
        )
