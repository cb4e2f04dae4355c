"""The types of the pack's own sockets."""

import inspect

from comfy_api.latest import io

ModelType = io.Custom("DEPTHFM_MODEL")  # ComfyUI's ModelPatcher of a native.DepthFMModel
DepthType = io.Custom("DEPTHFM_DEPTH")  # depthfm_core's DepthPrediction, on the CPU

CATEGORY = "image/geometry estimation"
LOADER_CATEGORY = "model/loaders"


def schema(*, search_aliases: list[str], **fields: object) -> io.Schema:
    """A node's schema; search aliases only where the running ComfyUI knows them (0.3.75 does not)."""
    if "search_aliases" in inspect.signature(io.Schema).parameters:
        fields["search_aliases"] = search_aliases
    return io.Schema(**fields)
