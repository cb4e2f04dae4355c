"""`train`: run a training recipe, or one stage of it, going on where an earlier run stopped."""

import argparse
import logging
import sys
from contextlib import suppress
from functools import partial
from pathlib import Path

from . import import_networks
from .recipes import add_recipe_argument, find_recipe, may_train_lora


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_recipe_argument(parser)
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="folder for all results")
    parser.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="at most N steps a training, to see if the recipe runs; docs/training.md: what to delete then",
    )
    parser.add_argument("--stage", metavar="NAME", help="run one stage only: frames, autoencoder, latents.NAME, ...")


def run(args: argparse.Namespace) -> int:
    """Runs the recipe and returns 0; ValueError for an unusable recipe or stage."""
    path = find_recipe(args.recipe)
    if not may_train_lora(path):
        import_networks(args)
    from ..replacing import write_text
    from ..share import this_share
    from ..training.recipe import read_recipe, read_recipe_text, shorten
    from ..training.stages import run_recipe

    recipe, text = read_recipe(path), read_recipe_text(path)
    if args.steps is not None:
        recipe = shorten(recipe, args.steps)
    args.output.mkdir(parents=True, exist_ok=True)
    logger = logging.getLogger(__package__.partition(".")[0])
    logger.setLevel(logging.INFO)
    log = _log_file(args.output / "train.log") if this_share().is_first else logging.NullHandler()
    warned = logging.StreamHandler()
    warned.setLevel(logging.WARNING)
    logger.addHandler(log)
    logger.addHandler(warned)
    try:
        run_recipe(recipe, args.output, args.stage, partial(write_text, args.output / "recipe.toml", text))
    finally:
        logger.removeHandler(log)
        logger.removeHandler(warned)
        with suppress(OSError):  # of a full disk, which has ended the run already
            log.close()
    return 0


class _LogFile(logging.FileHandler):
    """Lets an error of writing end the run with a sentence, where logging would show a traceback and go on."""

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002 (logging's name)
        """Raises OSError; called while another one is handled."""
        error = sys.exc_info()[1]
        raise OSError(f"{self.baseFilename} cannot be written ({error}); free some space, then go on.") from error


def _log_file(path: Path) -> logging.Handler:
    """Writes what is logged, with its time, at the end of a file."""
    log = _LogFile(path, encoding="utf-8")
    log.setFormatter(logging.Formatter("%(asctime)s %(message)s"))
    return log
