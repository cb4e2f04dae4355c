"""The rows of `METHODS` for torch.hub repositories."""

from .hub import (
    METRIC3D,
    METRIC3D_ENTRIES,
    MIDAS,
    MIDAS_ENTRIES,
    load_hdn,
    load_metric3d,
    load_midas,
    load_omnidata,
)
from .method import MethodCard


def _fetch(repository: str, entry: str, argument: str = "") -> str:
    return f"python -c \"import torch; torch.hub.load('{repository}', '{entry}'{argument}, trust_repo=True)\""


def _midas(name: str, size: str, published: str) -> MethodCard:
    fetch = f"pip install timm && {_fetch(MIDAS, MIDAS_ENTRIES[name][0])}"
    source = "https://github.com/isl-org/MiDaS/blob/master/hubconf.py"
    return MethodCard(load_midas, "disparity", MIDAS, fetch, "MIT", size, source, published=published)


def _metric3d(name: str, size: str) -> MethodCard:
    return MethodCard(
        load=load_metric3d,
        gives="relative_depth",
        weights=METRIC3D,
        fetch=f"pip install mmengine timm && {_fetch(METRIC3D, METRIC3D_ENTRIES[name], ', pretrain=True')}",
        licence="BSD-2-Clause",
        size=size,
        source="https://github.com/YvanYin/Metric3D/blob/main/hubconf.py",
        options=("focal_px",),
        published="Metric3D v2" if name == "metric3d-v2" else "",
    )


HUB = {
    "midas": _midas("midas", "105 M", "MiDaS"),
    "midas-dpt-large": _midas("midas-dpt-large", "344 M", "DPT"),
    "midas-dpt-hybrid": _midas("midas-dpt-hybrid", "123 M", ""),
    "omnidata": MethodCard(
        load=load_omnidata,
        gives="depth",
        weights="alexsax/omnidata_models",
        fetch=f"pip install timm && {_fetch('alexsax/omnidata_models', 'depth_dpt_hybrid_384')}",
        licence="CC BY-NC 4.0",
        size="123 M",
        source="https://github.com/EPFL-VILAB/omnidata/blob/main/omnidata_tools/torch/demo.py",
        published="Omnidata",
    ),
    "hdn": MethodCard(
        load=load_hdn,
        gives="depth",
        weights="",
        fetch=(
            "no weights are published; hdn=FILE takes a state dict of MiDaS's DPT-Large or DPT-Hybrid trained with "
            f"HDN's loss, and MiDaS's code: pip install timm && {_fetch(MIDAS, 'DPT_Large')}"
        ),
        licence="not published",
        size="as DPT",
        source="https://arxiv.org/abs/2210.09670",
        published="HDN",
    ),
    "metric3d-v2": _metric3d("metric3d-v2", "ViT-giant2"),
    "metric3d-v2-large": _metric3d("metric3d-v2-large", "ViT-Large"),
    "metric3d-v2-small": _metric3d("metric3d-v2-small", "ViT-Small"),
}
