"""How good a velocity network is on frames that it never trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..depth.align import align
from ..flow import integrate, noise_source
from ..model.codec import LatentCodec
from ..model.unet import DepthFMUNet
from .augment import ViewSettings, draw_view
from .latents import decode, encode
from .sources import Frame

_CHECK_STEPS = 2
_CHECK_AT_ONCE = 25


class HeldOut(NamedTuple):
    """Frames that are never trained on: latents [N, 4, h, w], depth in metres and its mask [N, 1, H, W]."""

    image_latent: Tensor
    depth_m: Tensor
    valid: Tensor


def encode_held_out(frames: Sequence[Frame], view: ViewSettings, codec: LatentCodec) -> HeldOut:
    """The largest crop in the canvas's shape of each frame, pictures unchanged."""
    whole = ViewSettings(view.height_px, view.width_px, min_scale=1.0, aspect_jitter=0.0, flip_probability=0.0)
    samples = [draw_view(frame.read(), whole, np.random.default_rng(0)) for frame in frames]
    image_latent = encode(codec, torch.stack([sample.image for sample in samples]) * 2 - 1)
    depth_m, valid = (torch.stack([getattr(sample, name) for sample in samples]) for name in ("depth_m", "valid"))
    return HeldOut(image_latent, depth_m, valid)


def score(network: DepthFMUNet, codec: LatentCodec, held_out: HeldOut, noising_step: int) -> tuple[float, float]:
    """AbsRel and delta1 over the held-out frames: two Euler steps, aligned by least squares in log depth."""
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(held_out.image_latent.shape, generator=generator).to(held_out.image_latent.device)
    errors, hits = [], []
    parts = (tensor.split(_CHECK_AT_ONCE) for tensor in (*held_out, noise))
    for image_latent, depth_m, valid, part_noise in zip(*parts, strict=True):
        log_depth = estimate(network, codec, image_latent, part_noise, noising_step)
        predicted = align(log_depth, depth_m, valid, "log")
        ratio = (predicted / depth_m)[valid]
        errors.append((ratio - 1).abs())
        hits.append(torch.maximum(ratio, 1 / ratio) < 1.25)
    return float(torch.cat(errors).mean()), float(torch.cat(hits).float().mean())


@torch.no_grad()
def estimate(
    network: DepthFMUNet, codec: LatentCodec, image_latent: Tensor, noise: Tensor, noising_step: int
) -> Tensor:
    """Log depth [N, 1, H, W] by two Euler steps."""

    def velocity(x_t: Tensor, t: float) -> Tensor:
        return network(x_t, x_t.new_full((len(x_t),), t), image_latent)

    x_1 = integrate(velocity, noise_source(image_latent, noising_step, noise), _CHECK_STEPS).x_1
    return decode(codec, x_1).mean(1, keepdim=True)
