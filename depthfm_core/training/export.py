"""What a training hands on: the one file that ships (velocity network, constant in place of text, autoencoder), and an
autoencoder by itself.
"""

import json
from collections.abc import Mapping
from pathlib import Path

from diffusers import AutoencoderTiny
from torch import Tensor

from ..depth.files import write_text
from ..model.checkpoints import DepthFMCheckpoint, codec_config, save_checkpoint, save_tensors
from ..model.codec import LatentCodec
from ..model.names import diffusers_to_ldm
from ..model.unet import DepthFMUNet
from .autoencoder import autoencoder_config, full_state_dict


def export(
    network: DepthFMUNet,
    codec: LatentCodec,
    noising_step: int,
    resolution: int,
    spread_scale: float,
    path: Path,
    training: Mapping | None = None,
) -> None:
    """Writes our checkpoint layout in half precision.

    Args:
        network: as trained, with the text's projections still in place.
        codec: bundled; a small autoencoder's skipped blocks are written as zeros, so the file is a standard TAESD.
        noising_step: how noisy the source is, of 1000.
        resolution: the short side in pixels that the model was trained at.
        spread_scale: what makes an ensemble's spread the expected error.
        path: ends in .safetensors.
        training: what made it, as `record.provenance` says it.

    Raises:
        ValueError: for another suffix.
        OSError: when the disk refuses.
    """
    tensors, config = _codec_parts(codec)
    checkpoint = DepthFMCheckpoint(
        path=path,
        state_dict=diffusers_to_ldm(network.unet.state_dict(), network.hyper),
        hyper=network.hyper,
        null_text=network.null_text,
        noising_step=noising_step,
        processing_resolution=resolution,
        spread_scale=spread_scale,
        parameterization=network.parameterization,
        codec_tensors=tensors,
        codec_config=config,
        training=training,
    )
    save_checkpoint(checkpoint, path)


def save_codec(codec: LatentCodec, folder: Path) -> None:
    """Writes a diffusers folder; a small autoencoder's skipped blocks are written as zeros."""
    folder.mkdir(parents=True, exist_ok=True)
    tensors, config = _codec_parts(codec)
    save_tensors(tensors, folder / "diffusion_pytorch_model.safetensors")
    write_text(folder / "config.json", json.dumps(config, indent=2))  # last: with it the folder is an autoencoder


def _codec_parts(codec: LatentCodec) -> tuple[dict[str, Tensor], dict]:
    """The tensors and diffusers' configuration of an autoencoder, as files hold them."""
    autoencoder = codec.autoencoder
    if isinstance(autoencoder, AutoencoderTiny):
        return full_state_dict(autoencoder), autoencoder_config(autoencoder, codec.scaling_factor)
    return autoencoder.state_dict(), codec_config(codec)
