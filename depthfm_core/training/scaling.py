"""The factor that an autoencoder's latents are multiplied by, so that noise of unit scale fits them."""

import numpy as np
import torch
from diffusers import AutoencoderTiny

from .augment import ViewSettings, change_photometry, draw_view
from .autoencoder import AutoencoderData
from .held_out import spread
from .views import depth_picture

_MEASURED_PICTURES = 64


@torch.no_grad()
def measure_scaling_factor(autoencoder: AutoencoderTiny, data: AutoencoderData, crop_px: int) -> float:
    """The factor that gives latents of pictures and depth maps together a standard deviation of one."""
    rng = np.random.default_rng(0)
    view = ViewSettings(crop_px, crop_px)
    frames = spread(data.frames, _MEASURED_PICTURES)
    samples = [draw_view(frame.read(), view, rng) for frame in frames]
    pictures = [change_photometry(sample.image, data.photometry, rng) * 2 - 1 for sample in samples]
    depths = [
        depth_picture(sample, data.normalization, sky_is_far=frame.sky_is_far)
        for sample, frame in zip(samples, frames, strict=True)
    ]
    return 1 / float(autoencoder.encoder(torch.stack(pictures + depths)).std())
