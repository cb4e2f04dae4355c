"""What the autoencoder sees of a frame: the picture, its depth as a gray picture, and which cells of them count."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from ..data.sample import DepthSample
from ..model.codec import LatentCodec
from .augment import PhotometricSettings, change_photometry, draw_view
from .latents import LatentSettings
from .sources import Frame
from .target import NormalizationSettings, fill_holes, is_stretched, normalize_target


def views_of(
    frames: Sequence[Frame],
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    rng: np.random.Generator,
) -> Iterator[tuple[Tensor, Tensor, Tensor, bool]]:
    """Picture and depth picture [3, H, W] in [-1, 1] and the cells that count [1, H/8, W/8] of each view, and whether
    its depth `is_stretched`.
    """
    for frame in frames:
        sample = frame.read()
        for _ in range(settings.views_per_frame):
            view = draw_view(sample, settings.view, rng)
            picture = change_photometry(view.image, photometry, rng) * 2 - 1
            far = sky_is_far(settings, frame)
            depth, cells = depth_picture(view, normalization, sky_is_far=far), valid_cells(view, sky_is_far=far)
            yield picture, depth, cells, is_stretched(view.depth_m, view.valid, normalization)


def depth_picture(sample: DepthSample, normalization: NormalizationSettings, *, sky_is_far: bool) -> Tensor:
    """Normalized log depth as a grey picture for the autoencoder, [3, H, W] in [-1, 1].

    Pixels without depth are the far plane, or holes that the nearest depth fills.
    """
    target = normalize_target(sample.depth_m, sample.valid, normalization)
    return (target if sky_is_far else fill_holes(target, sample.valid)).expand(3, -1, -1)


def valid_cells(sample: DepthSample, *, sky_is_far: bool) -> Tensor:
    """Which cells of the latent count, [1, H/8, W/8] bool: those with at least half of their pixels usable.

    A picture that is sky alone says nothing about depth, so none of it counts.
    """
    usable = sample.valid | (sample.valid.any() & sky_is_far)
    return F.avg_pool2d(usable.float(), LatentCodec.downscale) >= 0.5


def sky_is_far(settings: LatentSettings, frame: Frame) -> bool:
    """Whether a frame's pixels without depth count as the far plane."""
    return frame.sky_is_far if settings.sky_is_far is None else settings.sky_is_far
