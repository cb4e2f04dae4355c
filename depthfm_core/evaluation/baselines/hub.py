"""Methods whose code lives in a torch.hub repository: MiDaS, Omnidata, HDN, Metric3D v2.

A hub repository is code that runs on this machine, so it is never fetched here: it comes from a folder that is named,
or from torch.hub's cache, where the user's own `torch.hub.load` put it. So do the weights that its code asks for.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...model.fingerprint import cached_repository
from ...model.reading import read_tensor_file
from .method import DTYPE, Method, Request, in_float32
from .sizes import letterbox, midas_size

MIDAS = "isl-org/MiDaS"
MIDAS_SIDE_PX = 384
IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALVES = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
# Method -> (entry point, bound of `midas_size`, mean and deviation of colors), from MiDaS's hubconf.py.
MIDAS_ENTRIES = {
    "midas": ("MiDaS", "upper", IMAGENET),
    "midas-dpt-large": ("DPT_Large", "minimal", HALVES),
    "midas-dpt-hybrid": ("DPT_Hybrid", "minimal", HALVES),
}
# Its demo.py resizes with Pillow's BILINEAR, which antialiases.
OMNIDATA_RESIZE = {"mode": "bilinear", "antialias": True}
METRIC3D = "yvanyin/metric3d"
METRIC3D_ENTRIES = {
    "metric3d-v2": "metric3d_vit_giant2",
    "metric3d-v2-large": "metric3d_vit_large",
    "metric3d-v2-small": "metric3d_vit_small",
}
METRIC3D_SIZE = (616, 1064)
CANONICAL_FOCAL_PX = 1000
_CLIPPED_M = 300


def load_midas(request: Request) -> Method:
    """MiDaS 2.1 or 3.0 (DPT); it gives disparity.

    Raises:
        ValueError: without the repository, a package that it needs, or the weights.
    """
    entry, bound, colors = MIDAS_ENTRIES[request.name]
    network = _from_hub(request, MIDAS, entry)
    return _midas_method(request, lambda image: _run_midas(network, image, bound, colors))


def load_omnidata(request: Request) -> Method:
    """Omnidata's DPT-Hybrid; it gives depth, which its authors clip to [0, 1].

    From its own hub repository, or from `omnidata_dpt_depth_v2.ckpt` with MiDaS's code. Its authors cut a square out of
    the picture; here the whole picture is seen, since every pixel needs a prediction.

    Raises:
        ValueError: as `load_midas`, or for a file that does not fit.
    """
    if Path(request.weights).is_file():
        network = _with_weights(request, "DPT_Hybrid")
    else:
        network = _from_hub(request, "alexsax/omnidata_models", "depth_dpt_hybrid_384")

    def run(image: Tensor) -> Tensor:
        return _run_midas(network, image, "lower", HALVES, **OMNIDATA_RESIZE).clamp(0, 1)

    return _midas_method(request, run)


def load_hdn(request: Request) -> Method:
    """HDN from a file of weights for MiDaS's DPT-Large or DPT-Hybrid, whichever the file holds; it gives depth.

    Raises:
        ValueError: as `load_midas`, or for a file that does not fit.
    """
    hybrid = any(".backbone.stem." in name for name in _state(request))
    network = _with_weights(request, "DPT_Hybrid" if hybrid else "DPT_Large")
    return _midas_method(request, lambda image: _run_midas(network, image, "minimal", HALVES))


def load_metric3d(request: Request) -> Method:
    """Metric3D v2; it gives depth up to scale, or meters where the focal length was given.

    Raises:
        ValueError: for another device than CUDA, or as `load_midas`.
    """
    from_hub = not Path(request.weights).is_dir()
    if from_hub and torch.device(request.options.device).type != "cuda":  # its decoder asks for "cuda" by name
        raise ValueError(
            f"{request.name} as published computes on CUDA only, not on {request.options.device}; take "
            "metric3d-v2-onnx, or name a folder of its code that does otherwise."
        )
    network = _from_hub(request, METRIC3D, METRIC3D_ENTRIES[request.name], pretrain=True)

    def run(framed: Tensor) -> Tensor:
        mean, std = (255 * framed.new_tensor(values).view(3, 1, 1) for values in IMAGENET)
        return network.inference({"input": (framed - mean) / std})[0]

    return metric3d_method(request, run, METRIC3D_SIZE)


def metric3d_method(request: Request, run: Callable[[Tensor], Tensor], size: tuple[int, int]) -> Method:
    """Metric3D's protocol around whatever runs its network: from [1, 3, *size] in [0, 255] to canonical depth."""
    focal_px = request.options.focal_px

    def estimate(image: Tensor) -> tuple[Tensor, int]:
        image = image.to(request.options.device)
        framed, where = letterbox(255 * image, size, 255 * image.new_tensor(IMAGENET[0]))
        depth = run(framed).reshape(1, 1, *size)[..., where[0], where[1]]
        if focal_px is not None:
            scale = depth.shape[-1] / image.shape[-1]
            depth = (depth * (focal_px * scale / CANONICAL_FOCAL_PX)).clamp(0, _CLIPPED_M)
        return depth, 1

    told = {} if focal_px is None else {"focal_px": focal_px}
    gives = "relative_depth" if focal_px is None else "depth_m"
    return request.method(estimate, gives=gives, size=f"{size[0]} x {size[1]}", **told)


def _midas_method(request: Request, run: Callable[[Tensor], Tensor]) -> Method:
    """What runs a network of MiDaS's code, which rounds nowhere."""
    return request.method(lambda image: (run(image), 1), size=MIDAS_SIDE_PX, dtype=DTYPE)


def _run_midas(
    network: nn.Module, image: Tensor, bound: str, colors: tuple, mode: str = "bicubic", *, antialias: bool = False
) -> Tensor:
    """The network's map; pictures are resized as MiDaS's published transform does unless it is said otherwise."""
    size = midas_size(tuple(image.shape[-2:]), MIDAS_SIDE_PX, bound)
    pixels = F.interpolate(image, size, mode=mode, align_corners=False, antialias=antialias)
    pixels = pixels.to(next(network.parameters()).device)
    mean, std = (pixels.new_tensor(values).view(3, 1, 1) for values in colors)
    return network((pixels - mean) / std)


def _from_hub(request: Request, repository: str, entry: str, folder: str = "", **arguments: bool) -> nn.Module:
    """The network that an entry point of a hub repository makes."""
    folder = folder or (request.weights if Path(request.weights).is_dir() else _cached(request, repository))
    with request.complaining(RuntimeError), _nothing_fetched():
        network = torch.hub.load(str(folder), entry, source="local", **arguments)
    return in_float32(network, request.options.device)


@contextmanager
def _nothing_fetched() -> Iterator[None]:
    """Entry points find weights in torch.hub's cache, or fail."""

    def refuse(_url: str, place: str, *_arguments: object, **_options: object) -> None:
        raise FileNotFoundError(f"there is no {place}")

    original, torch.hub.download_url_to_file = torch.hub.download_url_to_file, refuse
    try:
        yield
    finally:
        torch.hub.download_url_to_file = original


def _cached(request: Request, repository: str) -> Path:
    found = cached_repository(repository)
    if found is None:
        raise ValueError(
            f"{request.name} needs the code of {repository}, which is not in {torch.hub.get_dir()}. "
            f"Fetch it: {request.card.fetch}"
        )
    return found


def _with_weights(request: Request, entry: str) -> nn.Module:
    """MiDaS's network of an entry point with the weights of a file, every tensor accounted for."""
    network = _from_hub(request, MIDAS, entry, str(_cached(request, MIDAS)), pretrained=False)
    with request.complaining(RuntimeError):
        network.load_state_dict(_state(request))
    return network


def _state(request: Request) -> dict[str, Tensor]:
    """The tensors of a file under MiDaS's names, without what a training framework put before them."""
    content, _ = read_tensor_file(Path(request.weights))
    state = content.get("state_dict", content)
    for prefix in ("module.", "model."):
        if all(name.startswith(prefix) for name in state):
            state = {name.removeprefix(prefix): tensor for name, tensor in state.items()}
    return state
