"""The ways of estimating that are compared: how each loads its pipeline, and how it is then asked."""

import importlib.util
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from ..loading import load_pipeline
from ..model.writing import save_tensors
from ..pipeline import DepthFMPipeline
from ..settings import EstimationSettings
from .graphs import GraphedNetwork
from .naive import NaivePipeline, load_naive

REFERENCE = "naive"
COMPUTED = ("encode", "solve", "decode")  # the stages that are the networks' work
Pipeline = DepthFMPipeline | NaivePipeline


def _load_graphed(*args: object, **kwargs: object) -> DepthFMPipeline:
    pipeline = load_pipeline(*args, **kwargs)
    return replace(pipeline, network=GraphedNetwork(pipeline.network))


def _load_tiny_decoder(*args: object, **kwargs: object) -> DepthFMPipeline:
    """With a decoder of TAESD's shape and random weights: its time is a trained one's, its answer means nothing."""
    # The decoder's biases stay mapped from the file, which Windows then does not let go of.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "decoder.safetensors"
        save_tensors(AutoencoderTiny().state_dict(), path)
        return load_pipeline(*args, decoder=path, **kwargs)


_HALF = {"backend": "torch", "dtype": "bfloat16"}


@dataclass(frozen=True)
class Way:
    """One way of estimating.

    Attributes:
        summary: what it does, for the list of ways.
        precision: of most of its work; the machine's ceiling in it is what the way is measured against.
        loader: gives a pipeline for `loader(model, vae, device, **load)`.
        load: arguments of the loader beyond model, autoencoder and device.
        settings: fields of `EstimationSettings` beyond steps, members and size.
        counted: the stages whose operations are the model's own, so that their rate can be told.
        devices: kinds of devices that it is for.
        package: what must be installed for it.
    """

    summary: str
    precision: str
    loader: Callable[..., Pipeline] = load_pipeline
    load: Mapping = field(default_factory=dict)
    settings: Mapping = field(default_factory=dict)
    counted: tuple[str, ...] = COMPUTED
    devices: tuple[str, ...] = ("cpu", "cuda", "mps")
    package: str | None = None

    def estimation_settings(self, **given: object) -> EstimationSettings:
        """The settings of this way for the steps, members and size that are given; the naive way sharpens no edges."""
        return EstimationSettings(sharpen_edges=False, **given, **self.settings)

    def problem(self, device: str) -> str | None:
        """What keeps it from being measured on a device; None if nothing."""
        if torch.device(device).type not in self.devices:
            return f"is for {' and '.join(self.devices)}, not for {device}"
        if self.package and importlib.util.find_spec(self.package) is None:
            return f"needs the package {self.package}, which is not installed"
        return None


def _openvino(precision: str) -> Way:
    load = {"backend": "openvino", "dtype": precision}
    return Way(f"OpenVINO, {precision}", precision, load=load, devices=("cpu",), package="openvino")


WAYS = {
    REFERENCE: Way("the authors' way: encode every copy, decode all at once, float32", "float32", load_naive),
    "float32": Way("this project, float32", "float32", load={"backend": "torch", "dtype": "float32"}),
    "bfloat16": Way("this project, bfloat16", "bfloat16", load=_HALF),
    "float16": Way(
        "this project, float16", "float16", load={"backend": "torch", "dtype": "float16"}, devices=("cuda", "mps")
    ),
    "cuda-graphs": Way(
        "bfloat16, the network replayed as a CUDA graph", "bfloat16", _load_graphed, load=_HALF, devices=("cuda",)
    ),
    "compile": Way("bfloat16, compiled", "bfloat16", load=_HALF | {"compile": True}, devices=("cuda",)),
    "openvino-float32": _openvino("float32"),
    "openvino-bfloat16": _openvino("bfloat16"),
    "latents": Way("bfloat16, members averaged as latents", "bfloat16", load=_HALF, settings={"average": "latents"}),
    "tiny-decoder": Way(
        "bfloat16, a tiny decoder of random weights",
        "bfloat16",
        _load_tiny_decoder,
        load=_HALF,
        counted=("encode", "solve"),
    ),
}


def choose_ways(names: Sequence[str] | None, device: str) -> list[str]:
    """The ways that are asked for, or without a choice all that can be measured on the device.

    Raises:
        ValueError: for an unknown way, or one that cannot be measured here.
    """
    if names is None:
        return [name for name, way in WAYS.items() if way.problem(device) is None]
    for name in names:
        if name not in WAYS:
            raise ValueError(f"Unknown way {name!r}; choose from {', '.join(WAYS)}.")
        problem = WAYS[name].problem(device)
        if problem:
            raise ValueError(f"The way {name!r} {problem}; leave it out of --ways.")
    return [name for name in WAYS if name in names]  # the yardstick first
