"""The auxiliary surface-normal loss: the estimated depth map should bend where the true one does.

The paper's first version had such a loss, whose form was never published; this one is ours. The network's depth is
normalized log depth without intrinsics, so there are no camera points whose normals `depth.normals` could take. The
surface here is log depth over the picture, in a box: log depth goes from -1 to 1, and the picture's longer side as
well. A map that rises from near to far along that side is a slope of 45 degrees, at any resolution. With pixels as the
unit all slopes would be near zero, and all normals alike.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from ..model.codec import LatentCodec

_PIXELS_AT_ONCE = 2**18  # in the decoder, whose activations for the backward pass are many times the picture


def normal_loss(predicted: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Mean over the valid cells of a batch of 1 - cos of the angle between two surfaces' normals, a scalar in [0, 2].

    A pixel's slope is the difference to one neighbor along each axis: inside of the valid cells, and the one to which
    the target is flatter, so that a step of the target is in no normal, while a step that only `predicted` has counts.

    Args:
        predicted, target: [B, 1, H, W] log depth; gradients go to `predicted`.
        valid: [B, 1, h, w] bool, a cell for H/h x W/w pixels, at least 2 x 2; without a valid cell the loss is zero.
    """
    cell = target.shape[-2] // valid.shape[-2]
    usable = valid.repeat_interleave(cell, -2).repeat_interleave(cell, -1)  # [B, 1, H, W]
    slopes = [_slopes(predicted.float(), target.float(), usable, dim) for dim in (-1, -2)]
    ours, theirs = (_normals(*along) for along in zip(*slopes, strict=True))
    error = (ours - theirs).square().sum(1, keepdim=True) / 2  # of unit vectors: 1 - cos, and zero where they are equal
    return error.where(usable, 0.0).sum() / usable.sum().clamp(min=1)


def decoded_normal_loss(codec: LatentCodec, x_1: Tensor, depth_latent: Tensor, valid: Tensor) -> Tensor:
    """`normal_loss` of the depth maps that two latents are decoded to, a scalar.

    Decoded in float32, since half precision's steps are slopes, a few pictures at a time, whose activations the
    backward pass computes again. So the batch does not cost memory.

    Args:
        codec: frozen, on the latents' device; gradients go through it to `x_1`.
        x_1: [B, 4, h, w] the estimated depth latent.
        depth_latent: [B, 4, h, w] the true one.
        valid: [B, 1, h, w] bool.
    """
    with torch.autocast(x_1.device.type, enabled=False):
        parts = [
            checkpoint(_part, codec, *part, use_reentrant=False, preserve_rng_state=False) * part[-1].sum()
            for part in _parts(codec.downscale, x_1.float(), depth_latent.float(), valid)
        ]
        return torch.stack(parts).sum() / valid.sum().clamp(min=1)


def _parts(downscale: int, *latents: Tensor) -> Iterator[tuple[Tensor, ...]]:
    pixels = downscale**2 * latents[0].shape[-2] * latents[0].shape[-1]
    yield from zip(*(latent.split(max(1, _PIXELS_AT_ONCE // pixels)) for latent in latents), strict=True)


def _part(codec: LatentCodec, x_1: Tensor, depth_latent: Tensor, valid: Tensor) -> Tensor:
    with torch.no_grad():
        target = codec.decode_log_depth(depth_latent)
    return normal_loss(codec.decode_log_depth(x_1), target, valid)


def _slopes(predicted: Tensor, target: Tensor, usable: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """Rise over run along `dim` of both maps, [B, 1, H, W] each, between the same two pixels."""
    step = 2 / max(target.shape[-2:])
    length = target.shape[dim] - 1
    inside = usable.narrow(dim, 0, length) & usable.narrow(dim, 1, length)
    steepness = target.diff(dim=dim).abs().where(inside, torch.inf)
    after, before = _after_and_before(steepness, dim, torch.inf)
    forward = after <= before
    ours, theirs = (torch.where(forward, *_after_and_before(m.diff(dim=dim), dim, 0.0)) for m in (predicted, target))
    return ours / step, theirs / step


def _after_and_before(differences: Tensor, dim: int, beyond: float) -> tuple[Tensor, Tensor]:
    """Each pixel's difference to the next pixel and from the last one; `beyond` where the picture ends."""
    end = torch.full_like(differences.narrow(dim, 0, 1), beyond)
    return torch.cat([differences, end], dim), torch.cat([end, differences], dim)


def _normals(across: Tensor, down: Tensor) -> Tensor:
    """Unit normals towards the viewer, [B, 3, H, W], of slopes to the right and downwards."""
    return F.normalize(torch.cat([-across, -down, torch.ones_like(across)], dim=1), dim=1)
