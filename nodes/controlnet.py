"""The node that prepares depth for a depth ControlNet."""

from comfy_api.latest import io
from torch import Tensor

from ..depthfm_core.depth.controlnet import GRAY_RANGES, SIZINGS, controlnet_image, gray_range
from ..depthfm_core.depth.normalize import DisplayLimits
from ..depthfm_core.depth.prediction import DepthPrediction
from .frames import mask_for, picture_of_each
from .sockets import CATEGORY, schema
from .widgets import LIMITS, depth_input, fixed_range_inputs, mask_input, percentile_inputs, validated

MAX_MULTIPLE_PX = 512


class DepthToControlNetImage(io.ComfyNode):
    """DEPTHFM_DEPTH to the gray IMAGE that depth ControlNets were trained on."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_ControlNetImage",
            display_name="Depth to ControlNet Image (DepthFM)",
            category=CATEGORY,
            description="Inverse depth, near = white, without outliers, in a size that diffusion models take: what "
            "depth ControlNets were trained on.",
            search_aliases=["controlnet depth", "depth hint", "disparity", "inverse depth", "midas", "depthfm"],
            inputs=[
                depth_input(),
                *percentile_inputs(
                    "So many percent of the pixels, the farthest, become black.",
                    "The pixels beyond so many percent, the nearest, become white.",
                ),
                io.Combo.Input(
                    "normalization",
                    options=list(GRAY_RANGES),
                    default="per image",
                    tooltip="Percentiles 'per image', or of the whole 'batch', so that a video does not flicker. "
                    "'fixed range': 'nearest' and 'farthest' instead, so that the clips of a cut video fit together.",
                ),
                io.Int.Input(
                    "multiple",
                    default=64,
                    min=1,
                    max=MAX_MULTIPLE_PX,
                    tooltip="Width and height become multiples of it. 64 suits all models; 1 = keep the size.",
                ),
                io.Combo.Input(
                    "sizing",
                    options=list(SIZINGS),
                    default="pad",
                    tooltip="How they become multiples. 'pad' repeats the right and the bottom edge: crop the "
                    "generated picture to the original size afterwards. 'crop' keeps the center. 'stretch' scales to "
                    "the nearest multiple.",
                ),
                *fixed_range_inputs("becomes white", "becomes black", optional=True),  # graphs were saved before
                mask_input("black"),
            ],
            outputs=[io.Image.Output(display_name="IMAGE", tooltip="Gray, near = white, for Apply ControlNet.")],
        )

    @classmethod
    def validate_inputs(cls, normalization: str | None = None, sizing: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"normalization": (normalization, GRAY_RANGES), "sizing": (sizing, SIZINGS)})

    @classmethod
    def execute(
        cls,
        depth: DepthPrediction,
        low_percentile: float,
        high_percentile: float,
        normalization: str,
        multiple: int,
        sizing: str,
        nearest: float = LIMITS.nearest,
        farthest: float = LIMITS.farthest,
        mask: Tensor | None = None,
    ) -> io.NodeOutput:
        """The pictures of frame after frame."""
        limits = DisplayLimits(low_percentile, high_percentile, nearest, farthest)
        mask = mask_for(mask, depth)
        shared = None if normalization == "per image" else gray_range(depth, normalization, limits, mask)

        def gray(frame: DepthPrediction, part: Tensor | None = None) -> Tensor:
            return controlnet_image(frame, normalization, limits, part, grays=shared, multiple=multiple, sizing=sizing)

        return io.NodeOutput(picture_of_each(depth, gray, mask))
