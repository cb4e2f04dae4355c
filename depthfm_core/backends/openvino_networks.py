"""A velocity network and an autoencoder that OpenVINO computes, in the shape that the pipeline knows.

Each graph is compiled for the one size it is called with, since a fixed size is what OpenVINO is fast at, and for one
member, since a batch is no faster on a CPU.
"""

import threading
from collections import OrderedDict
from dataclasses import asdict

import openvino
import torch
from diffusers import AutoencoderTiny
from torch import Tensor, nn

from ..model.checkpoints import DepthFMCheckpoint
from ..model.codec import LatentCodec
from ..model.codec_parts import codec_config
from ..model.digest import tensor_digest
from ..model.hyperparameters import UNetHyperParameters
from ..model.precision import codec_dtype
from .conversion import code_digest, convert_decoder, convert_encoder, convert_network, split_last_convolution
from .store import GraphStore

_PRECISIONS = {torch.float32: "f32", torch.bfloat16: "bf16", torch.float16: "f16"}
_COMPILED_BYTES = 2**30


class SizedGraph:
    """A graph, or several one after the other, compiled for every size of input that comes.

    Sizes used before stay compiled as long as their weights, which each has for itself, fit into 1 GB; the last one
    always.

    Args:
        stages: for any size, each with the dtype in which it computes where the processor can, a key of `_PRECISIONS`.
    """

    def __init__(self, *stages: tuple[openvino.Model, torch.dtype]) -> None:
        self._stages, self._lock = stages, threading.Lock()
        self._compiled: OrderedDict[tuple, list[openvino.InferRequest]] = OrderedDict()
        constants = (node for graph, _ in stages for node in graph.get_ops() if node.get_type_name() == "Constant")
        self._max_compiled = max(1, _COMPILED_BYTES // max(1, sum(node.get_byte_size() for node in constants)))

    def __call__(self, *inputs: Tensor) -> Tensor:
        """The output for inputs of any size, in float32 on the CPU."""
        with self._lock:  # a request serves one call at a time, and the next one overwrites its output
            first, *others = self._requests(tuple(tuple(tensor.shape) for tensor in inputs))
            first.infer([tensor.detach().float().numpy() for tensor in inputs])
            for request in others:
                request.infer()
            return torch.from_numpy((others or [first])[-1].get_output_tensor().data.copy())

    def _requests(self, shapes: tuple[tuple[int, ...], ...]) -> list[openvino.InferRequest]:
        if shapes in self._compiled:
            self._compiled.move_to_end(shapes)
            return self._compiled[shapes]
        while len(self._compiled) >= self._max_compiled:  # before the new one is made, for the sake of the peak
            self._compiled.popitem(last=False)
        self._compiled[shapes] = self._compile(shapes)
        return self._compiled[shapes]

    def _compile(self, shapes: tuple[tuple[int, ...], ...]) -> list[openvino.InferRequest]:
        """A request for each stage, whose input is the output of the one before."""
        requests: list[openvino.InferRequest] = []
        for graph, dtype in self._stages:
            compiled = _compile(graph, shapes, dtype)
            requests.append(compiled.create_infer_request())
            if len(requests) > 1:
                requests[-1].set_input_tensor(requests[-2].get_output_tensor())
            shapes = (tuple(compiled.output(0).shape),)
        return requests


def _compile(graph: openvino.Model, shapes: tuple[tuple[int, ...], ...], dtype: torch.dtype) -> openvino.CompiledModel:
    sized = graph.clone()
    sized.reshape({index: list(shape) for index, shape in enumerate(shapes)})
    options = {
        "INFERENCE_PRECISION_HINT": _PRECISIONS[dtype],
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_NUM_THREADS": torch.get_num_threads(),
        "ENABLE_CPU_PINNING": False,  # several processes would be pinned to the same cores
    }
    return openvino.Core().compile_model(sized, "CPU", options)


class OpenVINONetwork(nn.Module):
    """The velocity field v(x_t, t, image_latent), as `model.unet.DepthFMUNet` has it.

    Args:
        graph: of `conversion.convert_network`.
        hyper: the network's shape.
        dtype: in which it computes.
    """

    device = torch.device("cpu")

    def __init__(self, graph: openvino.Model, hyper: UNetHyperParameters, dtype: torch.dtype) -> None:
        super().__init__()
        self.hyper = hyper
        self.dtype = dtype
        self._velocity = SizedGraph((graph, dtype))

    def forward(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """The velocity at x_t, [B, 4, h, w] in the dtype of `x_t`; arguments as those of `DepthFMUNet`."""
        members = zip(x_t.split(1), t.split(1), image_latent.split(1), strict=True)
        return torch.cat([self._velocity(*member) for member in members]).to(x_t.dtype)


class OpenVINOCodec(nn.Module):
    """An autoencoder, as `model.codec.LatentCodec` has it.

    Args:
        encoder, decoder: of `conversion.convert_encoder` and `convert_decoder`.
        dtype: in which they compute, up to the last convolution of the decoder, which is in float32: its rounding
            would show as bands in the depth.
    """

    downscale = LatentCodec.downscale

    def __init__(self, encoder: openvino.Model, decoder: openvino.Model, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype
        self._encoder = SizedGraph((encoder, dtype))
        body, tail = split_last_convolution(decoder)
        self._decoder = SizedGraph((body, dtype), (tail, torch.float32))

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1], sides multiples of 8, to the scaled latent [B, 4, H/8, W/8] (posterior mode)."""
        return torch.cat([self._encoder(one) for one in image.split(1)])

    def decode_log_depth(self, latent: Tensor) -> Tensor:
        """Scaled latent [B, 4, h, w] to [B, 1, 8h, 8w] float32, about [-1, 1] and never clamped."""
        return torch.cat([self._decoder(one) for one in latent.split(1)])


def openvino_network(checkpoint: DepthFMCheckpoint, dtype: torch.dtype) -> OpenVINONetwork:
    """The velocity network of a checkpoint, with the graph from the store where it is there.

    Raises:
        OSError: when the store cannot be written.
    """
    store = GraphStore()
    facts = {
        "code": code_digest(),
        "weights": store.digest(checkpoint.state_dict, checkpoint.path),
        "null_text": tensor_digest({"null_text": checkpoint.null_text}),
        "hyper": asdict(checkpoint.hyper),
        "parameterization": checkpoint.parameterization,
    }
    half = dtype != torch.float32
    graph = store.graph("velocity", facts, lambda: convert_network(checkpoint.build_unet()), half=half)
    return OpenVINONetwork(graph, checkpoint.hyper, dtype)


def openvino_codec(codec: LatentCodec, dtype: torch.dtype) -> OpenVINOCodec:
    """An autoencoder, with the graphs from the store where they are there.

    Args:
        codec: in float32.
        dtype: in which to compute; for a KL autoencoder float32 in place of float16, which it overflows.

    Raises:
        OSError: when the store cannot be written.
    """
    dtype = codec_dtype(dtype, tiny=isinstance(codec.autoencoder, AutoencoderTiny))
    facts = {
        "code": code_digest(),
        "weights": tensor_digest(codec.state_dict()),
        "config": codec_config(codec),
    }
    store = GraphStore()
    half = dtype != torch.float32
    encoder = store.graph("encode", facts, lambda: convert_encoder(codec), half=half)
    decoder = store.graph("decode", facts, lambda: convert_decoder(codec), half=half)
    return OpenVINOCodec(encoder, decoder, dtype)
