"""A velocity network whose GPU work is recorded once for each shape and then replayed as one launch."""

import torch
from torch import Tensor

from ..model.unet import DepthFMUNet

_WARMUPS = 3  # before a capture, as PyTorch's documentation of CUDA graphs asks for


class GraphedNetwork:
    """Called as the network is, on a CUDA device; keeps the memory of every shape that it has seen.

    Args:
        network: whose attributes it also has.
    """

    def __init__(self, network: DepthFMUNet) -> None:
        self._network = network
        self._recorded: dict[tuple, tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What the network gives for the same inputs."""
        shapes = tuple((value.shape, value.dtype) for value in inputs)
        if shapes not in self._recorded:
            self._recorded[shapes] = self._record(inputs)
        graph, held, output = self._recorded[shapes]
        for place, value in zip(held, inputs, strict=True):
            place.copy_(value)
        graph.replay()
        return output.clone()

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)

    def _record(self, inputs: tuple[Tensor, ...]) -> tuple[torch.cuda.CUDAGraph, tuple[Tensor, ...], Tensor]:
        held = tuple(value.clone() for value in inputs)
        with torch.cuda.device(held[0].device):  # streams and captures are of the current GPU
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(_WARMUPS):
                    self._network(*held)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph, stream=side):
                output = self._network(*held)
        return graph, held, output
