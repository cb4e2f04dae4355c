"""The node that takes depth from a picture."""

import torch
from comfy_api.latest import io

from ..depthfm_core.depth.controlnet import controlnet_image
from ..depthfm_core.depth.from_image import DEPTH_IMAGE, VALUES, depth_from_image
from ..depthfm_core.depth.prediction import DepthPrediction
from .convert import channels_first, image_to_comfy
from .frames import joined, one_by_one, prediction_of
from .sample import picture_and_data_sockets
from .sockets import CATEGORY, schema
from .widgets import LIMITS, log_depth_input, validated


class DepthFromImage(io.ComfyNode):
    """IMAGE to DEPTHFM_DEPTH: depth that was edited, rendered or estimated by others, for the nodes behind."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        """What the front end shows."""
        return schema(
            node_id="DepthFM_FromImage",
            display_name="Depth from Image (DepthFM)",
            category=CATEGORY,
            description="Depth data of a depth picture: one that was edited, painted, rendered or made by another "
            "model.",
            search_aliases=["image to depth", "load depth", "depth map", "z pass", "depth pass", "depthfm"],
            inputs=[
                io.Image.Input(
                    "image", tooltip="Gray depth pictures, not colored ones; any number of frames. Alpha is ignored."
                ),
                io.Combo.Input(
                    "values",
                    options=list(VALUES),
                    default=DEPTH_IMAGE,
                    tooltip="What the grays are; the names are those of Save Depth. 'depth image': near = white, "
                    "inverse depth, as the DepthFM Sampler, MiDaS, Depth Anything and ControlNet pictures. 'depth': "
                    "near = black, even steps of distance, as a render's. 'near white': that inverted. 'disparity': "
                    "inverse depth whose black is infinitely far. 'log depth': near = black, even steps of log depth.",
                ),
                log_depth_input(
                    "nearest",
                    LIMITS.nearest,
                    "The log depth, about -1 to 1, of the near end of the grays, whether the picture reaches it or "
                    "not.",
                ),
                log_depth_input(
                    "farthest",
                    LIMITS.farthest,
                    "That of the far end. The picture does not tell how deep it is: 1 above 'nearest', the far end is "
                    "2.7 times as far away as the near one, 2 above it 7.4 times, 3 above it 20 times.",
                ),
            ],
            outputs=picture_and_data_sockets(),
        )

    @classmethod
    def validate_inputs(cls, values: str | None = None) -> bool | str:
        """True, or what the menu offers instead."""
        return validated({"values": (values, VALUES)})

    @classmethod
    def execute(cls, image: torch.Tensor, values: str, nearest: float, farthest: float) -> io.NodeOutput:
        """Reads frame after frame.

        Raises:
            ValueError: for a refused input.
        """
        pictures = one_by_one(channels_first(image).split(1))
        read = (_shown(depth_from_image(picture.cpu(), values, nearest, farthest)) for picture in pictures)
        maps = joined(read, len(image))
        return io.NodeOutput(maps.pop("image"), prediction_of(maps))


def _shown(frame: DepthPrediction) -> dict[str, torch.Tensor]:
    """The maps of a frame and their picture."""
    picture = image_to_comfy(controlnet_image(frame))
    return {"log_depth": frame.log_depth, "image": picture}
