"""Nodes that turn a depth map into something to look at."""

from comfy_api.latest import io

from ..depthfm_core.depth.color import COLORMAPS, colorize
from ..depthfm_core.depth.normals import CONVENTIONS, normals_from_depth, normals_to_image
from ..depthfm_core.depth.prediction import DepthPrediction
from .convert import image_to_comfy
from .sockets import CATEGORY, DepthType, schema

_DEPTH_TOOLTIP = "The 'depth data' output of the DepthFM Sampler."


class ColorizeDepth(io.ComfyNode):
    """DEPTHFM_DEPTH to an IMAGE in colors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Colorize",
            display_name="Colorize Depth (DepthFM)",
            category=CATEGORY,
            description="Paints a depth map with a color map, each image over its own range from near to far.",
            search_aliases=["depth", "colormap", "depth color", "false color", "depthfm"],
            inputs=[
                DepthType.Input("depth", tooltip=_DEPTH_TOOLTIP),
                io.Combo.Input(
                    "colormap",
                    options=list(COLORMAPS),
                    default="spectral",
                    tooltip="'spectral' is red near and blue far, as in depth papers; 'gray' is black near.",
                ),
                io.Boolean.Input(
                    "invert", default=False, tooltip="Off: near takes the map's first color. On: far takes it."
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The depth map in colors.")],
        )

    @classmethod
    def execute(cls, depth: DepthPrediction, colormap: str, invert: bool) -> io.NodeOutput:
        """Paints the whole batch."""
        return io.NodeOutput(image_to_comfy(colorize(depth.depth, colormap, invert)))


class NormalFromDepth(io.ComfyNode):
    """DEPTHFM_DEPTH to an IMAGE of surface normals."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Normal",
            display_name="Normal from Depth (DepthFM)",
            category=CATEGORY,
            description="The surface normals of a depth map, as a normal map for ControlNet or relighting.",
            search_aliases=["normal map", "surface normal", "depth to normal", "relief", "depthfm"],
            inputs=[
                DepthType.Input("depth", tooltip=_DEPTH_TOOLTIP),
                io.Float.Input(
                    "fov_deg",
                    display_name="field of view",
                    default=60.0,
                    min=1.0,
                    max=170.0,
                    step=1.0,
                    tooltip="The camera's horizontal field of view in degrees: about 65 for a phone, 20 for a "
                    "portrait lens. A larger one makes surfaces steeper.",
                ),
                io.Float.Input(
                    "strength",
                    default=1.0,
                    min=0.01,
                    max=20.0,
                    step=0.05,
                    tooltip="1 = true normals; more = more relief.",
                ),
                io.Float.Input(
                    "smoothing",
                    default=0.0,
                    min=0.0,
                    max=50.0,
                    step=0.5,
                    tooltip="Blur in pixels before the normals are taken; 0 = none. It calms noise and rounds edges.",
                ),
                io.Combo.Input(
                    "convention",
                    options=list(CONVENTIONS),
                    default="opengl",
                    tooltip="'opengl': green is up (ControlNet, Blender). 'directx': green is down (Unreal).",
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="Light blue faces the camera.")],
        )

    @classmethod
    def execute(
        cls, depth: DepthPrediction, fov_deg: float, strength: float, smoothing: float, convention: str
    ) -> io.NodeOutput:
        """The normals of the whole batch."""
        normals = normals_from_depth(
            depth.relative_depth, fov_deg=fov_deg, strength=strength, smoothing=smoothing, convention=convention
        )
        return io.NodeOutput(image_to_comfy(normals_to_image(normals)))
