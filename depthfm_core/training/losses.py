"""What the stages minimize: small functions of tensors, each a mean over what counts."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor


def masked_velocity_loss(predicted: Tensor, velocity: Tensor, valid: Tensor) -> Tensor:
    """Mean squared error of the velocity over the valid cells of a batch, a scalar.

    Args:
        predicted: [B, 4, h, w] the network's velocity.
        velocity: [B, 4, h, w] the path's velocity.
        valid: [B, 1, h, w] bool; at least one cell must be valid, or the loss is zero.

    Source: Lipman et al. 2023, https://arxiv.org/abs/2210.02747, equation 9; the mask is ours.
    """
    weight = valid.to(predicted.dtype).expand_as(predicted)
    return (weight * (predicted - velocity) ** 2).sum() / weight.sum().clamp(min=1)


def edge_loss(predicted: Tensor, target: Tensor) -> Tensor:
    """Mean absolute error of the differences between neighbouring pixels, a scalar.

    Args:
        predicted, target: [B, C, H, W].
    """
    error = predicted - target
    return error.diff(dim=-1).abs().mean() + error.diff(dim=-2).abs().mean()


def coarse_loss(predicted: Tensor, target: Tensor, cell_px: int) -> Tensor:
    """Mean squared error of the means over square cells, a scalar.

    Squared, so that what is far off counts most: the absolute error alone trades color for fine detail.

    Args:
        predicted, target: [B, C, H, W], sides multiples of `cell_px`.
    """
    return F.avg_pool2d(predicted - target, cell_px).square().mean()


def whitening_loss(latent: Tensor) -> Tensor:
    """How far the channels of a latent are from zero mean and unit covariance over the batch, a scalar >= 0.

    Uncorrelated channels have to say different things; with unit variances alone all of them come to say "brightness".
    Computed in float32, whatever the latent is in.

    Args:
        latent: [B, C, h, w].
    """
    with torch.autocast(latent.device.type, enabled=False):  # a covariance is a product, which float16 overflows in
        channels = rearrange(latent.float(), "b c h w -> c (b h w)")
        excess = torch.cov(channels) - torch.eye(len(channels), device=latent.device)
        return channels.mean(1).square().mean() + excess.square().mean()
