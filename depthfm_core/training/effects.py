"""What lenses and developing do to pictures: the effects that `augment` and `batched_views` have in common."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

_LUMA = (0.299, 0.587, 0.114)
_BLUR_REACH = 3  # pixels to each side


def vignetted(images: Tensor, amount: float | Tensor) -> Tensor:
    """Pictures [B, 3, H, W], darker by a share `amount` in their corners; a number, or [B, 1, 1, 1]."""
    height, width = images.shape[-2:]
    y = torch.linspace(-1, 1, height, device=images.device)[:, None]
    x = torch.linspace(-1, 1, width, device=images.device)[None]
    return images * (1 - amount * (x**2 + y**2) / 2)


def blurred(images: Tensor, amounts: np.ndarray) -> Tensor:
    """Pictures [B, 3, H, W], each under its own Gaussian of `amounts` [B] pixels; 0 leaves it as it is."""
    offsets = np.arange(-_BLUR_REACH, _BLUR_REACH + 1)
    kernels = np.exp(-(offsets**2) / (2 * np.maximum(amounts, 0.1)[:, None] ** 2)).astype(np.float32)
    kernel = torch.from_numpy(kernels / kernels.sum(1, keepdims=True)).to(images.device)
    kernel = kernel.repeat_interleave(3, 0)[:, None, None]  # [3B, 1, 1, K]
    flat = F.pad(rearrange(images, "b c h w -> 1 (b c) h w"), (_BLUR_REACH,) * 4, mode="replicate")
    flat = F.conv2d(F.conv2d(flat, kernel, groups=len(kernel)), kernel.mT, groups=len(kernel))
    return rearrange(flat, "1 (b c) h w -> b c h w", c=3)


def turned(images: Tensor, angle: Tensor, saturation: float | Tensor) -> Tensor:
    """Pictures [B, 3, H, W], their hue rotated about the grey axis and the distance from it scaled.

    Args:
        angle: in radians, [] or [B, 1, 1, 1]; by Rodrigues' formula, whose cross product with (1, 1, 1) is a difference
            of the two other channels.
        saturation: the factor of the distance, a number or as `angle`.
    """
    luma = torch.tensor(_LUMA, device=images.device)
    grey = torch.einsum("c,bchw->bhw", luma, images)[:, None]
    color = images - grey
    crossed = (color.roll(1, 1) - color.roll(-1, 1)) / math.sqrt(3)
    along = color.mean(1, keepdim=True)
    return grey + saturation * (color * angle.cos() + crossed * angle.sin() + along * (1 - angle.cos()))
