"""Options of the commands that run any method of `evaluation.baselines`, ours or a compared one."""

import argparse
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import fields

from ..evaluation.baselines import MethodOptions, find_method
from ..evaluation.baselines.depthfm import DEPTHFM
from ..evaluation.baselines.geowizard import DEFAULT_DOMAIN, DOMAINS
from ..evaluation.baselines.sanity import SANITY
from ..loading import chosen_device, load_pipeline, takes_another_autoencoder
from ..model.catalog import MODELS, find_model
from ..model.fingerprint import fingerprint
from ..settings import EstimationSettings
from . import import_networks
from .arguments import (
    ESTIMATION_OPTIONS,
    add_estimation_arguments,
    add_loading_arguments,
    default_of,
    estimation_settings,
)

# Option -> field of `MethodOptions`, for methods that are no DepthFM.
BASELINE_OPTIONS = {
    "baseline_steps": "num_steps",
    "baseline_ensemble": "ensemble_size",
    "domain": "domain",
    "focal_px": "focal_px",
}
# Fields of `EstimationSettings` for pictures that have a number, while methods measure them in any order.
UNNUMBERED = ("noise_per_image",)
# Arguments of `load_pipeline` that are fields of `MethodOptions` under the same name.
LOADING_OPTIONS = ("vae", "dtype", "attention", "backend", "decoder")


def add_method_arguments(parser: argparse.ArgumentParser) -> None:
    """How methods are loaded and run: an option for whatever one of them takes."""
    parser.add_argument("--baseline-steps", type=int, metavar="N", help="denoising steps of a diffusion baseline")
    parser.add_argument("--baseline-ensemble", type=int, metavar="E", help="ensemble of a diffusion baseline")
    domain = (
        f"what GeoWizard is told of every picture (default: what a benchmark's data set says, else {DEFAULT_DOMAIN})"
    )
    parser.add_argument("--domain", choices=tuple(DOMAINS), help=domain)
    focal = "focal length that Metric3D is told, in pixels of the picture as it is handed to it"
    parser.add_argument("--focal-px", type=float, metavar="F", help=focal)
    add_loading_arguments(parser)
    add_estimation_arguments(parser, without=UNNUMBERED)


def check_method_arguments(models: Sequence[str], args: argparse.Namespace) -> dict[str, set[str]]:
    """Which fields of `MethodOptions` each model takes; refuses an option that none does, and numbers that are none.

    Raises:
        ValueError: naming the option, and the models that do not take it.
    """
    if args.focal_px is not None and not 0 < args.focal_px < math.inf:
        raise ValueError(f"--focal-px is {args.focal_px}; give a positive number of pixels, or leave it out.")
    for name in ("baseline_steps", "baseline_ensemble"):
        if getattr(args, name) is not None and getattr(args, name) < 1:
            option = f"--{name.replace('_', '-')}"
            raise ValueError(f"{option} is {getattr(args, name)}; choose 1 or more, or leave it out.")
    taken = {model: _options_of(model, args) for model in models}
    by_any = set().union(*taken.values())
    for option, belongs_to in _chosen(args):
        if by_any.isdisjoint(belongs_to):
            raise ValueError(f"None of {', '.join(models)} takes {option}; leave it out.")
    return taken


def import_methods(models: Sequence[str], args: argparse.Namespace) -> None:
    """Imports what the methods need, the quick way, where that is our networks and nothing of others.

    Args:
        models: as `find_method` takes them.
        args: the command's.
    """
    names = {find_method(model)[0] for model in models}
    if names & {*DEPTHFM} and names <= {*DEPTHFM, *SANITY}:
        import_networks(args)


def _options_of(model: str, args: argparse.Namespace) -> set[str]:
    """The fields of `MethodOptions` that a method takes; a DepthFM with latents of its own takes no autoencoder."""
    _, card, weights = find_method(model)
    options = set(card.options)
    if "vae" in options and (args.vae or args.decoder) and not takes_another_autoencoder(weights):
        options -= {"vae", "decoder"}
    return options


def _chosen(args: argparse.Namespace) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The options that differ from their defaults, each with the fields of `MethodOptions` that it belongs to."""
    for name, field in BASELINE_OPTIONS.items():
        if getattr(args, name) is not None:
            yield f"--{name.replace('_', '-')}", (field,)
    for name in LOADING_OPTIONS:
        if getattr(args, name) != default_of(load_pipeline, name):
            yield f"--{name}", (name,)
    for name, (option, _) in ESTIMATION_OPTIONS.items():
        if name not in UNNUMBERED and getattr(args, name) != getattr(EstimationSettings(), name):
            yield option, ("settings", "seed") if name == "seed" else ("settings",)


def method_options(
    args: argparse.Namespace, taken: Collection[str], processing_resolution: int | None = None
) -> MethodOptions:
    """What of the command line a method takes.

    Args:
        args: of `add_method_arguments`.
        taken: by the method, as `check_method_arguments` found.
        processing_resolution: see `MethodOptions`; for methods that take it.
    """
    chosen = {field: getattr(args, option) for option, field in BASELINE_OPTIONS.items()}
    chosen |= {name: getattr(args, name) for name in LOADING_OPTIONS}
    settings = chosen["settings"] = estimation_settings(args)
    chosen["seed"] = None if settings.seed == EstimationSettings().seed else settings.seed  # else the method's own
    chosen["processing_resolution"] = processing_resolution
    return MethodOptions(chosen_device(args.device), **{name: chosen[name] for name in chosen if name in taken})


def changed_options(options: MethodOptions) -> dict[str, object]:
    """What of a method's options differs from the defaults, but for the device; fields of `settings` among them."""
    given = {field.name: getattr(options, field.name) for field in fields(options)}
    del given["device"]
    settings = given.pop("settings") or EstimationSettings()
    changed = {name: value for name, value in vars(settings).items() if value != getattr(EstimationSettings(), name)}
    usual = {name: default_of(load_pipeline, name) for name in LOADING_OPTIONS}
    return changed | {name: value for name, value in given.items() if value is not None and value != usual.get(name)}


def files_beside(model: str, options: MethodOptions) -> dict[str, dict[str, str]]:
    """What a run's settings say of the files beside the weights that its results depend on; nothing without any.

    Under "beside", the `fingerprint` of the autoencoder and of the tiny decoder.

    Args:
        model: as `find_method` takes it.
        options: as `method_options` gives them.
    """
    weights = find_method(model)[2]
    own = find_model(weights)[1] if weights in MODELS else None
    files = {"vae": options.vae or own, "decoder": options.decoder}
    found = {name: fingerprint(str(file)) for name, file in files.items() if file}
    return {"beside": found} if found else {}
