"""Methods that come as a package of their authors: MoGe and Depth Anything 3."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ...optional import import_optional
from .method import DEFAULT_SEED, DTYPE, Method, MethodCard, Request

INSTALL_MOGE = "pip install git+https://github.com/microsoft/MoGe.git"
INSTALL_DA3 = (
    "pip install depth-anything-3 addict, in an environment of its own: it brings numpy below 2 and much else, and "
    "wants Python 3.12 or older"
)
_MOGE_MODULES = {"moge": "moge.model.v1", "moge-2": "moge.model.v2"}
DA3_SIDE_PX = 504
_DA3_WARNINGS = 1  # of its logger's levels; above this one it prints lines about every picture


def load_moge(request: Request) -> Method:
    """MoGe (depth up to scale) or MoGe-2 (meters), without the mask that would leave pixels empty.

    Raises:
        ValueError: without the package or the weights.
    """
    model_class = import_optional(_MOGE_MODULES[request.name], request.name, INSTALL_MOGE).MoGeModel
    path = Path(request.weights)
    weights = str(path / "model.pt") if path.is_dir() else request.weights
    with request.complaining():
        model = model_class.from_pretrained(weights, local_files_only=True)
    device = torch.device(request.options.device)
    model = model.to(device).eval()
    use_fp16 = device.type == "cuda"

    def estimate(image: Tensor) -> tuple[Tensor, int]:
        found = model.infer(image[0].to(device), apply_mask=False, use_fp16=use_fp16)
        return found["depth"], 1

    return request.method(estimate, dtype="float16" if use_fp16 else DTYPE)


def load_depth_anything_3(request: Request) -> Method:
    """Depth Anything 3 for single pictures; it gives depth up to scale and shift, long side `DA3_SIDE_PX`.

    Raises:
        ValueError: without the package or the weights.
    """
    api = import_optional("depth_anything_3.api", request.name, INSTALL_DA3)
    api.logger.level = min(api.logger.level, _DA3_WARNINGS)
    with request.complaining():
        model = api.DepthAnything3.from_pretrained(request.weights, local_files_only=True)
    device = torch.device(request.options.device)
    model = model.to(device).eval()
    if device.type == "cpu":  # its own `forward` rounds to float16, which a CPU is slow at
        model.forward, dtype = model.model.forward, DTYPE
    else:  # as `forward` chooses
        dtype = "bfloat16" if torch.cuda.is_bf16_supported() else "float16"

    def estimate(image: Tensor) -> tuple[Tensor, int]:
        pixels = (image[0] * 255).round().byte().permute(1, 2, 0).cpu().numpy()  # [H, W, 3]
        with _same_draws(device):  # the sky's depth is a quantile of pixels that it draws
            return torch.as_tensor(model.inference([pixels], process_res=DA3_SIDE_PX).depth[0]), 1

    return request.method(estimate, processing_resolution=DA3_SIDE_PX, dtype=dtype)


@contextmanager
def _same_draws(device: torch.device) -> Iterator[None]:
    """PyTorch's own generator starts from the same seed every time, and is afterwards where it was before."""
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.manual_seed(DEFAULT_SEED)
        yield


_MOGE_SOURCE = "https://github.com/microsoft/MoGe/blob/main/baselines/moge.py"
PACKAGES = {
    "moge": MethodCard(
        load=load_moge,
        gives="relative_depth",
        weights="Ruicheng/moge-vitl",
        fetch="hf download Ruicheng/moge-vitl model.pt",
        licence="MIT",
        size="ViT-L",
        source=_MOGE_SOURCE,
        published="MoGe",
        needs={"moge": INSTALL_MOGE},
    ),
    "moge-2": MethodCard(
        load=load_moge,
        gives="depth_m",
        weights="Ruicheng/moge-2-vitl-normal",
        fetch="hf download Ruicheng/moge-2-vitl-normal model.pt",
        licence="MIT",
        size="331 M",
        source=_MOGE_SOURCE,
        published="MoGe-2",
        needs={"moge": INSTALL_MOGE},
    ),
    "depth-anything-v3": MethodCard(
        load=load_depth_anything_3,
        gives="depth",  # sections 4.1 and 4.3 of https://arxiv.org/abs/2511.10647: scale and shift are open
        weights="depth-anything/DA3MONO-LARGE",
        fetch="hf download depth-anything/DA3MONO-LARGE",
        licence="Apache-2.0",
        size="350 M",
        source="https://github.com/ByteDance-Seed/Depth-Anything-3",
        needs={"depth_anything_3": INSTALL_DA3},
    ),
}
