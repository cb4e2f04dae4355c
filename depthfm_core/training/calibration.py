"""How large the ensemble's spread has to be read: the factor that makes it the expected error.

Members agree more with each other than with the truth, since they share the network's mistakes. The factor is measured
on held-out frames, written into the checkpoint, and multiplied into every uncertainty.
"""

import torch
from torch import Tensor
from tqdm import tqdm

from ..depth.align import least_squares
from ..flow import combine_members
from ..model.codec import LatentCodec
from ..model.unet import DepthFMUNet
from .validation import HeldOut, estimate

_MEMBERS = 8
_AT_ONCE = 8


def measure_spread_scale(network: DepthFMUNet, codec: LatentCodec, held_out: HeldOut, noising_step: int) -> float:
    """Root mean square error of the ensemble's log depth over root mean square spread, over all valid pixels.

    The error is in units of log depth as the network gives it: the truth is fitted to the prediction by scale and
    shift, image by image, since a prediction is known only up to these. 1 where there is no spread.
    """
    generator = torch.Generator().manual_seed(1)
    error, spread = [], []
    parts = (tensor.split(_AT_ONCE) for tensor in (held_out.image_latent, held_out.depth_m, held_out.valid))
    with tqdm(total=len(held_out.valid) * _MEMBERS, desc="spread", unit="estimate") as bar:
        for image_latent, depth_m, valid in zip(*parts, strict=True):
            centre, deviation = _ensemble(network, codec, image_latent, noising_step, generator, bar)
            error.append(log_depth_error(centre, depth_m, valid)[valid])
            spread.append(deviation[valid])
    total = torch.cat(spread).square().mean().sqrt()
    return float(torch.cat(error).square().mean().sqrt() / total) if total > 0 else 1.0


def _ensemble(
    network: DepthFMUNet,
    codec: LatentCodec,
    image_latent: Tensor,
    noising_step: int,
    generator: torch.Generator,
    bar: tqdm,
) -> tuple[Tensor, Tensor]:
    """Centre and spread of the log depth of some images, [B, 1, H, W] each."""
    noise = [torch.randn(image_latent.shape, generator=generator) for _ in range(_MEMBERS)]
    members = []
    for member in noise:
        members.append(estimate(network, codec, image_latent, member, noising_step))
        bar.update(len(image_latent))
    return combine_members(torch.stack(members, dim=1))


def log_depth_error(log_depth: Tensor, depth_m: Tensor, valid: Tensor) -> Tensor:
    """What `log_depth` is off by, in its own units, once scale and shift are fitted: [B, 1, H, W], 0 where invalid.

    Args:
        log_depth: [B, 1, H, W] affine-invariant log depth.
        depth_m: [B, 1, H, W] depth in metres, > 0 where valid.
        valid: [B, 1, H, W] bool.
    """
    truth = depth_m.where(valid, 1.0).log()
    return (log_depth - least_squares(truth, log_depth, valid)(truth)).where(valid, 0.0)
