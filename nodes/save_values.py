"""The numbers that Save Depth writes of each frame of a batch."""

from collections.abc import Callable

from torch import Tensor

from ..depthfm_core.depth.controlnet import controlnet_image, gray_range
from ..depthfm_core.depth.normalize import DisplayLimits, for_single_frames, normalize_depth
from ..depthfm_core.depth.prediction import DepthPrediction

OfFrame = Callable[[DepthPrediction], Tensor]  # [1, 1, H, W] of a frame

PER_IMAGE = "per image"
NORMALIZATIONS = (PER_IMAGE, "batch")


def _depth(depth: DepthPrediction, normalization: str) -> OfFrame:
    shown = for_single_frames(depth, normalization, DisplayLimits())
    return lambda frame: normalize_depth(frame, *shown)


def _near_white(depth: DepthPrediction, normalization: str) -> OfFrame:
    far_white = _depth(depth, normalization)
    return lambda frame: 1 - far_white(frame)


def _depth_image(depth: DepthPrediction, normalization: str) -> OfFrame:
    """As the DepthFM Sampler and Depth to ControlNet Image show it."""
    grays = None if normalization == PER_IMAGE else gray_range(depth, normalization=normalization)
    return lambda frame: controlnet_image(frame, grays=grays)[:, :1]


def _disparity(depth: DepthPrediction, normalization: str) -> OfFrame:
    """1 at the nearest point, of each frame or of the batch."""
    nearest = depth.log_depth.amin()
    return lambda frame: frame.disparity if normalization == PER_IMAGE else frame.disparity_from(nearest)


# What is written of each frame, given the batch that it is of, and how.
VALUES: dict[str, Callable[[DepthPrediction, str], OfFrame]] = {
    "depth": _depth,
    "near white": _near_white,
    "depth image": _depth_image,
    "disparity": _disparity,
    "log depth": lambda _depth, _normalization: lambda frame: frame.log_depth,
}
UNBOUNDED = "log depth"  # goes beyond [0, 1]
