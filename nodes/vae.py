"""ComfyUI's VAE as the autoencoder of a DepthFM, and the autoencoder inside a model file as ComfyUI's VAE."""

import copy
import uuid
from collections.abc import Callable, Mapping

import comfy.model_management as mm
import comfy.sd
import torch
from einops import rearrange
from torch import Tensor

from ..depthfm_core.model.codec import SD_SCALING_FACTOR, skip_idle_blocks

EXAMPLE_VAE = "vae-ft-mse-840000-ema-pruned.safetensors"  # for messages: one that fits
# A tiny autoencoder's peak is a few full-size layers of 64 channels; ComfyUI's estimate is a KL autoencoder's.
_TINY_VALUES_PER_PIXEL = 320


class VaeCodec:
    """ComfyUI's VAE as a codec, one latent at a time, in float32 and unclamped.

    The VAE on the socket stays as it is: the work is done by a shallow copy that shares its weights. Half precision
    would show as bands in the depth, and clamping would cut its ends. One latent at a time, because ComfyUI goes over
    to tiles when a batch does not fit, and tiles change the depth.

    Args:
        vae: ComfyUI's VAE.
        scaling_factor: what its latents are multiplied by for the network.

    Raises:
        ValueError: for a VAE of another kind than Stable Diffusion's.
    """

    downscale = 8

    def __init__(self, vae: comfy.sd.VAE, scaling_factor: float = SD_SCALING_FACTOR) -> None:
        kind = (vae.latent_channels, vae.latent_dim, vae.downscale_ratio)
        if kind != (4, 2, 8):
            raise ValueError(
                f"The VAE has {kind[0]} latent channels; DepthFM needs one of Stable Diffusion 1.5 or 2.x, for "
                f"example {EXAMPLE_VAE}."
            )
        self.vae = _unclamped_float32(vae)
        self.scaling_factor = scaling_factor

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to the scaled latent [B, 4, H/8, W/8], on the device of `image`."""
        pixels = rearrange((image + 1) / 2, "b c h w -> b h w c")
        return self._each(self.vae.encode, pixels).to(image.device) * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latent to [B, 3, 8h, 8w] float32, about [-1, 1] and never clamped, on the device of `latent`."""
        pixels = self._each(self.vae.decode, latent / self.scaling_factor)
        return rearrange(pixels, "b h w c -> b c h w").to(latent.device)

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """The mean over the three channels of `decode`, [B, 1, 8h, 8w]."""
        return self.decode(latent).mean(1, keepdim=True)

    def _each(self, run: Callable[[Tensor], Tensor], batch: Tensor) -> Tensor:
        results = []
        for one in batch.split(1):
            mm.throw_exception_if_processing_interrupted()
            results.append(run(one).float())
        return torch.cat(results)


def build_vae(tensors: Mapping[str, Tensor], config: Mapping) -> comfy.sd.VAE:
    """The autoencoder of a model file under ComfyUI's management, in float32.

    Args:
        tensors: of diffusers' `AutoencoderTiny` or `AutoencoderKL`, under its names.
        config: its configuration.
    """
    return _tiny_vae(tensors) if "encoder.layers.0.weight" in tensors else _kl_vae(tensors, config)


def _unclamped_float32(vae: comfy.sd.VAE) -> comfy.sd.VAE:
    raw = copy.copy(vae)
    raw.process_output = lambda pixels: pixels
    if hasattr(vae, "vae_output_dtype"):  # newer than 0.3.75: may be float16
        raw.vae_output_dtype = lambda: torch.float32
    if vae.vae_dtype != torch.float32:
        raw.vae_dtype = torch.float32
        raw.patcher = vae.patcher.clone()
        raw.patcher.force_cast_weights = True  # every layer casts its weights to its input's dtype
        raw.patcher.patches_uuid = uuid.uuid4()  # or ComfyUI would take it for loaded already
    return raw


def _tiny_vae(tensors: Mapping[str, Tensor]) -> comfy.sd.VAE:
    """ComfyUI's TAESD, whose decoder counts from 1, behind the clamp of the latent."""
    renamed = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    for name, tensor in tensors.items():
        part, _, index, rest = name.split(".", 3)
        renamed[f"taesd_{part}.{int(index) + (part == 'decoder')}.{rest}"] = tensor
    vae = comfy.sd.VAE(sd=renamed, dtype=torch.float32)
    skip_idle_blocks(vae.first_stage_model.taesd_encoder, vae.first_stage_model.taesd_decoder)
    vae.memory_used_encode = lambda shape, dtype: _TINY_VALUES_PER_PIXEL * shape[2] * shape[3] * mm.dtype_size(dtype)
    vae.memory_used_decode = lambda shape, dtype: 64 * vae.memory_used_encode(shape, dtype)
    return vae


def _kl_vae(tensors: Mapping[str, Tensor], config: Mapping) -> comfy.sd.VAE:
    """ComfyUI's AutoencoderKL, which converts diffusers' names itself."""
    channels = config["block_out_channels"]
    ddconfig = {
        "double_z": True,
        "z_channels": config["latent_channels"],
        "resolution": 256,  # not used by the network
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": config["layers_per_block"],
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    params = {"ddconfig": ddconfig, "embed_dim": config["latent_channels"]}
    return comfy.sd.VAE(sd=dict(tensors), config={"params": params}, dtype=torch.float32)
