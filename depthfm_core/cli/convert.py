"""`convert`: a checkpoint of any layout to our one layout."""

import argparse
from pathlib import Path

from ..model.catalog import MODELS, find_model
from ..model.checkpoints import SAVE_DTYPES, convert
from .arguments import default_of


def add_arguments(parser: argparse.ArgumentParser) -> None:
    dtype = default_of(convert, "dtype")
    parser.add_argument("source", metavar="SOURCE", help=f"a file, a folder, or one of {', '.join(MODELS)}")
    parser.add_argument("target", type=Path, metavar="TARGET", help="the file to write, NAME.safetensors")
    parser.add_argument(
        "--dtype", choices=tuple(SAVE_DTYPES), default=dtype, help=f"precision of the weights (default: {dtype})"
    )


def run(args: argparse.Namespace) -> int:
    """Writes the file and returns 0; ValueError for a folder that is not there, and as `model.checkpoints.convert`."""
    source, _ = find_model(args.source)
    if not args.target.parent.is_dir():
        raise ValueError(f"{args.target.parent} is no folder; make it, or name another target.")
    convert(source, args.target, args.dtype)
    print(f"{args.target} ({args.target.stat().st_size / 1e6:.1f} MB, {args.dtype})")
    return 0
