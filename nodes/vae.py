"""ComfyUI's VAE as the autoencoder of a DepthFM, and the autoencoder inside a model file as ComfyUI's VAE."""

import copy
import math
import uuid
from collections.abc import Callable, Mapping, Sequence

import comfy.model_management as mm
import comfy.model_patcher
import comfy.sd
import torch
from einops import rearrange
from torch import Tensor, nn

from ..depthfm_core.model.autoencoders import SD_SCALING_FACTOR, is_tiny, skip_idle_blocks
from ..depthfm_core.model.checkpoints import DepthFMCheckpoint
from ..depthfm_core.model.digest import tensor_digest
from ..depthfm_core.model.precision import codec_layout
from .out_of_memory import AutoencoderOutOfMemory, is_out_of_memory
from .vae_shapes import check_inside, kl_parameters, ldm_names

EXAMPLE_VAE = "vae-ft-mse-840000-ema-pruned.safetensors"  # for messages: one that fits
# Alive at an autoencoder's peak: full-size layers of so many channels, and two pictures. ComfyUI's own estimates,
# 1767 and 2178 values a pixel, are for KL autoencoders, with room to spare.
_TINY_CHANNELS = 64
_PICTURES = 6


class VaeCodec:
    """ComfyUI's VAE as a codec, one latent at a time, in float32 and unclamped.

    The VAE on the socket stays as it is: the work is done by a shallow copy that shares its weights. Half precision
    would show as bands in the depth, and clamping would cut its ends. One latent at a time, and never in tiles, to
    which ComfyUI goes over when something does not fit: every tile is normalized for itself, which changes the depth.

    Args:
        vae: ComfyUI's VAE.
        scaling_factor: what its latents are multiplied by for the network.

    Raises:
        ValueError: for a VAE of another kind than Stable Diffusion's.
        RuntimeError: ComfyUI's, for the VAE of a checkpoint that has none.
        AutoencoderOutOfMemory: from `encode` and `decode_log_depth`, when there is no room for one latent.
    """

    downscale = 8

    def __init__(self, vae: comfy.sd.VAE, scaling_factor: float = SD_SCALING_FACTOR) -> None:
        vae.throw_exception_if_invalid()
        _check_kind(vae)
        self.vae = _without_tiles(_unclamped_float32(vae))
        self.scaling_factor = scaling_factor

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to the scaled latent [B, 4, H/8, W/8], on the device of `image`."""
        pixels = ((image + 1) / 2).contiguous(memory_format=self._layout)
        pixels = rearrange(pixels, "b c h w -> b h w c")
        return self._each(self.vae.encode, pixels, image.shape[-2:]).to(image.device) * self.scaling_factor

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """Scaled latent to [B, 1, 8h, 8w] float32, about [-1, 1] and never clamped, on the device of `latent`.

        The mean over the three channels of a decoded picture, taken one by one, before it travels.
        """
        scaled = (latent / self.scaling_factor).contiguous(memory_format=self._layout)
        size = [side * self.downscale for side in latent.shape[-2:]]
        log_depth = self._each(lambda one: self.vae.decode(one).float().mean(-1, keepdim=True), scaled, size)
        return rearrange(log_depth, "b h w c -> b c h w").to(latent.device)

    def decode_bytes(self, height: int, width: int) -> int:
        """The peak of decoding one picture of so many pixels, beside the weights."""
        values = _values_a_pixel(self.vae.first_stage_model)
        if values is None:  # of a kind that was never counted
            return self.vae.memory_used_decode((1, 4, height // 8, width // 8), torch.float32)
        return values[1] * height * width * torch.float32.itemsize

    @property
    def _layout(self) -> torch.memory_format:
        """Of what goes in; every layer goes on in it."""
        return codec_layout(self.vae.device)

    def _each(self, run: Callable[[Tensor], Tensor], batch: Tensor, size: Sequence[int]) -> Tensor:
        """`size` is the picture's height and width, for the message."""
        results = []
        for one in batch.split(1):
            mm.throw_exception_if_processing_interrupted()
            try:
                results.append(run(one).float())
            except Exception as error:
                if is_out_of_memory(error):
                    raise AutoencoderOutOfMemory(*size) from error
                raise
        return torch.cat(results)


def _check_kind(vae: comfy.sd.VAE) -> None:
    kind = {
        "latent channels": (vae.latent_channels, 4),
        "latent dimensions": (vae.latent_dim, 2),
        "pixels a side of a latent cell": (vae.downscale_ratio, VaeCodec.downscale),
    }
    wrong = [f"{found} {name} instead of {wanted}" for name, (found, wanted) in kind.items() if found != wanted]
    if wrong:
        raise ValueError(
            f"The VAE has {', '.join(wrong)}; DepthFM needs one of Stable Diffusion 1.5 or 2.x, for example "
            f"{EXAMPLE_VAE}."
        )


def vae_inside(checkpoint: DepthFMCheckpoint) -> tuple[comfy.sd.VAE | None, float]:
    """The autoencoder in a model file as ComfyUI's VAE, and what its latents are multiplied by for the network.

    None, and Stable Diffusion's factor, for a file without one.

    Raises:
        CheckpointError: for an autoencoder of another kind, or one with missing or unexpected tensors.
    """
    tensors, config = checkpoint.codec_tensors, checkpoint.codec_config or {}
    if not tensors:
        return None, SD_SCALING_FACTOR
    check_inside(tensors, config, checkpoint.path)
    usual = 1.0 if is_tiny(tensors) else SD_SCALING_FACTOR
    vae = build_vae(tensors, config)
    vae.depthfm_resolution = checkpoint.processing_resolution
    return vae, config.get("scaling_factor") or usual


def build_vae(tensors: Mapping[str, Tensor], config: Mapping) -> comfy.sd.VAE:
    """The autoencoder of a model file under ComfyUI's management, in float32.

    Args:
        tensors: of diffusers' `AutoencoderTiny` or `AutoencoderKL`, under its names.
        config: its configuration; see `vae_shapes.check_inside` for what fits.
    """
    vae = _tiny_vae(tensors) if is_tiny(tensors) else _kl_vae(tensors, config)
    vae.depthfm_content = tensor_digest(tensors)
    vae.patcher.cached_patcher_init = (build_patcher, (tensors, config))
    return vae


def build_patcher(tensors: Mapping[str, Tensor], config: Mapping) -> comfy.model_patcher.ModelPatcher:
    """The patcher of `build_vae`, of a network of its own: newer versions than 0.3.75 call this for another GPU."""
    return build_vae(tensors, config).patcher


def is_same_autoencoder(vae: object, own: comfy.sd.VAE) -> bool:
    """Whether a VAE holds what `own`, from `build_vae`, holds: a file may be loaded twice, in two precisions."""
    return getattr(vae, "depthfm_content", None) == own.depthfm_content


def resolution_of_its_model(vae: object) -> float:
    """The working resolution in pixels of the DepthFM whose file a VAE, from `vae_inside`, came in; else infinite."""
    return getattr(vae, "depthfm_resolution", math.inf)


def _unclamped_float32(vae: comfy.sd.VAE) -> comfy.sd.VAE:
    raw = copy.copy(vae)
    # It leaves pixels as they are, since newer versions want them changed in place and look at nothing that it returns.
    raw.process_output = lambda pixels: pixels
    if hasattr(vae, "vae_output_dtype"):  # newer than 0.3.75: may be float16
        raw.vae_output_dtype = lambda: torch.float32
    if vae.vae_dtype != torch.float32:
        raw.vae_dtype = torch.float32
        raw.patcher = vae.patcher.clone()
        raw.patcher.force_cast_weights = True  # every layer casts its weights to its input's dtype
        raw.patcher.patches_uuid = uuid.uuid4()  # or ComfyUI would take it for loaded already
    return raw


def _without_tiles(own_copy: comfy.sd.VAE) -> comfy.sd.VAE:
    own_copy.encode_tiled_ = own_copy.decode_tiled_ = _refuse_tiles
    return own_copy


def _refuse_tiles(*_what: object, **_sizes: object) -> None:
    raise mm.OOM_EXCEPTION("The autoencoder does not fit, and DepthFM takes no tiles.")


def _tiny_vae(tensors: Mapping[str, Tensor]) -> comfy.sd.VAE:
    """ComfyUI's TAESD, whose decoder counts from 1, behind the clamp of the latent."""
    renamed = {"vae_scale": torch.tensor(1.0), "vae_shift": torch.tensor(0.0)}
    for name, tensor in tensors.items():
        part, _, index, rest = name.split(".", 3)
        renamed[f"taesd_{part}.{int(index) + (part == 'decoder')}.{rest}"] = tensor
    vae = comfy.sd.VAE(sd=renamed, dtype=torch.float32)
    skip_idle_blocks(vae.first_stage_model.taesd_encoder, vae.first_stage_model.taesd_decoder)
    return _with_memory_counted(vae)


def _kl_vae(tensors: Mapping[str, Tensor], config: Mapping) -> comfy.sd.VAE:
    """ComfyUI's AutoencoderKL."""
    config = {"params": kl_parameters(config)}
    return _with_memory_counted(comfy.sd.VAE(sd=ldm_names(tensors), config=config, dtype=torch.float32))


def _with_memory_counted(vae: comfy.sd.VAE) -> comfy.sd.VAE:
    """The VAE, asking ComfyUI for the memory that it uses; a VAE that somebody else made asks for what it likes."""
    encoder, decoder = _values_a_pixel(vae.first_stage_model)
    vae.memory_used_encode = lambda shape, dtype: encoder * shape[2] * shape[3] * mm.dtype_size(dtype)
    vae.memory_used_decode = lambda shape, dtype: decoder * 64 * shape[2] * shape[3] * mm.dtype_size(dtype)
    return vae


def _values_a_pixel(network: nn.Module) -> tuple[int, int] | None:
    """The peaks of encoder and decoder, counted by `tests/live_bytes.py`; None for other networks."""
    if hasattr(network, "taesd_decoder"):
        # In, between and out of a residual block; two of them where the full-size block is idle.
        blocks = network.taesd_encoder[1], network.taesd_decoder[-2]
        layers = [_TINY_CHANNELS * (2 + hasattr(block, "conv")) for block in blocks]
    elif hasattr(network, "decoder") and hasattr(network.decoder, "up"):
        # In and normalized, and out of the first convolution, of the first full-size block.
        blocks = network.encoder.down[0].block[0], network.decoder.up[0].block[0]
        layers = [2 * block.in_channels + block.out_channels for block in blocks]
    else:
        return None
    return layers[0] + _PICTURES, layers[1] + _PICTURES
