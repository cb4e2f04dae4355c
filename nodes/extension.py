"""The list of nodes, as ComfyUI asks for it."""

from comfy_api.latest import ComfyAPI, ComfyExtension, io

from .controlnet import DepthToControlNetImage
from .decode import DepthFMDecode
from .from_image import DepthFromImage
from .geometry import DepthToGeometry, comfyui_has_geometry_nodes
from .load import LoadDepthFMModel
from .model_files import register_model_folder
from .replacements import register_replacements
from .sample import DepthFMSampler
from .save import SaveDepth
from .views import ColorizeDepth, NormalFromDepth

NODES = (
    LoadDepthFMModel,
    DepthFMSampler,
    DepthFMDecode,
    DepthFromImage,
    ColorizeDepth,
    NormalFromDepth,
    DepthToControlNetImage,
    SaveDepth,
)


class DepthFMExtension(ComfyExtension):
    """What `comfy_entrypoint` returns."""

    async def on_load(self) -> None:
        """ComfyUI from 2026 on asks for this before the node list."""
        await register_replacements(ComfyAPI(), io)

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        """The node classes; `models/depthfm` is a model folder from here on."""
        register_model_folder()
        return [*NODES, DepthToGeometry] if comfyui_has_geometry_nodes() else list(NODES)
