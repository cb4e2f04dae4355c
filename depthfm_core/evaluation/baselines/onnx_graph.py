"""Metric3D v2 as an ONNX graph, which needs neither its code nor its packages."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ...loading import usable_device
from ...optional import import_optional
from .hub import METRIC3D_SIZE, metric3d_method
from .method import INSTALL, Method, MethodCard, Request


def load_onnx(request: Request) -> Method:
    """Metric3D v2 from a .onnx file, which takes colors from 0 to 255 and normalizes them itself.

    A graph of fixed size is run at that size, any other at Metric3D's own.

    Raises:
        ValueError: without onnxruntime, or for a missing or broken file.
    """
    runtime = import_optional("onnxruntime", request.name, INSTALL)
    if not Path(request.weights).is_file():
        raise ValueError(f"There is no file {request.weights}. Fetch one: {request.card.fetch}")
    errors = runtime.capi.onnxruntime_pybind11_state
    with request.complaining(errors.Fail, errors.InvalidProtobuf, errors.InvalidGraph, errors.InvalidArgument):
        session = runtime.InferenceSession(
            request.weights, providers=_providers(request.options.device, runtime.get_available_providers())
        )
    given = session.get_inputs()[0]
    names = [output.name for output in session.get_outputs()]
    depth_name = "predicted_depth" if "predicted_depth" in names else names[0]
    size = tuple(given.shape[-2:])
    size = size if all(isinstance(side, int) for side in size) else METRIC3D_SIZE
    dtype = torch.float16 if given.type == "tensor(float16)" else torch.float32

    def run(framed: Tensor) -> Tensor:
        depth = session.run([depth_name], {given.name: framed.to("cpu", dtype).numpy()})[0]
        return torch.from_numpy(depth).float()

    return metric3d_method(request, run, size)


def _providers(device: str, available: Sequence[str]) -> list[str | tuple[str, dict[str, int]]]:
    """What ONNX Runtime is to compute with, best first: the GPU that PyTorch means by `device`, and the CPU."""
    on_gpu = device.startswith("cuda") and "CUDAExecutionProvider" in available
    gpu = [("CUDAExecutionProvider", {"device_id": usable_device(device).index})] if on_gpu else []
    return [*gpu, "CPUExecutionProvider"]


ONNX = {
    "metric3d-v2-onnx": MethodCard(
        load=load_onnx,
        gives="relative_depth",
        weights="",
        fetch=(
            "hf download onnx-community/metric3d-vit-small --include onnx/model.onnx --local-dir metric3d, then "
            "metric3d-v2-onnx=metric3d/onnx/model.onnx"
        ),
        licence="CC0 on its card, code BSD-2-Clause",
        size="the graph's own",
        source="https://github.com/YvanYin/Metric3D/blob/main/onnx/test.onnx.py",
        options=("focal_px",),
        needs={"onnxruntime": INSTALL},
    )
}
