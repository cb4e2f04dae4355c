"""How what `predict` saves looks: its options for colors and normals."""

import argparse
from dataclasses import dataclass, replace

import torch

from ..depth.color import COLORMAPS, colorize
from ..depth.normalize import DisplayLimits, normalize_depth
from ..depth.normals import CONVENTIONS
from ..depth.predicted_normals import predicted_normals
from ..depth.prediction import DepthPrediction
from .arguments import as_typed, default_of

# `--normalization`: those of `depth.normalize` that a picture alone can have.
NORMALIZATIONS = {"per-image": "per image", "percentile": "percentile", "fixed-range": "fixed range"}
_OPTIONS = {  # what errors begin with -> the option that they are about
    "fov_deg": "--fov",
    "focal_px": "--focal",
    "strength": "--normal-strength",
    "smoothing": "--normal-smoothing",
    "The fixed range": "--range",
    "Percentiles": "--percentiles",
}
OF_CAMERA = ("normals", "ply")  # kinds of output that depend on the field of view


@dataclass(frozen=True)
class ViewOptions:
    """How the views look.

    Attributes:
        colormap: of `color`.
        invert: swaps near and far in `color` and `depth16`.
        normalization, limits: of `color`, see `normalize_depth`.
        normals: keyword arguments of `predicted_normals`; a field of view of None stands for the photograph's own.
    """

    colormap: str
    invert: bool
    normalization: str
    limits: DisplayLimits
    normals: dict[str, float | str | None]

    @property
    def takes_fov_of_photo(self) -> bool:
        """Whether neither a field of view nor a focal length was given."""
        return self.normals["fov_deg"] is None and self.normals["focal_px"] is None

    def of_photo(self, fov_deg: float | None) -> "ViewOptions":
        """These for one photograph, whose EXIF tells a field of view or, with None, does not."""
        if not self.takes_fov_of_photo:
            return self
        return replace(self, normals={**self.normals, "fov_deg": _usual_fov() if fov_deg is None else fov_deg})


def add_view_arguments(output: argparse._ArgumentGroup) -> None:
    """The options that `view_options` reads."""
    colormap = default_of(colorize, "colormap")
    output.add_argument(
        "--colormap", choices=tuple(COLORMAPS), default=colormap, help=f"of color (default: {colormap})"
    )
    output.add_argument("--invert", action="store_true", help="depth16 and color: near and far change places")
    _add_range_arguments(output, DisplayLimits())
    _add_normal_arguments(output)


def _add_range_arguments(output: argparse._ArgumentGroup, limits: DisplayLimits) -> None:
    output.add_argument(
        "--normalization",
        choices=tuple(NORMALIZATIONS),
        default="per-image",
        help="color: from where to where the colors go; fixed-range keeps those of a video steady (default: per-image)",
    )
    output.add_argument(
        "--percentiles",
        type=float,
        nargs=2,
        metavar=("LOW", "HIGH"),
        help=f"of --normalization percentile (default: {limits.low_percentile:g} {limits.high_percentile:g})",
    )
    output.add_argument(
        "--range",
        type=float,
        nargs=2,
        metavar=("NEAREST", "FARTHEST"),
        help="of --normalization fixed-range: log depth, which goes from about -1 to 1 "
        f"(default: {limits.nearest:g} {limits.farthest:g})",
    )


def _add_normal_arguments(output: argparse._ArgumentGroup) -> None:
    names = ("convention", "strength", "smoothing")
    convention, strength, smoothing = (default_of(predicted_normals, name) for name in names)
    camera = output.add_mutually_exclusive_group()
    camera.add_argument(
        "--fov",
        type=float,
        metavar="DEG",
        help="normals and ply: the camera's horizontal field of view in degrees; needed for a photograph that was "
        f"cropped or stitched after it was taken (default: as its EXIF tells, else {_usual_fov():g})",
    )
    camera.add_argument("--focal", type=float, metavar="PX", help="normals and ply: focal length, in place of --fov")
    output.add_argument(
        "--normal-convention",
        choices=tuple(CONVENTIONS),
        default=convention,
        help=f"normals: y up (opengl), y down (directx), or x left and y up (controlnet) (default: {convention})",
    )
    output.add_argument(
        "--normal-strength",
        type=float,
        default=strength,
        metavar="FACTOR",
        help=f"normals: above 1 for more relief (default: {strength:g}, true normals)",
    )
    output.add_argument(
        "--normal-smoothing",
        type=float,
        default=smoothing,
        metavar="PX",
        help="normals: sigma over which slopes are averaged within surfaces, whose edges stay; for nano about the "
        f"picture's short side divided by 56 (default: {smoothing:g})",
    )


def view_options(args: argparse.Namespace) -> ViewOptions:
    """What the command line says of the views.

    Raises:
        ValueError: for a number out of range, or of another normalization than is chosen, before any picture is
            estimated.
    """
    normals = {
        "fov_deg": args.fov,
        "focal_px": args.focal,
        "strength": args.normal_strength,
        "smoothing": args.normal_smoothing,
        "convention": args.normal_convention,
    }
    try:
        limits = _limits(args)
        options = ViewOptions(args.colormap, args.invert, NORMALIZATIONS[args.normalization], limits, normals)
        wall = DepthPrediction.from_log_depth(torch.zeros(1, 1, 2, 2), torch.zeros(1, 1, 2, 2))
        normalize_depth(wall, options.normalization, limits)
        predicted_normals(wall, **options.of_photo(None).normals)
    except ValueError as error:
        raise as_typed(error, _OPTIONS) from error
    return options


def _usual_fov() -> float:
    return default_of(predicted_normals, "fov_deg")


def _limits(args: argparse.Namespace) -> DisplayLimits:
    usual = DisplayLimits()
    ends = {"percentiles": (usual.low_percentile, usual.high_percentile), "range": (usual.nearest, usual.farthest)}
    for option, normalization in (("percentiles", "percentile"), ("range", "fixed-range")):
        given = getattr(args, option)
        if given is None:
            continue
        if args.normalization != normalization:  # the colors of a video that were to be steady would flicker
            raise ValueError(f"--{option} is for --normalization {normalization}; add that, or leave out --{option}.")
        ends[option] = given
    return DisplayLimits(*ends["percentiles"], *ends["range"])
