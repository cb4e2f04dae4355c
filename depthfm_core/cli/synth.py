"""`synth`: render synthetic RGB-D frames into a folder, going on where an earlier run stopped."""

import argparse
from pathlib import Path

from tqdm import tqdm


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("out", type=Path, metavar="OUT", help="folder for the frames; made if missing")
    parser.add_argument("--count", type=int, default=100, help="number of frames (default: 100)")
    parser.add_argument(
        "--seed", type=int, default=0, help="seed of the first frame; the next ones count up (default: 0)"
    )
    parser.add_argument(
        "--size", type=int, nargs=2, default=(192, 256), metavar=("H", "W"), help="pixels (default: 192 256)"
    )
    parser.add_argument("--workers", type=int, default=1, help="processes; the frames stay the same (default: 1)")
    parser.add_argument("--antialias", action="store_true", help="2x2 rays a pixel in the picture, about 3x slower")


def run(args: argparse.Namespace) -> int:
    """Writes the frames that are not there yet and returns 0; ValueError for counts below 1 or a bad size."""
    from ..data.synthetic import write_frames

    if args.count < 1 or args.workers < 1:
        raise ValueError(f"--count and --workers must be at least 1; got {args.count} and {args.workers}.")
    seeds = range(args.seed, args.seed + args.count)
    frames = write_frames(args.out, seeds, tuple(args.size), antialias=args.antialias, workers=args.workers)
    for _ in tqdm(frames, total=args.count, unit="frame"):
        pass
    return 0
