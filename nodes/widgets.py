"""Inputs that several of the nodes have."""

from comfy_api.latest import io

from ..depthfm_core.depth.normalize import HIGH_PERCENTILE, LOW_PERCENTILE
from .sockets import DepthType


def depth_input() -> io.Input:
    """The socket for raw depth."""
    return DepthType.Input("depth", tooltip="The 'depth data' output of DepthFM Sampler or DepthFM Decode.")


def percentile_inputs(low_tooltip: str, high_tooltip: str) -> list[io.Input]:
    """`low_percentile` and `high_percentile`."""
    return [
        _percentile("low_percentile", LOW_PERCENTILE, low_tooltip),
        _percentile("high_percentile", HIGH_PERCENTILE, high_tooltip),
    ]


def camera_inputs() -> list[io.Input]:
    """`fov_deg` and `focal_px`, of which the second goes first where it is not 0."""
    return [
        io.Float.Input(
            "fov_deg",
            display_name="field of view",
            default=60.0,
            min=1.0,
            max=170.0,
            step=0.1,
            tooltip="The camera's horizontal field of view in degrees: about 65 for a phone, 20 for a portrait lens. "
            "A larger one makes surfaces flatter.",
        ),
        io.Float.Input(
            "focal_px",
            display_name="focal length",
            default=0.0,
            min=0.0,
            max=1e6,
            step=0.01,
            tooltip="The focal length in pixels of this image, where it is known; the field of view is then not used. "
            "0 = from the field of view.",
        ),
    ]


def _percentile(name: str, default: float, tooltip: str) -> io.Input:
    return io.Float.Input(name, default=default, min=0.0, max=100.0, step=0.1, tooltip=tooltip)
