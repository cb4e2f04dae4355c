"""`evaluate`: scores of one or more methods on a data set, under the protocol that published numbers were made with."""

import argparse
import re
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from tqdm import tqdm

from ..data.entries import Entry
from ..data.kitti import MASKS
from ..depth.align import ALIGNMENTS
from ..depth.inliers import Ransac
from ..evaluation.baselines import METHODS, MethodOptions, find_method, load_method
from ..evaluation.fingerprint import fingerprint
from ..evaluation.pictures import unique_name
from ..evaluation.protocol import BENCHMARKS, Benchmark, choose_benchmark
from ..evaluation.report import write_report
from ..evaluation.run import evaluate
from ..evaluation.share import Share, this_share
from ..evaluation.spaces import SPACES, check_alignments
from ..evaluation.summary import Summary, summarize
from ..evaluation.table import SETTINGS_FILE, open_folder, read_gives, read_rows, write_gives
from .evaluate_report import build_report
from .methods import add_method_arguments, changed_options, check_method_arguments, files_beside, method_options

DEFAULT_MODELS = ("nano", "constant", "ramp")
DEFAULT_ALIGNMENTS = ("affine", "log")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--dataset", required=True, metavar="NAME", help=f"{', '.join(BENCHMARKS)}, or a folder's path")
    parser.add_argument("--root", type=Path, metavar="DIR", help="where a named data set lies; see docs/benchmarks.md")
    parser.add_argument("--split", type=Path, metavar="LIST", help="file list of the split, where one is needed")
    parser.add_argument(
        "--model",
        nargs="+",
        default=list(DEFAULT_MODELS),
        metavar="NAME[=PATH]",
        help=f"one or more of {', '.join(METHODS)}; PATH: where its weights are; or a DepthFM checkpoint's path "
        f"(default: {' '.join(DEFAULT_MODELS)})",
    )
    parser.add_argument(
        "--align",
        nargs="+",
        choices=tuple(ALIGNMENTS),
        help=f"what is fitted before measuring (default: {' and '.join(DEFAULT_ALIGNMENTS)}, where the numbers "
        "that a method of this name usually gives can be)",
    )
    parser.add_argument(
        "--ransac", action="store_true", help="fit to the pixels that RANSAC keeps; not a benchmark's way"
    )
    parser.add_argument(
        "--output", type=Path, default=Path("results"), metavar="DIR", help="for tables and report (default: results)"
    )
    parser.add_argument("--limit", type=int, metavar="N", help="only the first N images")
    parser.add_argument("--worst", type=int, default=6, metavar="N", help="pictures of the largest errors (default: 6)")
    parser.add_argument("--kitti-mask", choices=tuple(MASKS), help="mask within KITTI's crop (default: eigen)")
    parser.add_argument("--diode-gradient-filter", action="store_true", help="leave out DIODE's depth edges")
    add_method_arguments(parser)


def run(args: argparse.Namespace) -> int:
    """Measures what is not measured yet, writes the report and prints it; 0.

    Raises:
        ValueError: for an option, data set or alignment that cannot be used, before anything is measured; for a method
            that cannot be loaded, or weights at a path that give something else than the alignment takes, when its
            turn comes. What is measured by then stays, and is not measured again.
    """
    benchmark, root = _benchmark(args)
    _check_numbers(args)
    entries = benchmark.list_entries(root, args.split)[: args.limit]
    options = {model: _options(model, args, benchmark) for model in args.model}
    alignments = {model: _alignments(model, args) for model in args.model}
    for model in args.model:
        if "=" not in model:  # the weights at a path may give something else than the method's usual ones
            check_alignments(find_method(model)[1].gives, alignments[model], model)
    weights = {model: fingerprint(find_method(model)[2]) for model in args.model}
    share = this_share()
    if share.is_first:
        for model in args.model:
            settings = _settings(model, weights[model], args, benchmark, root, options[model], alignments[model])
            _open_folder(_folder(args, model), settings)
    share.wait()
    for model in args.model:
        done = read_rows(_folder(args, model))
        if any(entry.name not in done for entry in entries):
            _measure(model, options[model], benchmark, entries, alignments[model], args, share)
    share.wait()
    if share.is_first:
        summaries = [
            _summary(model, weights[model], _folder(args, model), entries, alignments[model], options[model])
            for model in args.model
        ]
        report = build_report(args, benchmark, entries, summaries, alignments, _folder(args, args.model[0]))
        print(write_report(report, summaries, args.output))
        print(f"{args.output / 'report.html'}")
    return 0


def _open_folder(folder: Path, settings: dict) -> None:
    if not read_rows(folder):  # settings without a result, as of a run that was refused, bind nobody
        (folder / SETTINGS_FILE).unlink(missing_ok=True)
    open_folder(folder, settings)


def _measure(
    model: str,
    options: MethodOptions,
    benchmark: Benchmark,
    entries: Sequence[Entry],
    alignments: Sequence[str],
    args: argparse.Namespace,
    share: Share,
) -> None:
    """Loads a method, measures what it has not been measured on, and lets it go before the next one is loaded."""
    method, folder = load_method(model, options), _folder(args, model)
    write_gives(folder, method.gives)
    ransac = Ransac() if args.ransac else None
    names = evaluate(
        method, benchmark, entries, alignments, folder, ransac=ransac, share=share, num_pictures=args.worst
    )
    for _ in tqdm(names, total=len(share.part(entries)), desc=model, unit="image", disable=None):
        pass


def _benchmark(args: argparse.Namespace) -> tuple[Benchmark, Path]:
    """The benchmark and its folder; `--dataset` may be a folder's path itself."""
    if args.dataset in BENCHMARKS:
        if args.root is None:
            raise ValueError(f"Where {args.dataset} lies is not known; add --root DIR (see docs/benchmarks.md).")
        return choose_benchmark(args.dataset, args.kitti_mask, args.diode_gradient_filter), args.root
    if not Path(args.dataset).is_dir():
        raise ValueError(f"There is no data set or folder {args.dataset!r}; choose one of {', '.join(BENCHMARKS)}.")
    if args.root is not None:
        raise ValueError(f"--dataset {args.dataset} is a folder itself; leave --root {args.root} out.")
    return choose_benchmark("folder", args.kitti_mask, args.diode_gradient_filter), Path(args.dataset)


def _check_numbers(args: argparse.Namespace) -> None:
    if args.limit is not None and args.limit < 1:
        raise ValueError(f"--limit is {args.limit}; choose 1 or more images.")
    if args.worst < 0:
        raise ValueError(f"--worst is {args.worst}; choose 0 or more pictures.")
    check_method_arguments(args.model, args)


def _options(model: str, args: argparse.Namespace, benchmark: Benchmark) -> MethodOptions:
    """What of the command line a method takes; a benchmark's picture comes at its protocol's size already."""
    return method_options(model, args, processing_resolution=0 if benchmark.num_images else None)


def _alignments(model: str, args: argparse.Namespace) -> list[str]:
    """The chosen alignments, or those of the default that a method's numbers can be fitted by, or the first that is."""
    possible = SPACES[find_method(model)[1].gives]
    if args.align:
        return list(dict.fromkeys(args.align))
    return [name for name in DEFAULT_ALIGNMENTS if name in possible] or list(possible)[:1]


def _folder(args: argparse.Namespace, model: str) -> Path:
    """Where a model's results lie; a name that is no folder's gets one, and no two get the same."""
    is_a_name = re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9_.-]*", model)
    return args.output / (model if is_a_name else unique_name(model).lstrip("._"))


def _settings(
    model: str,
    weights: str,
    args: argparse.Namespace,
    benchmark: Benchmark,
    root: Path,
    options: MethodOptions,
    alignments: Sequence[str],
) -> dict:
    """What a table of images depends on: a run goes on only with the same."""
    return {
        "model": model,
        "weights": weights,
        **files_beside(model, options),
        "dataset": args.dataset if args.dataset in BENCHMARKS else root.resolve().name,
        "root": str(root.resolve()),
        "split": args.split and str(args.split.resolve()),
        "protocol": benchmark.notes,
        "alignments": list(alignments),
        "ransac": args.ransac,
        "options": {name: value for name, value in asdict(options).items() if value is not None},
    }


def _summary(
    model: str,
    weights: str,
    folder: Path,
    entries: Sequence[Entry],
    alignments: Sequence[str],
    options: MethodOptions,
) -> Summary:
    rows = read_rows(folder)
    gives = read_gives(folder) or find_method(model)[1].gives
    summary = summarize(model, gives, weights, [rows[entry.name] for entry in entries], alignments)
    return replace(summary, made_with=changed_options(options) | files_beside(model, options))
