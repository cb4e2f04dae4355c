"""`precompute`: the latents of a recipe ahead of its training, on as many processes and machines as there are."""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from ..loading import usable_device
from ..share import this_share
from . import import_networks
from .arguments import add_device_argument, add_shard_argument
from .recipes import add_recipe_argument, find_recipe

if TYPE_CHECKING:
    from ..training.recipe import Recipe


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_argument(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for all results, as of train")
    parser.add_argument(
        "--latents", nargs="+", metavar="NAME", help="which of the recipe's [latents.NAME] (default: all of them)"
    )
    add_shard_argument(parser, "files of latents")
    add_device_argument(parser)


def run(args: argparse.Namespace) -> int:
    """Writes the latents that are not there yet and returns 0.

    Raises:
        ValueError: for an unusable recipe, device or autoencoder before any work, and for a frame that cannot be read,
            after which the finished files stay.
        OSError: for what cannot be written.
    """
    path = find_recipe(args.recipe)
    import_networks(args)
    from ..training.places import latents_folder
    from ..training.recipe import read_recipe
    from ..training.record import write_record
    from ..training.stages import prepare_frames, prepare_latents

    recipe = read_recipe(path)
    if recipe.frames.stream:
        raise ValueError("[frames.stream] makes latents while it trains; there are none to make before. Run `train`.")
    names = _chosen(recipe, args.latents)
    share = replace(this_share(), outer=args.shard)  # first, because it decides which GPU "cuda" is
    device = usable_device(args.device)
    prepare_frames(recipe, args.output, share)
    for name in names:
        write_record(recipe, args.output, f"latents.{name}")  # the shards are compared by what they say themselves
    planned = {name: prepare_latents(recipe, args.output, name, share, device) for name in names}
    share.wait()
    if share.is_first:
        for name, count in planned.items():
            print(_report(latents_folder(args.output, name), count))
    return 0


def _chosen(recipe: "Recipe", names: list[str] | None) -> list[str]:
    unknown = [name for name in names or () if name not in recipe.latents]
    if unknown:
        raise ValueError(f"The recipe has no latents {', '.join(unknown)}; it has {', '.join(recipe.latents)}.")
    return names or list(recipe.latents)


def _report(folder: Path, planned: int) -> str:
    """What is there: of all machines, as far as they have come."""
    from ..training.shards import find_shards, open_shard

    shards = [open_shard(path) for path in find_shards(folder)]
    views, size = sum(map(len, shards)), sum(shard.path.stat().st_size for shard in shards)
    each = f", {size / views:,.0f} bytes a view" if views else ""
    return f"{folder}: {len(shards)} of {planned} shards, {views} views, {size:,} bytes{each}"
