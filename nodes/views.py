"""Nodes that turn a depth map into something to look at."""

from comfy_api.latest import io
from torch import Tensor

from ..depthfm_core.depth.color import COLORMAPS, colorize
from ..depthfm_core.depth.normalize import (
    NORMALIZATIONS,
    DisplayLimits,
    for_single_frames,
    normalize_depth,
)
from ..depthfm_core.depth.normals import CONVENTIONS, normals_to_image
from ..depthfm_core.depth.predicted_normals import predicted_normals
from ..depthfm_core.depth.prediction import DepthPrediction
from .frames import mask_for, picture_of_each
from .sockets import CATEGORY, schema
from .widgets import camera_inputs, depth_input, fixed_range_inputs, mask_input, percentile_inputs, validated


class ColorizeDepth(io.ComfyNode):
    """DEPTHFM_DEPTH to an IMAGE in colors."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_Colorize",
            display_name="Colorize Depth (DepthFM)",
            category=CATEGORY,
            description="Paints a depth map with a color map, from near to far.",
            search_aliases=["depth", "colormap", "depth color", "false color", "depthfm"],
            inputs=[
                depth_input(),
                io.Combo.Input(
                    "colormap",
                    options=list(COLORMAPS),
                    default="spectral",
                    tooltip="'spectral' is red near and blue far, as in depth papers; 'gray' is black near.",
                ),
                io.Boolean.Input(
                    "invert", default=False, tooltip="Off: near takes the map's first color. On: far takes it."
                ),
                *_range_inputs(),
                mask_input("far"),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="The depth map in colors.")],
        )

    @classmethod
    def validate_inputs(cls, colormap: str | None = None, normalization: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"colormap": (colormap, COLORMAPS), "normalization": (normalization, NORMALIZATIONS)})

    @classmethod
    def execute(
        cls,
        depth: DepthPrediction,
        colormap: str,
        invert: bool,
        normalization: str,
        low_percentile: float,
        high_percentile: float,
        nearest: float,
        farthest: float,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """Paints frame by frame."""
        mask = mask_for(mask, depth)
        limits = DisplayLimits(low_percentile, high_percentile, nearest, farthest)
        shown = for_single_frames(depth, normalization, limits, mask)

        def colors(frame: DepthPrediction, part: Tensor | None = None) -> Tensor:
            return colorize(normalize_depth(frame, *shown, part), colormap, invert)

        return io.NodeOutput(picture_of_each(depth, colors, mask))


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
                depth_input(),
                *camera_inputs(),
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
                    max=200.0,
                    step=0.5,
                    tooltip="Averages slopes over so many pixels of a surface; 0 = none. It calms noise and the steps "
                    "of 8-bit depth; edges stay. About the image's short side divided by 56 for 'nano'.",
                ),
                io.Combo.Input(
                    "convention",
                    options=list(CONVENTIONS),
                    default="opengl",
                    tooltip="'opengl': red is right, green is up (Blender). 'directx': green is down (Unreal). "
                    "'controlnet': red is left, green is up (Stable Diffusion 1.5's normal ControlNet).",
                ),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="Light blue faces the camera.")],
        )

    @classmethod
    def validate_inputs(cls, convention: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"convention": (convention, CONVENTIONS)})

    @classmethod
    def execute(
        cls,
        depth: DepthPrediction,
        fov_deg: float,
        focal_px: float,
        strength: float,
        smoothing: float,
        convention: str,
    ) -> io.NodeOutput:
        """The normals of frame after frame."""
        settings = {
            "fov_deg": fov_deg,
            "focal_px": focal_px or None,
            "strength": strength,
            "smoothing": smoothing,
            "convention": convention,
        }
        return io.NodeOutput(
            picture_of_each(depth, lambda frame: normals_to_image(predicted_normals(frame, **settings)))
        )


def _range_inputs() -> list[io.Input]:
    return [
        io.Combo.Input(
            "normalization",
            options=list(NORMALIZATIONS),
            default="per image",
            tooltip="What the first and the last color show. 'per image': each image's nearest and farthest point. "
            "'batch': those of all images, so that a video does not flicker. 'percentile' and 'batch percentile': the "
            "same two without the outliers. 'fixed range': 'nearest' and 'farthest', the same in every run.",
        ),
        *percentile_inputs(
            "For 'percentile' and 'batch percentile': so many percent of the pixels, the nearest, take the first "
            "color.",
            "For 'percentile' and 'batch percentile': the pixels beyond so many percent, the farthest, take the last "
            "color.",
        ),
        *fixed_range_inputs("takes the first color", "takes the last color"),
    ]
