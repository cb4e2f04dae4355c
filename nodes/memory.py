"""How much memory the networks need beside their weights, counted from the tensors that are alive together.

ComfyUI makes room for as much before a run. Its own estimates are those of other networks: 0.6 GB for a DepthFM at
512 x 512 where 0.13 GB are used, and too little for its attention without fused kernels. `tests/live_bytes.py` counts
what really is alive.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from math import prod

from ..depthfm_core.model.hyperparameters import UNetHyperParameters

# Multiples of a block's channels in ComfyUI's `SpatialTransformer`. The feed-forward layer's gate is its peak: 8 of its
# projection, 4 of the gated half, 4 of the product, and five tensors of the residual branches.
_FEED_FORWARD = 21
_PROJECTION = 13  # before the gate
_ATTENTION = 10
# ComfyUI's attention without fused kernels holds logits and probabilities in float32, 8 to 10 bytes each.
_SCORE_BYTES = 9


@dataclass(frozen=True)
class Attention:
    """How attention is computed; `queries` at a time against all keys, or fused, without a table of scores.

    Attributes:
        fused: whether no scores are stored.
        queries: how many rows of scores are stored at a time, at most.
    """

    fused: bool = True
    queries: int = 2**31


@dataclass(frozen=True)
class _Block:
    """A residual block and its transformer; `alive` is what was made before it and is still needed.

    Channels are those of the block's level, `alive` counts values for each cell of the latent.
    """

    level: int
    alive: float
    channels_in: int
    channels: int
    heads: int  # of its transformer; 0 without one


def network_bytes(
    hyper: UNetHyperParameters, shape: tuple[int, ...], itemsize: int, casts: bool, attention: Attention
) -> int:
    """The peak of one call of ComfyUI's `UNetModel` beside its weights.

    Args:
        hyper: the network's shape.
        shape: [N, 4, h, w] of the latents.
        itemsize: bytes of a value in the dtype that is computed in.
        casts: whether each layer's weights are copied into that dtype when it is called.
        attention: how it is computed.
    """
    return max(peak for block in _blocks(hyper) for peak in _moments(block, shape, itemsize, casts, attention))


def _blocks(hyper: UNetHyperParameters) -> Iterator[_Block]:
    """In the order of the call; the first half leaves its results for the second, which takes them back."""
    heads = [heads if attends else 0 for heads, attends in zip(hyper.heads, hyper.attends, strict=True)]
    levels = list(zip(range(len(heads)), hyper.channels, heads, strict=True))
    channels_in = hyper.model_channels
    skips = [(0, channels_in)]
    for level, channels, heads in levels:
        if level:
            skips.append((level, channels_in))  # the downsampled one
        for _ in range(hyper.num_res_blocks):
            yield _Block(level, _values(skips), channels_in, channels, heads)
            skips.append((level, channels))
            channels_in = channels
    yield _Block(level, _values(skips), channels_in, channels_in, hyper.heads[-1])  # the middle one always attends
    for level, channels, heads in reversed(levels):
        for _ in range(hyper.num_res_blocks + 1):
            channels_in += skips.pop()[1]
            yield _Block(level, _values([*skips, (level, channels_in)]), channels_in, channels, heads)
            channels_in = channels


def _values(tensors: list[tuple[int, int]]) -> float:
    """Values for each cell of the latent; every level has a quarter of the cells of the one before."""
    return sum(channels / 4**level for level, channels in tensors)


def _moments(block: _Block, shape: tuple[int, ...], itemsize: int, casts: bool, attention: Attention) -> Iterator[int]:
    """Bytes at the moments of a block of which one is its peak."""
    batch, cells = shape[0], prod(shape[2:])
    c_in, c = block.channels_in, block.channels

    def total(channels: int, weights: int = 0) -> int:
        activations = batch * cells * (block.alive + channels / 4**block.level)
        return int(itemsize * (activations + weights * casts))

    yield total(2 * c_in)  # normalized, and its activation
    yield total(c_in + c, 9 * c_in * c)  # the first convolution
    yield total(3 * c, 9 * c * c)  # the second, and what its shortcut waits for
    if block.heads:
        yield total(_FEED_FORWARD * c)
        yield total(_PROJECTION * c, 8 * c * c)
        tokens = cells // 4**block.level
        scores = 0 if attention.fused else batch * block.heads * min(tokens, attention.queries) * tokens
        yield total(_ATTENTION * c) + _SCORE_BYTES * scores
