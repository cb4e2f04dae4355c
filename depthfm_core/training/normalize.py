"""Depth as the network learns it: log depth, scaled between two percentiles of the picture to [-1, 1].

What was not measured takes +1, the far plane: in the synthetic frames that is the sky, which Virtual KITTI likewise
writes at its cap. Beyond the percentiles the value is cut, so that a few stray pixels do not stretch the latent.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

_MIN_LOG_RANGE = 0.02  # a wall seen head-on: 2 % of depth fill the range rather than noise


@dataclass(frozen=True)
class NormalizationSettings:
    """The percentiles of a picture's measured depth that become -1 (near) and +1 (far).

    Raises:
        ValueError: for percentiles that are not ordered within 0..100.
    """

    near_percentile: float = 2.0
    far_percentile: float = 98.0

    def __post_init__(self) -> None:
        if not 0 <= self.near_percentile < self.far_percentile <= 100:
            raise ValueError(
                f"Percentiles {self.near_percentile} and {self.far_percentile} are not ordered; choose e.g. 2 and 98."
            )


def normalize_log_depth(depth_m: Tensor, valid: Tensor, settings: NormalizationSettings) -> Tensor:
    """Affine log depth in [-1, 1]: -1 at the near percentile, +1 at the far one and where nothing was measured.

    Args:
        depth_m: [1, H, W] depth in metres, > 0 where valid.
        valid: [1, H, W] bool.
        settings: the percentiles, taken over the valid pixels.

    Returns:
        [1, H, W]; all +1 for a picture without a valid pixel.

    Source: CompVis/diff2flow, `depth_preprocessing.py` (other percentiles, not cut, no guard for zeros).
    """
    if not valid.any():
        return torch.ones_like(depth_m)
    log_depth = depth_m.where(valid, 1.0).log()
    levels = torch.tensor([settings.near_percentile / 100, settings.far_percentile / 100])
    near, far = torch.quantile(log_depth[valid], levels).tolist()
    scaled = (log_depth - near) / max(far - near, _MIN_LOG_RANGE) * 2 - 1
    return scaled.clamp(-1, 1).where(valid, 1.0)
