"""The VAE on ComfyUI's socket as the autoencoder of a DepthFM."""

import copy

import torch
from einops import rearrange
from torch import Tensor

from ..depthfm_core.model.codec import SD_SCALING_FACTOR


class VaeCodec:
    """ComfyUI's VAE as a codec; a shallow copy decodes unclamped, and the VAE on the socket stays as it is.

    Raises:
        ValueError: for a VAE of another kind than Stable Diffusion's.
    """

    downscale = 8

    def __init__(self, vae: object) -> None:
        kind = (vae.latent_channels, vae.latent_dim, vae.downscale_ratio)
        if kind != (4, 2, 8):
            raise ValueError(
                f"The VAE has {kind[0]} latent channels; DepthFM needs one of Stable Diffusion 1.5 or 2.x, for "
                "example vae-ft-mse-840000-ema-pruned.safetensors."
            )
        self.vae = copy.copy(vae)
        self.vae.process_output = lambda pixels: pixels
        if hasattr(vae, "vae_output_dtype"):  # newer than 0.3.75: may be float16
            self.vae.vae_output_dtype = lambda: torch.float32

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to the scaled latent [B, 4, H/8, W/8], on the device of `image`."""
        latent = self.vae.encode(rearrange((image + 1) / 2, "b c h w -> b h w c"))
        return latent.float().to(image.device) * SD_SCALING_FACTOR

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latent to [B, 3, 8h, 8w] float32, about [-1, 1] and never clamped, on the device of `latent`."""
        pixels = self.vae.decode(latent / SD_SCALING_FACTOR)
        return rearrange(pixels, "b h w c -> b c h w").float().to(latent.device)
