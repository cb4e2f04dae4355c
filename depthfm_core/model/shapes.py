"""The shapes of a UNet's tensors, from its hyper-parameters alone.

A file is checked against them when it is read, also inside ComfyUI, which builds a network of its own: so reading needs
no diffusers, and builds nothing.
"""

from collections.abc import Iterator, Mapping

from torch import Tensor

from .hyperparameters import UNetHyperParameters
from .reading import mismatch, not_plain

Shapes = Iterator[tuple[str, tuple[int, ...]]]


def unet_shapes(hyper: UNetHyperParameters) -> dict[str, tuple[int, ...]]:
    """LDM's name -> shape of every tensor of a UNet: what diffusers' network has, under the names that files use."""
    first, time = hyper.model_channels, 4 * hyper.model_channels
    return {
        **dict(_layer("time_embed.0", time, first)),
        **dict(_layer("time_embed.2", time, time)),
        **dict(_layer("input_blocks.0.0", first, hyper.in_channels, 3, 3)),
        **dict(_down(hyper)),
        **dict(_middle(hyper)),
        **dict(_up(hyper)),
        **dict(_layer("out.0", first)),
        **dict(_layer("out.2", hyper.out_channels, first, 3, 3)),
    }


def unet_mismatch(state_dict: Mapping[str, Tensor], hyper: UNetHyperParameters) -> str | None:
    """What keeps tensors under LDM's names from being the whole UNet of `hyper`, in one sentence; None if nothing.

    Every tensor must be present, none too many, all shapes right, all plain floating point.
    """
    shapes = {name: t.shape for name, t in state_dict.items()}
    return not_plain(state_dict) or mismatch(unet_shapes(hyper), shapes)


def _down(hyper: UNetHyperParameters) -> Shapes:
    index, channels_in = 1, hyper.model_channels
    for level, (channels, attends) in enumerate(zip(hyper.channels, hyper.attends, strict=True)):
        for _ in range(hyper.num_res_blocks):
            yield from _block(f"input_blocks.{index}", channels_in, channels, hyper, attends)
            index, channels_in = index + 1, channels
        if level < len(hyper.channels) - 1:
            yield from _layer(f"input_blocks.{index}.0.op", channels, channels, 3, 3)
            index += 1


def _middle(hyper: UNetHyperParameters) -> Shapes:
    channels = hyper.channels[-1]
    yield from _block("middle_block", channels, channels, hyper, attends=True)
    yield from _residual("middle_block.2", channels, channels, hyper)


def _up(hyper: UNetHyperParameters) -> Shapes:
    """Every block also gets what one on the way down left, the last one first."""
    index, channels_in = 0, hyper.channels[-1]
    levels = list(zip(hyper.channels, (hyper.model_channels, *hyper.channels), hyper.attends, strict=False))
    for level, (channels, of_level_above, attends) in reversed(list(enumerate(levels))):
        for skip in [channels] * hyper.num_res_blocks + [of_level_above]:
            yield from _block(f"output_blocks.{index}", channels_in + skip, channels, hyper, attends)
            index, channels_in = index + 1, channels
        if level:
            yield from _layer(f"output_blocks.{index - 1}.{1 + attends}.conv", channels, channels, 3, 3)


def _block(name: str, channels_in: int, channels: int, hyper: UNetHyperParameters, attends: bool) -> Shapes:
    yield from _residual(f"{name}.0", channels_in, channels, hyper)
    if attends:
        yield from _transformer(f"{name}.1", channels, hyper)


def _residual(name: str, channels_in: int, channels: int, hyper: UNetHyperParameters) -> Shapes:
    yield from _layer(f"{name}.in_layers.0", channels_in)
    yield from _layer(f"{name}.in_layers.2", channels, channels_in, 3, 3)
    yield from _layer(f"{name}.emb_layers.1", channels, 4 * hyper.model_channels)
    yield from _layer(f"{name}.out_layers.0", channels)
    yield from _layer(f"{name}.out_layers.3", channels, channels, 3, 3)
    if channels_in != channels:
        yield from _layer(f"{name}.skip_connection", channels, channels_in, 1, 1)


def _transformer(name: str, channels: int, hyper: UNetHyperParameters) -> Shapes:
    kernel = () if hyper.use_linear_in_transformer else (1, 1)
    yield from _layer(f"{name}.norm", channels)
    yield from _layer(f"{name}.proj_in", channels, channels, *kernel)
    yield from _layer(f"{name}.proj_out", channels, channels, *kernel)
    for depth in range(hyper.transformer_depth):
        block = f"{name}.transformer_blocks.{depth}"
        for attention, context in (("attn1", channels), ("attn2", hyper.context_dim)):
            yield f"{block}.{attention}.to_q.weight", (channels, channels)
            yield f"{block}.{attention}.to_k.weight", (channels, context)
            yield f"{block}.{attention}.to_v.weight", (channels, context)
            yield from _layer(f"{block}.{attention}.to_out.0", channels, channels)
        yield from _layer(f"{block}.ff.net.0.proj", 8 * channels, channels)  # values and their gates
        yield from _layer(f"{block}.ff.net.2", channels, 4 * channels)
        for norm in ("norm1", "norm2", "norm3"):
            yield from _layer(f"{block}.{norm}", channels)


def _layer(name: str, *shape: int) -> Shapes:
    """A weight and its bias."""
    yield f"{name}.weight", shape
    yield f"{name}.bias", shape[:1]
