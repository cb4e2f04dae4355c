"""Autoencoders: a picture (or a depth map, as a grey picture) to a small latent and back.

Two kinds fit: the KL autoencoders of Stable Diffusion 1.x and 2.x, and the tiny ones (TAESD). Both are diffusers'
classes; this file reads their files under any of the usual names and leaves decoding unclamped, because log depth does
not stop at the borders of a picture's range.

In half precision the decoder's last normalization and convolution stay in float32, where rounding shows as bands: of
nano's neighboring pixels (the example picture at 512 x 512) half came out equal in bfloat16, and 0.03 % with this.
Nothing else that was tried (the encoder's end, the decoder's first layers, the network's end) took even a tenth off
the deviation from float32.
"""

import json
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import Tensor, nn

from .autoencoders import check_scale, check_sizes, is_tiny, skip_idle_blocks
from .codec_names import kl_config, modern_kl_names
from .layouts import flatten
from .pages import convert_tensors
from .precision import codec_dtype, codec_layout
from .reading import CheckpointError, mismatch, not_plain, read_tensor_file, weight_files

_CLASSES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
_ONLY_FOR_TRAINING = ("loss.", "model_ema.")  # what LDM's autoencoder training leaves in a file
_ACCEPTED = "Give a Stable Diffusion 1.x/2.x VAE (safetensors or diffusers folder) or an AutoencoderTiny."


class LatentCodec(nn.Module):
    """An autoencoder with its scaling factor, so that latents are of about unit scale.

    Args:
        autoencoder: diffusers' `AutoencoderKL` or `AutoencoderTiny`.
        scaling_factor: what latents are multiplied by; the autoencoder's own when None.
    """

    downscale = 8

    def __init__(self, autoencoder: AutoencoderKL | AutoencoderTiny, scaling_factor: float | None = None) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scaling_factor = scaling_factor or autoencoder.config.scaling_factor

    def compile_decoder(self, **how: object) -> None:
        """Lets decoding be compiled at its first call with each shape; the arguments are `torch.compile`'s."""
        self._decode = torch.compile(self._decode, **how)

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1], sides multiples of 8, to the scaled latent [B, 4, H/8, W/8] (posterior mode)."""
        encoded = self.autoencoder.encode(image.to(self.autoencoder.dtype))
        latent = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded.latents
        return latent.float() * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """Scaled latent [B, 4, h, w] to [B, 3, 8h, 8w] float32, about [-1, 1] and never clamped."""
        output = _output_layer(self.autoencoder)
        return self._decode(latent, output.weight, output.bias)

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """The mean over the three channels of `decode`, [B, 1, 8h, 8w], taken of the last convolution's weights."""
        output = _output_layer(self.autoencoder)
        return self._decode(latent, output.weight.mean(0, keepdim=True), output.bias.mean(0, keepdim=True))

    def _decode(self, latent: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """`decode`, with a last convolution of as many channels as `weight` has."""
        decoder = self.autoencoder.decoder
        latent = (latent / self.scaling_factor).to(self.autoencoder.dtype)
        if isinstance(self.autoencoder, AutoencoderTiny):
            features = decoder.layers[:-1](torch.tanh(latent / 3) * 3)
            return F.conv2d(features.to(weight.dtype), weight, bias, padding=1).float() * 2 - 1
        post_quant_conv = self.autoencoder.post_quant_conv
        features = decoder.conv_in(latent if post_quant_conv is None else post_quant_conv(latent))
        for layer in _decoder_layers(decoder):
            features = layer(features, None)  # without a time or a size
        features = features.to(weight.dtype)
        features = F.silu(decoder.conv_norm_out(features), inplace=True)
        return F.conv2d(features, weight, bias, padding=1).float()


def _decoder_layers(decoder: nn.Module) -> Iterator[nn.Module]:
    """One by one, since a block would keep its input in memory until its last layer is done."""
    yield decoder.mid_block
    for block in decoder.up_blocks:
        yield from block.resnets
        yield from block.upsamplers or ()


def _output_layer(autoencoder: AutoencoderKL | AutoencoderTiny) -> nn.Conv2d:
    """The decoder's last convolution."""
    decoder = autoencoder.decoder
    return decoder.layers[-1] if isinstance(autoencoder, AutoencoderTiny) else decoder.conv_out


def load_codec(path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu") -> LatentCodec:
    """The autoencoder in a diffusers folder or a single file; precision as in `build_codec`.

    Single files may use diffusers' names (new or old), LDM's, or be a whole LDM checkpoint with a `first_stage_model`.

    Raises:
        CheckpointError: for a file that holds no such autoencoder, or one with missing or unexpected tensors.
    """
    path = Path(path)
    config, file = find_in_folder(path) if path.is_dir() else (None, path)
    content, _ = read_tensor_file(file)
    inside = content.get("state_dict")
    tensors = flatten(inside if isinstance(inside, Mapping) else content)
    tensors = {name: t for name, t in tensors.items() if not name.startswith(_ONLY_FOR_TRAINING)}
    if any(name.startswith("first_stage_model.") for name in tensors):
        tensors = {name: t for name, t in tensors.items() if name.startswith("first_stage_model.")}
    return build_codec(tensors, config, source=file, dtype=dtype, device=device)


def build_codec(
    tensors: Mapping[str, Tensor],
    config: Mapping | None,
    *,
    source: str | Path,
    dtype: torch.dtype = torch.float32,
    device: str | torch.device = "cpu",
) -> LatentCodec:
    """An autoencoder for inference, from its tensors and its diffusers configuration; without one, the shapes tell.

    float16 means float32 for a KL autoencoder, see `precision.codec_dtype`.

    Raises:
        CheckpointError: naming `source`, when tensors and configuration describe no autoencoder that fits.
    """
    tiny = is_tiny(tensors)
    tensors = dict(tensors) if tiny else modern_kl_names(tensors)
    config = dict(config or ({"_class_name": "AutoencoderTiny"} if tiny else kl_config(tensors, source, _ACCEPTED)))
    return filled(instantiate(config, source, _ACCEPTED), tensors, source, _ACCEPTED, dtype, torch.device(device))


def filled(
    autoencoder: AutoencoderKL | AutoencoderTiny,
    tensors: Mapping[str, Tensor],
    source: str | Path,
    accepted: str,
    dtype: torch.dtype,
    device: torch.device,
) -> LatentCodec:
    """The codec of a module of `instantiate` and its weights, idle blocks left out; precision as in `build_codec`.

    Raises:
        CheckpointError: naming `source` and what is `accepted`, for missing, unexpected or misshapen tensors.
    """
    shapes = {name: tensor.shape for name, tensor in tensors.items()}
    wanted = {name: tensor.shape for name, tensor in autoencoder.state_dict().items()}
    if problem := not_plain(tensors) or mismatch(wanted, shapes):
        raise CheckpointError(source, f"does not fit its autoencoder: {problem}", accepted)
    tiny = isinstance(autoencoder, AutoencoderTiny)
    dtype = codec_dtype(dtype, tiny=tiny)
    convert = partial(_converted, device=device, dtype=dtype, sensitive=_sensitive_layers(autoencoder))
    autoencoder.load_state_dict(convert_tensors(tensors, source, convert), assign=True)
    if tiny:
        halves = (autoencoder.encoder, autoencoder.decoder)
        skip_idle_blocks(*(half.layers for half in halves if hasattr(half, "layers")))
    return LatentCodec(autoencoder.eval().requires_grad_(False))


def _sensitive_layers(autoencoder: AutoencoderKL | AutoencoderTiny) -> tuple[str, ...]:
    """How the names of the layers begin that are never rounded: the decoder's last ones."""
    if isinstance(autoencoder, AutoencoderTiny):
        return (f"decoder.layers.{len(autoencoder.decoder.layers) - 1}.",)
    return ("decoder.conv_norm_out.", "decoder.conv_out.")


def _converted(
    name: str, tensor: Tensor, device: torch.device, dtype: torch.dtype, sensitive: tuple[str, ...]
) -> Tensor:
    dtype = torch.float32 if name.startswith(sensitive) else dtype
    layout = codec_layout(device) if tensor.ndim == 4 else torch.preserve_format
    return tensor.to(device, dtype, memory_format=layout)


def find_in_folder(folder: Path) -> tuple[dict, Path]:
    """The configuration and weights in a diffusers folder: the autoencoder's own, or a pipeline's with `vae/`."""
    for candidate in (folder / "vae", folder):
        weights = weight_files(candidate)
        if (candidate / "config.json").is_file() and weights:
            return _read_config(candidate / "config.json"), weights[0]
    raise CheckpointError(folder, "has no autoencoder (config.json and *.safetensors).", _ACCEPTED)


def _read_config(path: Path) -> dict:
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(path, f"is no JSON configuration ({error}).", "Download the folder again.") from error
    return config if isinstance(config, dict) else {}


def instantiate(config: Mapping, source: str | Path, accepted: str) -> AutoencoderKL | AutoencoderTiny:
    """The module of a diffusers configuration without memory for its weights, which come from the file.

    Raises:
        CheckpointError: naming `source` and what is `accepted`, for a configuration that does not fit.
    """
    kind = config.get("_class_name", "AutoencoderKL")
    if not isinstance(kind, str) or kind not in _CLASSES:
        raise CheckpointError(source, f"is a {kind}.", accepted)
    try:
        check_sizes(config)
        with torch.device("meta"):
            autoencoder = _CLASSES[kind].from_config({k: v for k, v in config.items() if not k.startswith("_")})
        check_scale(autoencoder.config.scaling_factor)
    except (AttributeError, TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError) as error:
        raise CheckpointError(source, f"has a configuration that fits no {kind} ({error}).", accepted) from error
    known = autoencoder.config
    levels = {len(known[name]) for name in known if name.endswith("block_out_channels")}  # of encoder and decoder
    if known.latent_channels != 4 or levels != {4}:
        found = f"{known.latent_channels} latent channels and {' and '.join(map(str, levels))} levels"
        raise CheckpointError(source, f"has {found}; DepthFM needs 4 and 4.", accepted)
    if kind == "AutoencoderKL" and known.act_fn != "silu":
        raise CheckpointError(source, f"has the activation {known.act_fn!r}; 'silu' is used.", accepted)
    return autoencoder
