"""Floating-point operations of each stage, counted without computing."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from .naive import NaivePipeline


@torch.inference_mode()
def count_flops(pipeline: NaivePipeline, height: int, width: int) -> dict[str, int]:
    """Of encoding one picture, of one velocity, and of decoding one latent.

    Args:
        pipeline: whose modules are moved to the meta device, which takes their weights away.
        height, width: of the networks' picture, multiples of `pipeline.multiple`.
    """
    codec, network = pipeline.codec.to("meta"), pipeline.network.to("meta")
    with torch.device("meta"):
        image = torch.empty(1, 3, height, width)
        latent = torch.empty(1, 4, height // codec.downscale, width // codec.downscale)
        t = torch.empty(1)
    return {
        "encode": _count(partial(codec.encode, image)),
        "solve": _count(partial(network, latent, t, latent)),
        "decode": _count(partial(codec.decode, latent)),
    }


def _count(work: Callable[[], Tensor]) -> int:
    with FlopCounterMode(display=False) as counter:
        work()
    return counter.get_total_flops()
