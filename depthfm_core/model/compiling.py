"""The velocity network and the decoder compiled by torch.compile, once for every shape that they meet.

The encoder runs once a picture and stays as it is. Shapes are static, which makes faster code than one for all shapes;
so whoever calls compiled networks should show them few: `resize.fit` pads pictures to a handful.
"""

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable

import torch
import torch._dynamo

from .codec import LatentCodec
from .unet import DepthFMUNet

# Shapes of a network before PyTorch gives up and goes on uncompiled; its own limit, 8, is below `resize.SHAPES`.
_MOST_SHAPES = 64
_CPP_COMPILERS = ("g++", "c++", "clang++", "cl")
_GET_COMPILER = {"win32": "Visual Studio's Build Tools", "darwin": "`xcode-select --install`"}


def compile_networks(
    network: DepthFMUNet, codec: LatentCodec, device: torch.device, backend: str | Callable = "inductor"
) -> None:
    """Lets both be compiled at their first call with each shape, in place; state dicts stay as they are.

    Args:
        network: the velocity network.
        codec: whose decoder is compiled.
        device: where they are.
        backend: of torch.compile.

    Raises:
        ValueError: where what PyTorch compiles with is missing.
    """
    if backend == "inductor":
        _check_tools(device)
    _allow_shapes()
    network.unet.compile(dynamic=False, backend=backend)
    codec.compile_decoder(dynamic=False, backend=backend)


def _allow_shapes() -> None:
    config = torch._dynamo.config
    name = "recompile_limit" if hasattr(config, "recompile_limit") else "cache_size_limit"  # before PyTorch 2.7
    setattr(config, name, max(_MOST_SHAPES, getattr(config, name)))


def _check_tools(device: torch.device) -> None:
    """PyTorch writes C++ for CPUs and Triton for CUDA."""
    if device.type == "cuda" and importlib.util.find_spec("triton") is None:
        package = "triton-windows" if sys.platform == "win32" else "triton"
        raise ValueError(
            f"Compiling for CUDA needs the package triton; `pip install {package}`, or leave out --compile."
        )
    if device.type == "cpu" and not any(map(shutil.which, (os.environ.get("CXX") or "g++", *_CPP_COMPILERS))):
        compiler = _GET_COMPILER.get(sys.platform, "`apt install g++`")
        raise ValueError(
            f"Compiling for the CPU needs a C++ compiler; install one (for example {compiler}) or leave out --compile."
        )
    if device.type not in ("cpu", "cuda"):
        raise ValueError(f"Networks can be compiled for cpu and cuda, not {device.type}; leave out --compile.")
