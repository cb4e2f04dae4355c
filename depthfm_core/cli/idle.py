"""Options of `predict` that change nothing beside the others that were given, so that nobody waits for their effect."""

import argparse
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .arguments import ESTIMATION_OPTIONS, add_estimation_arguments
from .views import OF_CAMERA, add_view_arguments


class Idle(NamedTuple):
    """Some options, by their names in the parsed arguments, when they are idle, and that in words."""

    options: tuple[str, ...]
    when: Callable[[argparse.Namespace], bool]
    words: str


def _not_saving(*kinds: str) -> Callable[[argparse.Namespace], bool]:
    return lambda args: not set(kinds) & set(args.save)


_ADAPTIVE = ("rtol", "atol", "max_steps")
_COMBINING = ("reduction", "average", "align_members", "members_at_once")
_OF_NOISE = ("seed", "ensemble_size", "noise_per_image")
_OF_NORMALS = ("normal_convention", "normal_strength", "normal_smoothing")
IDLE = (
    Idle(("rho",), lambda args: args.grid != "rho", "without --grid rho"),
    Idle(_ADAPTIVE, lambda args: args.solver != "dopri5", "without --solver dopri5"),
    Idle(("grid",), lambda args: args.solver == "dopri5", "with --solver dopri5"),
    Idle(("members_at_once",), lambda args: args.solver == "dopri5" and args.ensemble_size > 1, "with --solver dopri5"),
    Idle(_COMBINING, lambda args: args.ensemble_size == 1, "without --ensemble 2 or more"),
    Idle(_OF_NOISE, lambda args: args.noising_step == 0, "with --noising-step 0"),
    Idle(("colormap", "normalization"), _not_saving("color"), "without color in --save"),
    Idle(("invert",), _not_saving("color", "depth16"), "without color or depth16 in --save"),
    Idle(("fov", "focal"), _not_saving(*OF_CAMERA), "without normals or ply in --save"),
    Idle(_OF_NORMALS, _not_saving("normals"), "without normals in --save"),
)


def idle_options(args: argparse.Namespace, num_pictures: int) -> Iterator[str]:
    """A sentence for each option of `predict` that has another value than its default and no effect."""
    defaults = _defaults()
    for options, when, words in IDLE:
        for name in options:
            if when(args) and getattr(args, name) != getattr(defaults, name):
                yield f"{_option(name)} changes nothing {words}."
    if args.noise_per_image and num_pictures == 1 and args.noising_step != 0:
        yield f"{_option('noise_per_image')} changes nothing with one picture."
    if args.recursive and not any(path.is_dir() for path in args.inputs):
        yield "--recursive changes nothing without a folder."


def _defaults() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    add_estimation_arguments(parser)
    add_view_arguments(parser.add_argument_group())
    return parser.parse_args([])


def _option(name: str) -> str:
    return ESTIMATION_OPTIONS[name][0] if name in ESTIMATION_OPTIONS else f"--{name.replace('_', '-')}"
