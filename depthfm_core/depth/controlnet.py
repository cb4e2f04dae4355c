"""Depth as the picture that depth ControlNets were trained on: inverse depth, near = white.

Those ControlNets learned from MiDaS, which estimates disparity. Depth itself, only inverted, gives the far
half of a scene far too much of the gray range.
"""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from einops import repeat
from torch import Tensor

from .prediction import DepthPrediction


def controlnet_image(
    prediction: DepthPrediction,
    *,
    low_percentile: float = 2.0,
    high_percentile: float = 98.0,
    multiple: int | None = None,
) -> Tensor:
    """Gray picture for a depth ControlNet, near = white: [B, 3, H, W] in [0, 1], three equal channels.

    Each image's disparity is clipped to its own percentiles and stretched to [0, 1], so that a few extreme
    pixels do not flatten the rest. A constant image is white.

    Args:
        prediction: the depth of a batch of images.
        low_percentile, high_percentile: 0 <= low < high <= 100; what becomes black and what becomes white.
        multiple: for example 64: pads the right and the bottom by repeating the last column and row, until
            both sides are a multiple of it. Nothing is scaled, so a picture generated from it fits the
            original when cropped to [:H, :W]. None keeps H and W.

    Raises:
        ValueError: percentiles or multiple out of range.
    """
    if not 0 <= low_percentile < high_percentile <= 100:
        raise ValueError(
            f"Percentiles must be 0 <= low < high <= 100, but {low_percentile} and {high_percentile} came."
        )
    if multiple is not None and multiple < 1:
        raise ValueError(f"multiple must be None or 1 or more pixels, but {multiple} came; 64 is usual.")
    disparity = prediction.disparity
    low, high = _percentiles(disparity, low_percentile, high_percentile)  # [B, 1, 1, 1] each
    extent = high - low
    gray = (1 - (high - disparity) / extent.where(extent > 0, 1.0)).clamp(0, 1)
    if multiple is not None:
        height, width = gray.shape[2:]
        gray = F.pad(gray, (0, -width % multiple, 0, -height % multiple), mode="replicate")
    return repeat(gray, "b 1 h w -> b c h w", c=3).contiguous()


def _percentiles(values: Tensor, low: float, high: float) -> tuple[Tensor, Tensor]:
    """Two percentiles of each image, or its minimum and maximum where the two are equal.

    NumPy, because torch.quantile refuses more than 16 million values.
    """
    flat = values.flatten(1).cpu().numpy()
    low_high = np.percentile(flat, [low, high], axis=1)  # [2, B]
    ends = np.stack([flat.min(axis=1), flat.max(axis=1)])
    low_high = np.where(low_high[0] < low_high[1], low_high, ends)
    lows, highs = torch.from_numpy(low_high.astype(np.float32)).to(values.device)
    return lows.view(-1, 1, 1, 1), highs.view(-1, 1, 1, 1)
