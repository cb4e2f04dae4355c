"""Depth to [0, 1] for display: from where to where the colors go.

Each image over its own range is the authors' choice and shows most; over a video it flickers, since one near object
that enters moves all other colors. So there are ranges common to a batch, or fixed. All of them are of depth, not of
log depth, which would give the near half of a room nearly all colors.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .prediction import DepthPrediction, stretch

LOW_PERCENTILE = 2.0
HIGH_PERCENTILE = 98.0


@dataclass(frozen=True)
class DisplayLimits:
    """The ends of the ranges that are not read from the depth alone; each normalization checks what it uses.

    Attributes:
        low_percentile, high_percentile: for "percentile" and "batch percentile", 0 <= low < high <= 100: what becomes 0
            and what becomes 1.
        nearest, farthest: for "fixed range", nearest < farthest: the log depth (about -1 to 1) that becomes 0 and 1.
    """

    low_percentile: float = LOW_PERCENTILE
    high_percentile: float = HIGH_PERCENTILE
    nearest: float = -1.0
    farthest: float = 1.0


def normalize_depth(
    prediction: DepthPrediction,
    normalization: str = "per image",
    limits: DisplayLimits | None = None,
    mask: Tensor | None = None,
) -> Tensor:
    """Depth for display: [B, 1, H, W] in [0, 1], 0 = near and 1 = far; a range of no extent gives 0.

    Args:
        prediction: the depth of a batch of images.
        normalization: a key of `NORMALIZATIONS`.
        limits: percentiles and log depths; None for the defaults of `DisplayLimits`.
        mask: [B or 1, 1, H, W] in [0, 1], what counts: ranges are taken of the pixels above 0.5, and the less a pixel
            is inside the farther it is shown. None for all of each image.

    Raises:
        ValueError: an unknown normalization, limits that it uses out of range, or a mask of another shape.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"Unknown normalization {normalization!r}; choose one of {', '.join(NORMALIZATIONS)}.")
    limits = limits or DisplayLimits()
    if mask is None:
        return NORMALIZATIONS[normalization](prediction, limits)
    shown = for_single_frames(prediction, normalization, limits, mask)
    frames = with_masks(prediction, mask)
    return torch.cat([1 - part * (1 - _fixed_range(frame, _of_inside(frame, part, *shown))) for frame, part in frames])


def for_single_frames(
    prediction: DepthPrediction, normalization: str, limits: DisplayLimits, mask: Tensor | None = None
) -> tuple[str, DisplayLimits]:
    """The normalization and limits that show each image alone as these show it among the others of the batch.

    Only those of `_BATCH_ENDS` look at the others: the ends become a fixed range, which is the same up to rounding.
    """
    if normalization not in _BATCH_ENDS:
        return normalization, limits
    if mask is not None:
        return "fixed range", _of_inside(prediction, mask, normalization, limits)
    nearest, farthest = (end.item() for end in _BATCH_ENDS[normalization](prediction.log_depth, limits))
    if nearest == farthest:  # no range; a constant image alone is 0 too
        return "per image", limits
    return "fixed range", DisplayLimits(nearest=nearest, farthest=farthest)


def inside(prediction: DepthPrediction, mask: Tensor) -> Tensor:
    """The log depths of all pixels inside a mask, [N]; all there are where none is, since none of them is shown.

    Raises:
        ValueError: a mask of another shape.
    """
    check_mask(prediction, mask)
    chosen = (mask > 0.5).expand_as(prediction.log_depth)
    return prediction.log_depth[chosen] if chosen.any() else prediction.log_depth.flatten()


def check_mask(prediction: DepthPrediction, mask: Tensor) -> None:
    """Raises ValueError unless the mask is [B or 1, 1, H, W], of the prediction's size."""
    wanted = prediction.log_depth.shape
    if mask.shape[1:] != wanted[1:] or mask.shape[0] not in (1, wanted[0]):
        raise ValueError(
            f"The mask is {list(mask.shape)}, but depth of {list(wanted)} came; give one mask for all images, or one "
            "for each, of their size."
        )


def with_masks(prediction: DepthPrediction, mask: Tensor) -> Iterator[tuple[DepthPrediction, Tensor]]:
    """Each image as a batch of one, with its mask; errors as `check_mask`."""
    check_mask(prediction, mask)
    maps = (values.split(1) for values in prediction.maps)
    masks = mask.expand(len(prediction.log_depth), -1, -1, -1).split(1)
    for *frame, part in zip(*maps, masks, strict=True):
        yield DepthPrediction(*frame), part


def percentiles(values: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Two percentiles of each image, or its minimum and maximum where the two are equal: [B, 1, 1, 1] each.

    NumPy, because torch.quantile refuses more than 16 million values.

    Args:
        values: [B, ...], finite.
        low, high: 0 <= low < high <= 100.

    Raises:
        ValueError: percentiles out of range.
    """
    check_percentiles(low, high)
    flat = values.flatten(1).cpu().numpy()
    low_high = np.percentile(flat, [low, high], axis=1)  # [2, B]
    ends = np.stack([flat.min(axis=1), flat.max(axis=1)])
    low_high = np.where(low_high[0] < low_high[1], low_high, ends)
    lows, highs = torch.from_numpy(low_high.astype(np.float32)).to(values.device)
    return lows.view(-1, 1, 1, 1), highs.view(-1, 1, 1, 1)


def check_percentiles(low: float, high: float) -> None:
    """Raises ValueError unless 0 <= low < high <= 100."""
    if not 0 <= low < high <= 100:
        raise ValueError(f"Percentiles must be 0 <= low < high <= 100, but {low} and {high} came.")


def check_fixed_range(nearest: float, farthest: float) -> None:
    """Raises ValueError unless the two log depths are finite and nearest < farthest."""
    if not -math.inf < nearest < farthest < math.inf:
        raise ValueError(f"The fixed range must have nearest < farthest, but {nearest} and {farthest} came.")


def _of_inside(prediction: DepthPrediction, mask: Tensor, normalization: str, limits: DisplayLimits) -> DisplayLimits:
    """The fixed range from the nearest to the farthest inside, as the normalization takes them."""
    if normalization == "fixed range":
        return limits
    ends = _BATCH_ENDS[{"per image": "batch", "percentile": "batch percentile"}.get(normalization, normalization)]
    nearest, farthest = (end.item() for end in ends(inside(prediction, mask), limits))
    return DisplayLimits(nearest=nearest, farthest=farthest if farthest > nearest else nearest + 1)  # all of it is near


def _per_image(prediction: DepthPrediction, _limits: DisplayLimits) -> Tensor:
    return prediction.depth


def _batch(prediction: DepthPrediction, _limits: DisplayLimits) -> Tensor:
    relative = prediction.shared_relative_depth
    return stretch(relative, relative.amin(), relative.amax())


def _percentile(prediction: DepthPrediction, limits: DisplayLimits) -> Tensor:
    relative = prediction.relative_depth
    return stretch(relative, *percentiles(relative, limits.low_percentile, limits.high_percentile)).clamp(0, 1)


def _batch_percentile(prediction: DepthPrediction, limits: DisplayLimits) -> Tensor:
    return normalize_depth(prediction, *for_single_frames(prediction, "batch percentile", limits))


def _fixed_range(prediction: DepthPrediction, limits: DisplayLimits) -> Tensor:
    """(e^x - e^nearest) / (e^farthest - e^nearest), so spelled that no range is too large or too small."""
    nearest, farthest = limits.nearest, limits.farthest
    check_fixed_range(nearest, farthest)
    return (1 - torch.expm1(prediction.log_depth - farthest) / math.expm1(nearest - farthest)).clamp(0, 1)


NORMALIZATIONS: dict[str, Callable[[DepthPrediction, DisplayLimits], Tensor]] = {
    "per image": _per_image,
    "batch": _batch,
    "percentile": _percentile,
    "batch percentile": _batch_percentile,
    "fixed range": _fixed_range,
}

# The log depth that becomes 0 and that which becomes 1, in all images of a batch. Percentiles are taken of log depth,
# which has the order of depth: a long video is copied once for them, not twice.
_BATCH_ENDS: dict[str, Callable[[Tensor, DisplayLimits], tuple[Tensor, Tensor]]] = {
    "batch": lambda log_depth, _limits: log_depth.aminmax(),
    "batch percentile": lambda log_depth, limits: percentiles(
        log_depth.reshape(1, -1), limits.low_percentile, limits.high_percentile
    ),
}
