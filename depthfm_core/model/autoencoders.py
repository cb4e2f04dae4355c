"""What is known of autoencoders without building one; `codec` builds them, of diffusers' parts."""

import math
from collections.abc import Iterable, Mapping

from torch import nn

SD_SCALING_FACTOR = 0.18215
# Of autoencoders whose latents are Stable Diffusion's: a KL autoencoder's, and TAESD's, whose latents come scaled.
SD_SCALING_FACTORS = (SD_SCALING_FACTOR, 1.0)

# Whole numbers of a configuration, or lists of these, of which a module is built layer by layer.
_COUNTS = ("layers_per_block", "num_encoder_blocks", "num_decoder_blocks")
_MOST = 32  # far above any autoencoder's, and a damaged file's is refused before it is built


def is_tiny(names: Iterable[str]) -> bool:
    """Whether tensors of these names are a tiny autoencoder's (TAESD), not a KL autoencoder's."""
    return any(name.startswith("encoder.layers.") for name in names)


def skip_idle_blocks(*stacks: nn.Sequential) -> None:
    """Replaces residual blocks of a tiny autoencoder whose weights are all zero by the ReLU that they compute.

    `nano` is a standard TAESD file, which ComfyUI and diffusers read as it is, whose costliest blocks are zero.

    Args:
        stacks: encoders and decoders, diffusers' or ComfyUI's.
    """
    for layers in stacks:
        for index, block in enumerate(layers):
            if hasattr(block, "fuse") and not any(p.any() for p in block.parameters()):
                layers[index] = block.fuse


def check_sizes(config: Mapping) -> None:
    """Raises ValueError for a diffusers configuration of more layers or levels than autoencoders have."""
    for name, value in config.items():
        values = value if isinstance(value, list | tuple) else [value]
        if len(values) > _MOST or (name in _COUNTS and not all(map(_is_count, values))):
            raise ValueError(f"{name} is {str(value)[:40]}; expected at most {_MOST} whole numbers from 0 to {_MOST}")


def _is_count(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST


def are_stable_diffusions(config: Mapping | None) -> bool:
    """Whether latents are Stable Diffusion's, by the scale in an autoencoder's configuration, or for want of one."""
    return (config or {}).get("scaling_factor") in (None, *SD_SCALING_FACTORS)


def check_scale(scaling_factor: object) -> None:
    """Raises ValueError for a configuration's factor of latents that is no positive number."""
    is_number = isinstance(scaling_factor, int | float) and not isinstance(scaling_factor, bool)
    if not is_number or not 0 < scaling_factor < math.inf:
        raise ValueError(f"scaling_factor is {scaling_factor!r}; expected a number above 0")
