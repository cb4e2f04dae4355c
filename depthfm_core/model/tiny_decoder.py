"""A tiny decoder (TAESD) in place of a Stable Diffusion autoencoder's own: an eighteenth of the arithmetic, less exact.

It decodes only. A tiny encoder's latents are not quite those that the velocity network was trained on, and encoding is
done once however many members there are.
"""

import re
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from .codec import LatentCodec, filled, find_in_folder, instantiate
from .layouts import flatten
from .reading import CheckpointError, read_tensor_file

_ACCEPTED = (
    "Give a TAESD decoder for Stable Diffusion 1.x/2.x: taesd_decoder.safetensors, or diffusers' AutoencoderTiny."
)
# The original file counts the layers of a sequence whose first one, a clamp, diffusers has outside of it; others put
# `decoder.` or `taesd_decoder.` before the numbers. Source: https://github.com/madebyollin/taesd, taesd.py.
_NUMBERED = re.compile(r"(?:(?:taesd_)?decoder\.)?(\d+)\.(.+)")


class SplitCodec(LatentCodec):
    """Encodes with one autoencoder and decodes with another, whose latents are on the same scale.

    Args:
        encoding: what encodes; its decoder is dropped.
        decoding: what decodes.
    """

    def __init__(self, encoding: LatentCodec, decoding: LatentCodec) -> None:
        super().__init__(encoding.autoencoder, encoding.scaling_factor)
        self.autoencoder.decoder = nn.Identity()
        self.decoding = decoding

    def decode(self, latent: Tensor) -> Tensor:
        """As `LatentCodec.decode`, by the second autoencoder."""
        return self.decoding.decode(latent)

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """As `LatentCodec.decode_log_depth`, by the second autoencoder."""
        return self.decoding.decode_log_depth(latent)

    def compile_decoder(self, **how: object) -> None:
        """As `LatentCodec.compile_decoder`, of the second autoencoder."""
        self.decoding.compile_decoder(**how)


def load_tiny_decoder(
    path: str | Path, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
) -> LatentCodec:
    """The decoder in a diffusers folder or a single file: a codec that cannot encode; precision as in `build_codec`.

    Single files may use diffusers' names or the original, numbered ones, and hold an encoder too, which is not used.
    Both conventions of the output, [0, 1] and [-1, 1], are the same weights; diffusers' layer ends in [-1, 1].

    Raises:
        CheckpointError: for a file that holds no such decoder, or one with missing or unexpected tensors.
    """
    path = Path(path)
    config, file = find_in_folder(path) if path.is_dir() else ({}, path)
    if config.get("_class_name", "AutoencoderTiny") != "AutoencoderTiny":
        raise CheckpointError(path, f"is a {config['_class_name']}.", _ACCEPTED)
    tiny = instantiate({"_class_name": "AutoencoderTiny"} | config, file, _ACCEPTED)
    tiny.encoder = nn.Identity()
    tensors = _decoder_tensors(flatten(read_tensor_file(file)[0]), file)
    return filled(tiny, tensors, file, _ACCEPTED, dtype, torch.device(device))


def _decoder_tensors(tensors: Mapping[str, Tensor], source: Path) -> dict[str, Tensor]:
    """The decoder's tensors, as diffusers names them in an AutoencoderTiny."""
    named = {name: tensor for name, tensor in tensors.items() if name.startswith("decoder.layers.")}
    if not named:
        numbered = {match: tensor for name, tensor in tensors.items() if (match := _NUMBERED.fullmatch(name))}
        named = {f"decoder.layers.{int(match[1]) - 1}.{match[2]}": tensor for match, tensor in numbered.items()}
    if not named:
        raise CheckpointError(source, "holds no tiny decoder.", _ACCEPTED)
    return named
