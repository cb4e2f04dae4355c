"""PyTorch modules to OpenVINO's graphs.

A module is traced once, on inputs so small that it takes no time, and its graph is given the real size later: in
DepthFM's networks nothing but shapes depends on the size, as long as all sides divide by the deepest level's.
"""

import hashlib
import sys
import warnings
from functools import cache
from pathlib import Path

import diffusers
import openvino
import torch
from openvino.frontend import FrontEndManager
from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder
from torch import Tensor, nn

from ..model import attention as attention_code
from ..model import autoencoders as autoencoders_code
from ..model import codec as codec_code
from ..model import lean as lean_code
from ..model import parameterization as parameterization_code
from ..model import unet as unet_code
from ..model.codec import LatentCodec
from ..model.parameterization import PARAMETERIZATIONS
from ..model.unet import DepthFMUNet


def convert_network(network: DepthFMUNet) -> openvino.Model:
    """The graph of (x_t, t, image_latent) -> velocity, for any batch and size."""
    side = 2 ** len(network.hyper.channel_mult)  # 2 at the deepest level: PyTorch normalizes no single value
    latent = torch.zeros(1, 4, side, side)
    PARAMETERIZATIONS[network.parameterization].timestep(torch.zeros(1))  # whose table is a constant once it is made
    return _convert(network, latent, torch.zeros(1), latent)


def convert_encoder(codec: LatentCodec) -> openvino.Model:
    """The graph of `codec.encode`, for any batch and size."""
    return _convert(_Method(codec, "encode"), torch.zeros(1, 3, 64, 64))


def convert_decoder(codec: LatentCodec) -> openvino.Model:
    """The graph of `codec.decode_log_depth`, for any batch and size."""
    return _convert(_Method(codec, "decode_log_depth"), torch.zeros(1, 4, 8, 8))


def split_last_convolution(graph: openvino.Model) -> tuple[openvino.Model, openvino.Model]:
    """A graph of one input as two to be run one after the other, the second from its last convolution on.

    OpenVINO rounds what a half precision convolution gives, and has no way to leave one of them out.
    """
    graph = graph.clone()  # which shares the weights
    last = [node for node in graph.get_ordered_ops() if node.get_type_name() == "Convolution"][-1]
    features = last.input_value(0)
    body = openvino.Model([features], graph.get_parameters())
    given = openvino.opset13.parameter(features.get_partial_shape(), features.get_element_type())
    last.input(0).replace_source_output(given.output(0))
    return body, openvino.Model(graph.get_results(), [given])


@cache
def code_digest() -> str:
    """A digest of the code that says what the graphs compute; what other code converted may be something else."""
    own = (attention_code, autoencoders_code, codec_code, lean_code, parameterization_code, unet_code)
    code = b"".join(Path(module.__file__).read_bytes() for module in (*own, sys.modules[__name__]))
    versions = f"diffusers {diffusers.__version__}, torch {torch.__version__}"
    return hashlib.sha256(code + versions.encode()).hexdigest()


class _Method(nn.Module):
    """A method of a module, as a module."""

    def __init__(self, module: nn.Module, name: str) -> None:
        super().__init__()
        self.module, self.name = module, name

    def forward(self, argument: Tensor) -> Tensor:
        return getattr(self.module, self.name)(argument)


def _convert(module: nn.Module, *example: Tensor) -> openvino.Model:
    """The graph of a module; its constants are the module's weights themselves, not copies.

    This is what `openvino.convert_model` does, without the second trace and the usage statistics.
    """
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # of branches taken by size, and of newer ways to trace
        decoder = TorchScriptPythonDecoder(torch.jit.trace(module, example, check_trace=False))
    front_end = FrontEndManager().load_by_framework("pytorch")
    return front_end.convert(front_end.load(decoder))
