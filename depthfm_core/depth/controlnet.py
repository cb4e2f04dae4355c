"""Depth as the picture that depth ControlNets were trained on: inverse depth, near = white.

Those ControlNets learned from MiDaS, which estimates disparity. Depth itself, only inverted, gives the far
half of a scene far too much of the gray range.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from ..resize import shrink
from .normalize import DisplayLimits, check_fixed_range, check_mask, inside, percentiles, with_masks
from .prediction import DepthPrediction


class GrayRange(NamedTuple):
    """What becomes black and what white, [B or 1, 1, 1, 1] each.

    Attributes:
        nearest: log depth of the point where disparity is 1.
        black, white: disparities.
    """

    nearest: Tensor
    black: Tensor
    white: Tensor


def gray_range(
    prediction: DepthPrediction,
    normalization: str = "per image",
    limits: DisplayLimits | None = None,
    mask: Tensor | None = None,
) -> GrayRange:
    """The range of the grays that `controlnet_image` makes; arguments and errors are described there."""
    if normalization not in GRAY_RANGES:
        raise ValueError(f"Unknown normalization {normalization!r}; choose one of {', '.join(GRAY_RANGES)}.")
    limits = limits or DisplayLimits()
    if mask is None:
        return GRAY_RANGES[normalization](prediction, limits)
    if normalization == "per image" and len(prediction.log_depth) > 1:
        each = [_of_inside(*frame, normalization, limits) for frame in with_masks(prediction, mask)]
        return GrayRange(*map(torch.cat, zip(*each, strict=True)))
    return _of_inside(prediction, mask, normalization, limits)


def controlnet_image(
    prediction: DepthPrediction,
    normalization: str = "per image",
    limits: DisplayLimits | None = None,
    mask: Tensor | None = None,
    *,
    grays: GrayRange | None = None,
    multiple: int | None = None,
    sizing: str = "pad",
) -> Tensor:
    """Gray picture for a depth ControlNet, near = white: [B, 3, H, W] in [0, 1], three equal channels.

    Disparity is clipped to two percentiles and stretched to [0, 1], so that a few extreme pixels do not flatten
    the rest. A constant image is white. A fixed range is clipped and stretched alike.

    Args:
        prediction: the depth of a batch of images.
        normalization: a key of `GRAY_RANGES`: the percentiles of each image, or of the whole batch, which keeps the
            grays of a video steady, or a fixed range, which keeps those of several videos.
        limits: the percentiles that become black and white, and the log depths of a fixed range, `nearest` white and
            `farthest` black; None for the defaults of `DisplayLimits`.
        mask: [B or 1, 1, H, W] in [0, 1], what counts: percentiles are taken of the pixels above 0.5, and the less a
            pixel is inside the darker it is. None for all of each image.
        grays: of the batch that these images are a part of, in place of normalization and limits; None for these
            images' own.
        multiple: for example 64: both sides become a multiple of it. None keeps H and W.
        sizing: a key of `SIZINGS`, how they do. "pad" repeats the last column and row to the right and the bottom,
            so that a picture generated from it fits the original when cropped to [:H, :W]; "crop" keeps the
            center; "stretch" scales each side to the nearest multiple.

    Raises:
        ValueError: limits or multiple out of range, an unknown choice, a mask of another shape, or an image too small
            to be cropped.
    """
    if sizing not in SIZINGS:
        raise ValueError(f"Unknown sizing {sizing!r}; choose one of {', '.join(SIZINGS)}.")
    if multiple is not None and multiple < 1:
        raise ValueError(f"multiple must be None or 1 or more pixels, but {multiple} came; 64 is usual.")
    grays = grays or gray_range(prediction, normalization, limits, mask)
    extent = grays.white - grays.black
    disparity = prediction.disparity_from(grays.nearest)
    gray = (1 - (grays.white - disparity) / extent.where(extent > 0, 1.0)).clamp(0, 1)
    if mask is not None:
        check_mask(prediction, mask)
        gray = gray * mask
    if multiple is not None:
        gray = SIZINGS[sizing](gray, multiple)
    return repeat(gray, "b 1 h w -> b c h w", c=3).contiguous()


def _of_inside(prediction: DepthPrediction, mask: Tensor, normalization: str, limits: DisplayLimits) -> GrayRange:
    """The range of all that is inside a mask, as of one image."""
    log_depth = inside(prediction, mask).view(1, 1, 1, -1)
    return GRAY_RANGES[normalization](DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth)), limits)


def _percentiles_over(*axes: int) -> Callable[[DepthPrediction, DisplayLimits], GrayRange]:
    """Two percentiles of disparity; over the axes of the batch too, one range for all images."""

    def grays(prediction: DepthPrediction, limits: DisplayLimits) -> GrayRange:
        nearest = prediction.log_depth.amin(axes, keepdim=True)
        disparity = prediction.disparity_from(nearest).reshape(len(nearest), -1)
        return GrayRange(nearest, *percentiles(disparity, limits.low_percentile, limits.high_percentile))

    return grays


def _fixed_range(prediction: DepthPrediction, limits: DisplayLimits) -> GrayRange:
    check_fixed_range(limits.nearest, limits.farthest)
    nearest, farthest = prediction.log_depth.new_tensor([limits.nearest, limits.farthest]).view(2, 1, 1, 1, 1)
    return GrayRange(nearest, black=(nearest - farthest).exp(), white=torch.ones_like(nearest))


GRAY_RANGES: dict[str, Callable[[DepthPrediction, DisplayLimits], GrayRange]] = {
    "per image": _percentiles_over(1, 2, 3),
    "batch": _percentiles_over(0, 1, 2, 3),
    "fixed range": _fixed_range,
}


def _pad(gray: Tensor, multiple: int) -> Tensor:
    height, width = gray.shape[2:]
    return F.pad(gray, (0, -width % multiple, 0, -height % multiple), mode="replicate")


def _crop(gray: Tensor, multiple: int) -> Tensor:
    height, width = gray.shape[2:]
    if min(height, width) < multiple:
        raise ValueError(
            f"An image of {width} x {height} pixels cannot be cropped to a multiple of {multiple}; choose sizing "
            "'pad' or 'stretch', or a smaller multiple."
        )
    top, left = height % multiple // 2, width % multiple // 2
    return gray[..., top : top + height - height % multiple, left : left + width - width % multiple]


def _stretch(gray: Tensor, multiple: int) -> Tensor:
    size = tuple(max(1, (2 * side + multiple) // (2 * multiple)) * multiple for side in gray.shape[2:])
    return shrink(gray, size).clamp(0, 1)


SIZINGS: dict[str, Callable[[Tensor, int], Tensor]] = {"pad": _pad, "crop": _crop, "stretch": _stretch}
