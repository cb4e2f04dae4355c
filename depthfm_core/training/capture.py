"""A network's passes recorded as CUDA graphs: small networks otherwise wait for Python between their kernels."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from .engine import AUTOCAST_DTYPES


@contextmanager
def captured(network: nn.Module, shapes: list[tuple[int, ...]], mixed_precision: str) -> Iterator[None]:
    """While it lasts, `network` in training mode runs as graphs, of forward and backward pass; other calls as before.

    Args:
        network: on a GPU, its weights where they stay.
        shapes: of its arguments, all float32, which every call in training mode must have.
        mixed_precision: as in `LoopSettings`.

    Source: PyTorch, "CUDA Graphs", https://docs.pytorch.org/docs/stable/notes/cuda.html.
    """
    device = next(network.parameters()).device
    dtype = AUTOCAST_DTYPES[mixed_precision]
    network.train()
    with torch.autocast(device.type, dtype, enabled=dtype is not None, cache_enabled=False):
        torch.cuda.make_graphed_callables(
            network, tuple(torch.rand(shape, device=device) for shape in shapes), allow_unused_input=True
        )
    try:
        yield
    finally:
        del network.forward  # the graphs'; the class has its own
