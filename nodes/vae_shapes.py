"""Whether ComfyUI's networks compute the autoencoder inside a model file, by its tensors and its configuration.

They take whatever they are given, and leave at random what is missing. So it is checked here, without diffusers, which
ComfyUI's Python may lack.
"""

from collections.abc import Mapping
from pathlib import Path

import comfy.diffusers_convert
import comfy.sd
import comfy.taesd.taesd
import torch
from torch import Tensor, nn

from ..depthfm_core.model.autoencoders import is_tiny
from ..depthfm_core.model.reading import CheckpointError, mismatch, not_plain

# What a file that says nothing of its KL autoencoder is taken for: Stable Diffusion's own.
_BLOCK_OUT_CHANNELS, _LAYERS_PER_BLOCK = (128, 256, 512, 512), 2
# Of a KL autoencoder's configuration; ComfyUI's network has no other, and the tensors do not tell.
_KL_FIXED = {"act_fn": "silu", "norm_num_groups": 32, "latent_channels": 4}
# What a network's class raises for a configuration of other types or numbers.
_UNBUILDABLE = (AttributeError, TypeError, ValueError, IndexError, ZeroDivisionError, RuntimeError)


def check_inside(tensors: Mapping[str, Tensor], config: Mapping, source: Path) -> None:
    """Refuses an autoencoder that ComfyUI would not compute as diffusers does.

    Args:
        tensors: of diffusers' `AutoencoderTiny` or `AutoencoderKL`, under its names, or under LDM's.
        config: its diffusers configuration; empty where the file has none.
        source: the file, for the message.

    Raises:
        CheckpointError: for an autoencoder of another kind, or one with missing or unexpected tensors.
    """
    tiny = is_tiny(tensors)
    kind = "AutoencoderTiny" if tiny else "AutoencoderKL"
    found = config.get("_class_name", kind)
    if found != kind:
        remedy = f"ComfyUI runs an AutoencoderKL or an AutoencoderTiny; these tensors look like an {kind}."
        raise CheckpointError(source, f"says that it holds a {found}.", remedy)
    try:
        problem = not_plain(tensors) or (_tiny_problem(tensors) if tiny else _kl_problem(tensors, config))
    except _UNBUILDABLE as error:
        remedy = "Download it again, or choose another file."
        raise CheckpointError(source, f"has a configuration that fits no {kind} ({error}).", remedy) from error
    if problem:
        shape = "TAESD's shape" if tiny else "Stable Diffusion's kind"
        remedy = f"ComfyUI runs {shape} only; download it again if it should have that."
        raise CheckpointError(source, f"holds an autoencoder that does not fit: {problem}", remedy)


def ldm_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A KL autoencoder's tensors under the names that ComfyUI's network has."""
    from_diffusers = any(".up_blocks." in name for name in tensors)
    return comfy.diffusers_convert.convert_vae_state_dict(dict(tensors)) if from_diffusers else dict(tensors)


def kl_parameters(config: Mapping) -> dict:
    """The arguments of ComfyUI's `AutoencoderKL` for a diffusers configuration."""
    channels = config.get("block_out_channels", _BLOCK_OUT_CHANNELS)
    latent_channels = config.get("latent_channels", _KL_FIXED["latent_channels"])
    ddconfig = {
        "double_z": True,
        "z_channels": latent_channels,
        "resolution": 256,  # not used by the network
        "in_channels": 3,
        "out_ch": 3,
        "ch": channels[0],
        "ch_mult": [width // channels[0] for width in channels],
        "num_res_blocks": config.get("layers_per_block", _LAYERS_PER_BLOCK),
        "attn_resolutions": [],
        "dropout": 0.0,
    }
    return {"ddconfig": ddconfig, "embed_dim": latent_channels}


def _tiny_problem(tensors: Mapping[str, Tensor]) -> str | None:
    with torch.device("meta"):
        network = comfy.taesd.taesd.TAESD(latent_channels=4)
    behind_the_clamp = nn.Sequential(*network.taesd_decoder[1:])
    expected = {f"encoder.layers.{name}": t.shape for name, t in network.taesd_encoder.state_dict().items()}
    expected |= {f"decoder.layers.{name}": t.shape for name, t in behind_the_clamp.state_dict().items()}
    return mismatch(expected, {name: tensor.shape for name, tensor in tensors.items()})


def _kl_problem(tensors: Mapping[str, Tensor], config: Mapping) -> str | None:
    """The tensors' names in it are ComfyUI's."""
    for name, wanted in _KL_FIXED.items():
        if config.get(name, wanted) != wanted:
            return f"{name} is {config[name]!r}, not {wanted!r}."
    levels = len(config.get("block_out_channels", _BLOCK_OUT_CHANNELS))
    if levels != 4:
        return f"it has {levels} levels, not 4."
    with torch.device("meta"):
        network = comfy.sd.AutoencoderKL(**kl_parameters(config))
    expected = {name: tensor.shape for name, tensor in network.state_dict().items()}
    return mismatch(expected, {name: tensor.shape for name, tensor in ldm_names(tensors).items()})
