"""The numbers that Save Depth writes of each frame of a batch."""

import math
from collections.abc import Callable

from torch import Tensor

from ..depthfm_core.depth.controlnet import controlnet_image, gray_range
from ..depthfm_core.depth.normalize import DisplayLimits, check_fixed_range, for_single_frames, normalize_depth
from ..depthfm_core.depth.prediction import DepthPrediction

OfFrame = Callable[[DepthPrediction], Tensor]  # [1, 1, H, W] of a frame

PER_IMAGE = "per image"
FIXED_RANGE = "fixed range"
NORMALIZATIONS = (PER_IMAGE, "batch", FIXED_RANGE)


def _depth(depth: DepthPrediction, normalization: str, limits: DisplayLimits) -> OfFrame:
    shown = for_single_frames(depth, normalization, limits)
    return lambda frame: normalize_depth(frame, *shown)


def _near_white(depth: DepthPrediction, normalization: str, limits: DisplayLimits) -> OfFrame:
    far_white = _depth(depth, normalization, limits)
    return lambda frame: 1 - far_white(frame)


def _depth_image(depth: DepthPrediction, normalization: str, limits: DisplayLimits) -> OfFrame:
    """As the DepthFM Sampler and Depth to ControlNet Image show it."""
    grays = None if normalization == PER_IMAGE else gray_range(depth, normalization, limits)
    return lambda frame: controlnet_image(frame, grays=grays)[:, :1]


def _disparity(depth: DepthPrediction, normalization: str, limits: DisplayLimits) -> OfFrame:
    """1 at the nearest point, of each frame or of the batch, or at the near end of a range that cuts at both."""
    if normalization == PER_IMAGE:
        return lambda frame: frame.disparity
    if normalization == FIXED_RANGE:
        farthest = math.exp(limits.nearest - limits.farthest)
        return lambda frame: frame.disparity_from(limits.nearest).clamp(farthest, 1)
    nearest = depth.log_depth.amin()
    return lambda frame: frame.disparity_from(nearest)


# What is written of each frame, given the batch that it is of, and how.
VALUES: dict[str, Callable[[DepthPrediction, str, DisplayLimits], OfFrame]] = {
    "depth": _depth,
    "near white": _near_white,
    "depth image": _depth_image,
    "disparity": _disparity,
    "log depth": lambda _depth, _normalization, _limits: lambda frame: frame.log_depth,
}
UNBOUNDED = "log depth"  # goes beyond [0, 1]


def values_of_frames(depth: DepthPrediction, values: str, normalization: str, limits: DisplayLimits) -> OfFrame:
    """What is written of each frame of a batch; ValueError for a fixed range without extent, where it is used."""
    if normalization == FIXED_RANGE and values != UNBOUNDED:
        check_fixed_range(limits.nearest, limits.farthest)
    return VALUES[values](depth, normalization, limits)
