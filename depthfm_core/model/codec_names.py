"""A KL autoencoder's tensors in files: the names that they may have, and what their shapes tell of it."""

import re
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from .autoencoders import SD_SCALING_FACTOR
from .reading import CheckpointError

# LDM's names of a KL autoencoder, and diffusers' own names before 2023, as diffusers names them today.
_KL_NAMES = (
    (r"^(first_stage_model|vae)\.", ""),
    (r"\.down\.(\d+)\.block\.", r".down_blocks.\1.resnets."),
    (r"\.down\.(\d+)\.downsample\.", r".down_blocks.\1.downsamplers.0."),
    (r"\.up\.(\d+)\.block\.", r".up.\1.resnets."),
    (r"\.up\.(\d+)\.upsample\.", r".up.\1.upsamplers.0."),
    (r"\.mid\.block_1\.", ".mid_block.resnets.0."),
    (r"\.mid\.block_2\.", ".mid_block.resnets.1."),
    (r"\.mid\.attn_1\.", ".mid_block.attentions.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"\.norm_out\.", ".conv_norm_out."),
    (r"(attentions\.0)\.norm\.", r"\1.group_norm."),
    (r"(attentions\.0)\.(?:q|query)\.", r"\1.to_q."),
    (r"(attentions\.0)\.(?:k|key)\.", r"\1.to_k."),
    (r"(attentions\.0)\.(?:v|value)\.", r"\1.to_v."),
    (r"(attentions\.0)\.(?:proj_out|proj_attn)\.", r"\1.to_out.0."),
)


def modern_kl_names(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """LDM's and old names to diffusers' names; LDM counts the decoder's levels from the other end."""
    renamed = {}
    levels = 1 + max((int(m[1]) for name in tensors if (m := re.search(r"\.up\.(\d+)\.", name))), default=0)
    for name, tensor in tensors.items():
        for pattern, replacement in _KL_NAMES:
            name = re.sub(pattern, replacement, name)
        name = re.sub(r"\.up\.(\d+)\.", lambda m: f".up_blocks.{levels - 1 - int(m[1])}.", name)
        if ".attentions.0." in name and name.endswith("weight") and tensor.ndim == 4:
            tensor = tensor[:, :, 0, 0]  # LDM's 1x1 convolutions are diffusers' linear layers
        renamed[name] = tensor
    return renamed


def kl_config(tensors: Mapping[str, Tensor], source: str | Path, accepted: str) -> dict:
    """diffusers' configuration of a KL autoencoder of Stable Diffusion's family, from its shapes.

    Args:
        tensors: under diffusers' names.
        source: where they are from, for the message.
        accepted: what would do, for the message.

    Raises:
        CheckpointError: for tensors of something else.
    """
    pattern = r"encoder\.down_blocks\.(\d+)\.resnets\.(\d+)\.conv1\.weight"
    blocks = {(int(m[1]), int(m[2])): t.shape[0] for name, t in tensors.items() if (m := re.fullmatch(pattern, name))}
    if not blocks or "decoder.conv_in.weight" not in tensors:
        raise CheckpointError(source, "holds no autoencoder.", accepted)
    levels = 1 + max(level for level, _ in blocks)
    return {
        "_class_name": "AutoencoderKL",
        "block_out_channels": [blocks.get((level, 0), 0) for level in range(levels)],
        "layers_per_block": 1 + max(layer for _, layer in blocks),
        "down_block_types": ["DownEncoderBlock2D"] * levels,
        "up_block_types": ["UpDecoderBlock2D"] * levels,
        "latent_channels": tensors["decoder.conv_in.weight"].shape[1],
        "use_quant_conv": "quant_conv.weight" in tensors,
        "use_post_quant_conv": "post_quant_conv.weight" in tensors,
        "scaling_factor": SD_SCALING_FACTOR,
    }
