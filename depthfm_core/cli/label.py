"""`label`: pseudo-depth for a folder of photographs by a teacher, as a data set to train on.

A photograph that cannot be read or estimated is reported and the others go on; the exit code tells.
"""

import argparse
import sys
from dataclasses import asdict
from pathlib import Path

from tqdm import tqdm

from ..bench.machine import installed_versions
from ..data.photos import describe_unread, photos_in
from ..evaluation.baselines import GIVES, METHODS, Method, find_method, load_method
from ..evaluation.table import open_folder
from ..model.fingerprint import fingerprint
from ..replacing import is_same, write_json
from ..share import this_share
from ..training.teacher import RULES, choose_range, estimate_depth, is_labeled, read_as_stored, write_label
from .arguments import add_shard_argument
from .errors import BAD_INPUT, USER_ERRORS, sentence
from .methods import add_method_arguments, check_method_arguments, files_beside, import_methods, method_options

LABELS_FILE = "labels.json"
LONG_SIDE_PX = 1024
# What a teacher may be run by; those that are installed are recorded.
_PACKAGES = ("depthfm", "torch", "diffusers", "transformers", "onnxruntime", "timm")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="photographs, also in the folders inside")
    parser.add_argument(
        "--teacher",
        required=True,
        metavar="NAME[=PATH]",
        help=f"one of {', '.join(METHODS)}; PATH: where its weights are; or a DepthFM checkpoint's path",
    )
    parser.add_argument(
        "--output", type=Path, required=True, metavar="DIR", help="for NAME.jpg.png, NAME.jpg.npy, labels.json"
    )
    parser.add_argument(
        "--long-side",
        type=int,
        default=LONG_SIDE_PX,
        metavar="PX",
        help=f"larger photographs are made smaller to this; 0 = never (default: {LONG_SIDE_PX})",
    )
    defaults = ", ".join(f"{rule.dynamic_range:g} for {gives}" for gives, rule in RULES.items() if rule.dynamic_range)
    parser.add_argument(
        "--range",
        type=float,
        metavar="R",
        help="farthest / nearest depth, for a teacher that leaves ratios open; see docs/labels.md "
        f"(default: {defaults})",
    )
    add_shard_argument(parser, "photographs")
    add_method_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Labels what is not labeled yet; 0, or 2 when some photograph could not be.

    Raises:
        ValueError, OSError: for an option, folder or teacher that cannot be used, before anything is labeled, and for
            what cannot be written.
    """
    photos = _find_photos(args)
    taken = check_method_arguments([args.teacher], args)
    share = this_share()  # first: from here on "cuda" is this process's own GPU
    options = method_options(args, taken[args.teacher])
    import_methods([args.teacher], args)
    method = load_method(args.teacher, options)
    settings = {
        "root": str(args.folder.resolve()),
        "teacher": args.teacher,
        "weights": fingerprint(find_method(args.teacher)[2]),
        **files_beside(args.teacher, options),
        "options": {name: value for name, value in asdict(options).items() if value is not None and name != "device"},
        "gives": method.gives,
        "sharpened": bool(method.made_with.get("sharpen_edges")),
        "rule": RULES[method.gives].text,
        "dynamic_range": choose_range(method.gives, args.range),
        "long_side_px": args.long_side,
    }
    open_folder(args.output, settings)
    failures = _label(method, share.part(args.shard.part(photos)), args)
    share.wait()
    if share.is_first:
        _report(args.output, settings, photos)
    share.wait()  # torchrun ends all processes when one ends with an error
    return BAD_INPUT if failures else 0


def _find_photos(args: argparse.Namespace) -> list[Path]:
    """The photographs' paths below the folder, after what would go wrong with it and with the output."""
    if not args.folder.is_dir():
        raise ValueError(f"{args.folder} is no folder; name a folder of photographs.")
    output = args.output.resolve()
    if any(is_same(folder, args.folder) for folder in (output, *output.parents)):
        raise ValueError(
            f"--output {args.output} lies in the folder of the photographs, where the labeled pictures would be taken "
            "for photographs the next time; name another folder."
        )
    if args.long_side < 0:
        raise ValueError(f"--long-side is {args.long_side}; choose a number of pixels, or 0 for the pictures' own.")
    photos = [path.relative_to(args.folder) for path in photos_in(args.folder, below=True)]
    if unread := describe_unread(args.folder, below=True):
        tqdm.write(f"depthfm: {unread}", file=sys.stderr)
    return photos


def _label(method: Method, photos: list[Path], args: argparse.Namespace) -> int:
    """Labels the photographs that are not labeled yet; how many could not be."""
    failures = 0
    for photo in tqdm(photos, unit="image", disable=None):
        name = photo.as_posix()
        if is_labeled(args.output, name):
            continue
        try:
            image = read_as_stored(args.folder / photo, args.long_side)
            depth = estimate_depth(method, image, args.range)
        except USER_ERRORS as error:
            if args.traceback:
                raise
            failures += 1
            text = sentence(error)
            tqdm.write(f"depthfm: {text if name in text else f'{name}: {text}'}", file=sys.stderr)
        else:
            write_label(args.output, name, image, depth)
    return failures


def _report(folder: Path, settings: dict, photos: list[Path]) -> None:
    """Writes labels.json and says how many there are: of all shards, as far as they have come."""
    count = sum(is_labeled(folder, photo.as_posix()) for photo in photos)
    facts = {
        **settings,
        "meaning": GIVES[settings["gives"]],
        "versions": installed_versions(_PACKAGES),
        "photographs": len(photos),
        "labels": count,
    }
    write_json(folder / LABELS_FILE, facts)
    print(f"{folder}: {count} of {len(photos)} photographs have depth")
