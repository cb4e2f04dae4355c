"""An autoencoder as files hold it: what a model file bundles, and what a diffusers folder is written from."""

import torch
from diffusers import AutoencoderTiny
from torch import Tensor

from .codec import LatentCodec


def codec_tensors(codec: LatentCodec) -> dict[str, Tensor]:
    """The tensors under diffusers' names; a small autoencoder's skipped blocks as zeros, so it is a standard TAESD."""
    own = codec.autoencoder.state_dict()
    if not isinstance(codec.autoencoder, AutoencoderTiny):
        return own
    with torch.device("meta"):
        whole = AutoencoderTiny.from_config(codec_config(codec)).state_dict()
    return {name: own.get(name, torch.zeros(tensor.shape)).contiguous() for name, tensor in whole.items()}


def codec_config(codec: LatentCodec) -> dict:
    """diffusers' configuration, with the factor that latents are multiplied by."""
    config = {name: value for name, value in codec.autoencoder.config.items() if not name.startswith("_")}
    if isinstance(codec.autoencoder, AutoencoderTiny):
        del config["block_out_channels"]  # a value that diffusers keeps for itself and warns of in a file
    return config | {"_class_name": type(codec.autoencoder).__name__, "scaling_factor": codec.scaling_factor}
