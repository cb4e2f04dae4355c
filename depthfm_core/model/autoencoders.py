"""What is known of autoencoders without building one; `codec` builds them, of diffusers' parts."""

from collections.abc import Iterable

from torch import nn

SD_SCALING_FACTOR = 0.18215
# Of autoencoders whose latents are Stable Diffusion's: a KL autoencoder's, and TAESD's, whose latents come scaled.
SD_SCALING_FACTORS = (SD_SCALING_FACTOR, 1.0)


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
