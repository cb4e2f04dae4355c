"""What a pipeline is made of: whoever has these members can take the place of our networks, and some do.

PyTorch's are in `model`, OpenVINO's in `backends`, those under ComfyUI's memory management in the node pack.
"""

from typing import Protocol

import torch
from torch import Tensor

from .model.hyperparameters import UNetHyperParameters


class VelocityNetwork(Protocol):
    """The velocity field.

    Attributes:
        hyper: its shape, from which follows what sides it takes and how much memory.
        dtype: what it computes in.
        device: where latents have to be.
    """

    hyper: UNetHyperParameters
    dtype: torch.dtype
    device: torch.device

    def __call__(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """The velocity [B, 4, h, w] at x_t [B, 4, h, w] and t [B] in [0, 1], in the dtype of `x_t`."""


class Codec(Protocol):
    """The autoencoder of pictures and depth maps.

    Attributes:
        downscale: pixels a side of a cell of the latent.
    """

    downscale: int

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to the scaled latent [B, 4, H/8, W/8]."""

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """Scaled latent [B, 4, h, w] to log depth [B, 1, 8h, 8w] in float32, about [-1, 1] and never clamped."""
