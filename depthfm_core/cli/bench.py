"""`bench`: seconds of each stage, memory and accuracy of each way of estimating, beside what the machine can do."""

import argparse
import importlib.util
import re
from collections.abc import Callable
from itertools import product
from pathlib import Path

from ..bench.measure import Case, Subject
from ..bench.model import RANDOM_MODELS, model_files
from ..bench.plot import write_plot
from ..bench.report import report, table
from ..bench.run import BenchSettings, run_bench
from ..bench.ways import WAYS, choose_ways
from ..loading import usable_device
from ..model.catalog import MODELS
from ..replacing import write_json
from ..resize import MAX_SIDE_PX
from ..settings import EstimationSettings
from .arguments import add_device_argument, default_of
from .errors import BAD_INPUT

# Option -> whose field it is, its name there, the least that it may be, and what it is.
_EFFORT = {
    "--rounds": (BenchSettings, "rounds", 1, "how often everything is measured"),
    "--warmups": (Subject, "warmups", 0, "estimations before the timed one"),
    "--threads": (Subject, "threads", 0, "of PyTorch; 0 = its own choice"),
    "--ceiling-side": (BenchSettings, "ceiling_side", 16, "of the matrices that tell the machine's ceiling"),
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    width = max(map(len, WAYS))
    ways = "\n".join(f"  {name:{width}}  {way.summary}" for name, way in WAYS.items())
    parser.epilog = f"ways:\n{ways}"
    parser.add_argument("--output", type=Path, required=True, metavar="DIR", help="for bench.json, bench.png, weights")
    parser.add_argument(
        "--model",
        default="full",
        metavar="MODEL",
        help=f"random weights: {', '.join(RANDOM_MODELS)}; or {', '.join(MODELS)}, a file or a folder (default: full)",
    )
    parser.add_argument("--vae", metavar="VAE", help="file or folder of its autoencoder (default: the model's own)")
    parser.add_argument(
        "--ways", type=_names, metavar="LIST", help="of the ways below (default: all that can run here)"
    )
    parser.add_argument(
        "--sizes",
        type=_sizes,
        default="512x512",
        metavar="LIST",
        help="HEIGHTxWIDTH in pixels; own: the example picture at the model's own resolution (default: 512x512)",
    )
    steps = EstimationSettings().num_steps
    parser.add_argument("--steps", type=_numbers, default=str(steps), metavar="LIST", help=f"default: {steps}")
    parser.add_argument("--members", type=_numbers, default="4", metavar="LIST", help="of the ensemble (default: 4)")
    _add_effort_arguments(parser)


def _add_effort_arguments(parser: argparse.ArgumentParser) -> None:
    add_device_argument(parser)
    for option, (owner, name, least, what) in _EFFORT.items():
        default = default_of(owner, name)
        parser.add_argument(
            option, dest=name, type=_at_least(least), default=default, metavar="N", help=f"{what} (default: {default})"
        )
    parser.add_argument(
        "--in-process",
        action=argparse.BooleanOptionalAction,
        help="keep all ways loaded in one process: quick, but then only a GPU's memory can be told (default: on CUDA)",
    )
    parser.add_argument("--no-cold", dest="cold", action="store_false", help="leave out the cold start of predict")


def run(args: argparse.Namespace) -> int:
    """Measures, writes bench.json and bench.png, prints the table; 0, or 2 when some way or the cold start failed.

    Raises:
        ValueError, OSError: for an option or a model that cannot be used, before anything is measured.
    """
    settings = _settings(args)
    results = run_bench(settings, lambda so_far: write_json(args.output / "bench.json", report(settings, so_far)))
    content = report(settings, results)
    print(table(content))
    if importlib.util.find_spec("matplotlib") is None:
        print("No bench.png without the package matplotlib.")
    elif any(content["summary"].values()):
        write_plot(content["summary"], args.output / "bench.png")
    return BAD_INPUT if results.failed else 0


def _settings(args: argparse.Namespace) -> BenchSettings:
    """What the options ask for; writes random weights where these are asked for and not there yet."""
    device = str(usable_device(args.device))
    ways = choose_ways(args.ways, device)
    alone = not (device.startswith("cuda") if args.in_process is None else args.in_process)
    cases = [Case(*size, *rest) for size, *rest in product(args.sizes, args.steps, args.members)]
    args.output.mkdir(parents=True, exist_ok=True)
    files = model_files(args.model, args.vae, args.output, device)
    subject = Subject(files, device, args.threads, args.warmups, alone)
    return BenchSettings(subject, ways, cases, args.rounds, args.ceiling_side, args.cold)


def _names(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(part.strip() for part in text.split(",")))


def _numbers(text: str) -> tuple[int, ...]:
    """`--steps` and `--members`."""
    return tuple(_at_least(1)(part) for part in _names(text))


def _sizes(text: str) -> tuple[tuple[int | None, int | None], ...]:
    """`--sizes`, as (height, width) each, or (None, None) for "own"."""
    return tuple((None, None) if part == "own" else _size(part) for part in _names(text))


def _size(text: str) -> tuple[int, int]:
    found = re.fullmatch(r"(\d+)x(\d+)", text)
    if not found or not all(1 <= int(side) <= MAX_SIDE_PX for side in found.groups()):
        raise argparse.ArgumentTypeError(
            f"{text!r} is no size; give HEIGHTxWIDTH in pixels, 1 to {MAX_SIDE_PX}, for example 512x768, or own"
        )
    return int(found[1]), int(found[2])


def _at_least(least: int) -> Callable[[str], int]:
    def number(text: str) -> int:
        if not text.isdecimal() or int(text) < least:
            raise argparse.ArgumentTypeError(f"{text!r} is not a whole number of at least {least}")
        return int(text)

    return number
