"""Depth to [0, 1] for display: from where to where the colors go.

Each image over its own range is the authors' choice and shows most; over a video it flickers, since one near object
that enters moves all other colors. So there are ranges common to a batch, or fixed. All of them are of depth, not of
log depth, which would give the near half of a room nearly all colors.
"""

from __future__ import annotations

import math
from collections.abc import Callable
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
    prediction: DepthPrediction, normalization: str = "per image", limits: DisplayLimits | None = None
) -> Tensor:
    """Depth for display: [B, 1, H, W] in [0, 1], 0 = near and 1 = far; a range of no extent gives 0.

    Args:
        prediction: the depth of a batch of images.
        normalization: a key of `NORMALIZATIONS`.
        limits: percentiles and log depths; None for the defaults of `DisplayLimits`.

    Raises:
        ValueError: an unknown normalization, or limits that it uses out of range.
    """
    if normalization not in NORMALIZATIONS:
        raise ValueError(f"Unknown normalization {normalization!r}; choose one of {', '.join(NORMALIZATIONS)}.")
    return NORMALIZATIONS[normalization](prediction, limits or DisplayLimits())


def for_single_frames(
    prediction: DepthPrediction, normalization: str, limits: DisplayLimits
) -> tuple[str, DisplayLimits]:
    """The normalization and limits that show each image alone as these show it among the others of the batch.

    Only those of `_BATCH_ENDS` look at the others: the ends become a fixed range, which is the same up to rounding.
    """
    if normalization not in _BATCH_ENDS:
        return normalization, limits
    nearest, farthest = (end.item() for end in _BATCH_ENDS[normalization](prediction.log_depth, limits))
    if nearest == farthest:  # no range; a constant image alone is 0 too
        return "per image", limits
    return "fixed range", DisplayLimits(nearest=nearest, farthest=farthest)


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
