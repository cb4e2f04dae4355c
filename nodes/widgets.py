"""Inputs that several of the nodes have, and what is refused before a graph runs."""

import inspect
from collections.abc import Iterable

from comfy_api.latest import io

from ..depthfm_core.depth.normalize import HIGH_PERCENTILE, LOW_PERCENTILE, DisplayLimits
from .sockets import DepthType

Menus = dict[str, tuple[str | None, Iterable[str]]]
LIMITS = DisplayLimits()
LOG_DEPTHS = {"min": -20.0, "max": 20.0, "step": 0.05}


def depth_input() -> io.Input:
    """The socket for raw depth."""
    return DepthType.Input(
        "depth", tooltip="The 'depth data' output of DepthFM Sampler, DepthFM Decode or Depth from Image."
    )


def rarely_used(kind: type[io.Input], name: str, **options: object) -> io.Input:
    """An input that the front end hides among the advanced ones, where ComfyUI knows of them (0.3.75 does not)."""
    if "advanced" in inspect.signature(kind).parameters:
        options["advanced"] = True
    return kind(name, **options)


def percentile_inputs(low_tooltip: str, high_tooltip: str) -> list[io.Input]:
    """`low_percentile` and `high_percentile`."""
    return [
        _percentile("low_percentile", LOW_PERCENTILE, low_tooltip),
        _percentile("high_percentile", HIGH_PERCENTILE, high_tooltip),
    ]


def fixed_range_inputs(nearest_does: str, farthest_does: str, **options: object) -> list[io.Input]:
    """`nearest` and `farthest`: what the log depth of each does is said after "that"."""
    return [
        _end_of_range("nearest", LIMITS.nearest, nearest_does, **options),
        _end_of_range("farthest", LIMITS.farthest, farthest_does, **options),
    ]


def mask_input(outside: str) -> io.Input:
    """`mask`: what becomes of what is outside is said after "becomes"."""
    return io.Mask.Input(
        "mask",
        optional=True,
        tooltip=f"White is what counts: the range is taken of it alone, and the rest becomes {outside}. Of any size; "
        "one for all frames, or one for each. Load Image's MASK is the transparent part: put Invert Mask between.",
    )


def log_depth_input(name: str, default: float, tooltip: str) -> io.Input:
    """A log depth."""
    return io.Float.Input(name, default=default, tooltip=tooltip, **LOG_DEPTHS)


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
        rarely_used(
            io.Float.Input,
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


def validated(menus: Menus) -> bool | str:
    """What a node's `validate_inputs` answers: True, or what a menu offers instead.

    Only what no menu offers is refused there. Of a node that is refused before the run the front end shows nothing but
    a red frame while another output can run, and ComfyUI says the sentence once for each argument of
    `validate_inputs`. An error of `execute` opens a dialog.
    """
    return unknown_choice(menus) or True


def unknown_choice(menus: Menus) -> str | None:
    """What is wrong with a value that its menu lacks: ComfyUI 0.3.75 leaves that to the node.

    Args:
        menus: the value and the choices of each menu; None is what comes by a link and is not known before the run.
    """
    for name, (value, choices) in menus.items():
        if value is not None and value not in choices:
            return f"Unknown {name} {value!r}; choose one of {', '.join(choices)}."
    return None


def _percentile(name: str, default: float, tooltip: str) -> io.Input:
    return rarely_used(io.Float.Input, name, default=default, min=0.0, max=100.0, step=0.1, tooltip=tooltip)


def _end_of_range(name: str, default: float, does: str, **options: object) -> io.Input:
    tooltip = f"The log depth, about -1 to 1, that {does}. For 'fixed range'."
    return rarely_used(io.Float.Input, name, default=default, tooltip=tooltip, **LOG_DEPTHS, **options)
