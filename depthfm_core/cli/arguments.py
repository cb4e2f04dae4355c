"""Options of every command that estimates depth: which model, and how to estimate.

Defaults are read off the code that uses them, and choices off its tables, so that they stand in one place.
"""

import argparse
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields

from ..backends.choice import BACKENDS
from ..checks import is_below_one_cell
from ..flow import GRIDS, REDUCTIONS, SOLVERS
from ..loading import chosen_device, load_pipeline
from ..model.attention import ATTENTIONS
from ..model.catalog import MODELS
from ..model.precision import DTYPES
from ..pipeline import DepthFMPipeline
from ..settings import AVERAGES, EstimationSettings
from ..share import ALL, Share

# Field of EstimationSettings -> its option and how argparse reads it.
ESTIMATION_OPTIONS = {
    "num_steps": ("--steps", {"type": int, "metavar": "N", "help": "solver steps"}),
    "solver": ("--solver", {"choices": tuple(SOLVERS), "help": "how the path is followed; dopri5 is adaptive"}),
    "grid": ("--grid", {"choices": GRIDS, "help": "how the steps are spaced; rho makes them shrink towards depth"}),
    "rho": ("--rho", {"type": float, "metavar": "X", "help": "exponent of --grid rho"}),
    "rtol": ("--rtol", {"type": float, "metavar": "X", "help": "relative tolerance of --solver dopri5"}),
    "atol": ("--atol", {"type": float, "metavar": "X", "help": "absolute tolerance of --solver dopri5"}),
    "max_steps": ("--max-steps", {"type": int, "metavar": "N", "help": "most steps that --solver dopri5 may try"}),
    "ensemble_size": ("--ensemble", {"type": int, "metavar": "E", "help": "runs from different noise, combined"}),
    "reduction": ("--reduction", {"choices": tuple(REDUCTIONS), "help": "how the runs are combined"}),
    "average": (
        "--average",
        {"choices": AVERAGES, "help": "what the runs are combined as; latents needs one decode, and is approximate"},
    ),
    "align_members": (
        "--no-align",
        {"action": "store_false", "help": "combine the runs as they are, not fitted to each other by scale and shift"},
    ),
    "seed": ("--seed", {"type": int, "metavar": "K", "help": "chooses the noise"}),
    "noise_per_image": (
        "--noise-per-image",
        {"action": "store_true", "help": "picture i gets the noise of seed + i; otherwise all get the same"},
    ),
    "noising_step": (
        "--noising-step",
        {"type": int, "metavar": "S", "help": "noise mixed into the source, 0 (none) to 999"},
    ),
    "processing_resolution": (
        "--resolution",
        {
            "type": int,
            "metavar": "R",
            "help": "short side in pixels that the network sees, or the whole step of it that is near (nano: 32, the "
            "published model: 64), at least one step; 0 = the picture's own size, with which nano takes "
            "0.8 GB of memory a megapixel",
        },
    ),
    "sharpen_edges": (
        "--sharpen-edges",
        {
            "action": argparse.BooleanOptionalAction,
            "help": "move the edges of the depth onto those of the picture (default: the model's own; yes for nano, no "
            "for the published model)",
        },
    ),
    "members_at_once": (
        "--members-at-once",
        {"type": int, "metavar": "N", "help": "runs computed at a time; 0 = as many as memory allows"},
    ),
}


def default_of(function: Callable, parameter: str) -> object:
    """The default of a function's parameter."""
    return inspect.signature(function).parameters[parameter].default


def add_estimation_arguments(parser: argparse.ArgumentParser, without: Sequence[str] = ()) -> None:
    """An option for every field of `EstimationSettings` but some, which then keep their defaults."""
    group = parser.add_argument_group("estimation")
    defaults = EstimationSettings()
    for name in without:
        parser.set_defaults(**{name: getattr(defaults, name)})
    for name, (option, how) in ESTIMATION_OPTIONS.items():
        if name in without:
            continue
        default = getattr(defaults, name)
        shown = "the model's own" if default is None else default
        if "action" not in how:
            how = how | {"help": f"{how['help']} (default: {shown})"}
        group.add_argument(option, dest=name, default=default, **how)


def estimation_settings(args: argparse.Namespace) -> EstimationSettings:
    """The settings that the options ask for.

    Raises:
        ValueError: for a value outside its range, before any model is loaded.
    """
    try:
        return EstimationSettings(**{field.name: getattr(args, field.name) for field in fields(EstimationSettings)})
    except ValueError as error:
        raise as_typed(error, {name: option for name, (option, _) in ESTIMATION_OPTIONS.items()}) from error


def as_typed(error: ValueError, options: Mapping[str, str]) -> ValueError:
    """The error with an option in place of what it begins with: the library's name for it -> the option."""
    text = str(error)
    name = next((name for name in options if text.startswith(f"{name} ")), "")
    return ValueError(options.get(name, "") + text.removeprefix(name))


def add_model_arguments(parser: argparse.ArgumentParser) -> None:
    """Which model, and where and how precisely it computes: the arguments of `load_pipeline`."""
    model = default_of(load_pipeline, "model")
    parser.add_argument_group("model").add_argument(
        "--model", default=model, metavar="MODEL", help=f"{', '.join(MODELS)}, a file or a folder (default: {model})"
    )
    add_loading_arguments(parser)
    parser.add_argument(
        "--compile",
        action="store_true",
        help="compile the networks, for GPUs: minutes at the first picture of each of the 15 shapes that are padded to",
    )


def add_loading_arguments(parser: argparse.ArgumentParser) -> None:
    """How a DepthFM is loaded, whichever it is: the arguments of `load_pipeline` but the model."""
    group = parser.add_argument_group("loading")
    dtype, attention, backend = (default_of(load_pipeline, name) for name in ("dtype", "attention", "backend"))
    group.add_argument(
        "--vae",
        metavar="VAE",
        help="file or folder of a Stable Diffusion 1.x/2.x autoencoder (default: the model's own)",
    )
    add_device_argument(group)
    group.add_argument(
        "--dtype", default=dtype, choices=tuple(DTYPES), help=f"precision of the networks (default: {dtype})"
    )
    group.add_argument(
        "--decoder",
        metavar="DECODER",
        help="file or folder of a tiny decoder (TAESD) to decode with: faster, less exact (default: the autoencoder)",
    )
    group.add_argument(
        "--attention",
        default=attention,
        choices=ATTENTIONS,
        help=f"rescaled gives the numbers of the authors' code without xformers (default: {attention})",
    )
    group.add_argument(
        "--backend",
        default=backend,
        choices=BACKENDS,
        help=f"what computes on a CPU; auto takes openvino where it is installed and faster (default: {backend})",
    )


def add_device_argument(parser: argparse._ActionsContainer) -> None:
    """`--device`, for `chosen_device`."""
    parser.add_argument(
        "--device", default="auto", metavar="DEVICE", help="auto (cuda, else mps, else cpu), cpu, cuda, cuda:1 or mps"
    )


def add_shard_argument(parser: argparse.ArgumentParser, things: str) -> None:
    """`--shard`, the share of the things that this run is for."""
    parser.add_argument(
        "--shard",
        type=_shard,
        default=ALL,
        metavar="I/N",
        help=f"the I-th of N parts of the {things}, I from 1 to N, for runs side by side (default: 1/1)",
    )


def _shard(text: str) -> Share:
    """`--shard`."""
    index, slash, count = text.partition("/")
    if not (slash and index.isdecimal() and count.isdecimal() and 1 <= int(index) <= int(count)):
        raise argparse.ArgumentTypeError(f"{text!r} is no part; choose 1/N to N/N, for example 2/4")
    return Share(int(index) - 1, int(count))


def pipeline_from(args: argparse.Namespace) -> DepthFMPipeline:
    """The pipeline that the options of `add_model_arguments` ask for.

    Raises:
        ValueError: as `load_pipeline`, or for a `--resolution` that the model refuses, once for all pictures.
    """
    pipeline = load_pipeline(
        args.model,
        args.vae,
        chosen_device(args.device),
        args.dtype,
        args.attention,
        args.backend,
        args.decoder,
        compile=args.compile,
    )
    resolution = getattr(args, "processing_resolution", None)
    if resolution and is_below_one_cell(resolution, pipeline.multiple):
        raise ValueError(
            f"--resolution {resolution} is less than one cell of the network; choose {pipeline.multiple} or more, 0 "
            "for the picture's own size, or leave it out."
        )
    return pipeline
