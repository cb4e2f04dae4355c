"""`evaluate`: scores of one or more methods on a data set, under the protocol that published numbers were made with."""

import argparse
import sys
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tqdm import tqdm

from ..data import pairs
from ..data.entries import Entry, check_names
from ..data.kitti import MASKS
from ..depth.align import ALIGNMENTS
from ..depth.inliers import Ransac
from ..evaluation.baselines import METHODS, load_method
from ..evaluation.baselines.method import check_libraries
from ..evaluation.protocol import BENCHMARKS, Benchmark, choose_benchmark
from ..evaluation.report import write_report
from ..evaluation.run import columns, evaluate
from ..evaluation.summary import Summary, summarize
from ..evaluation.table import (
    Facts,
    check_columns,
    drop_without_results,
    open_folder,
    read_facts,
    read_rows,
    read_settings,
    write_facts,
)
from ..share import Share, this_share
from .errors import USER_ERRORS, sentence
from .evaluate_plan import DEFAULT_ALIGNMENTS, Plan, data_set_name, find_neighbors, make_plans, settings_of
from .evaluate_report import build_report
from .methods import add_method_arguments, changed_options, import_methods

DEFAULT_MODELS = ("nano", "constant", "ramp")


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
        ValueError: for an option, data set, alignment or missing package, or a table of other settings or columns,
            before anything is measured; and for methods that cannot be loaded or fail, or weights at a path that give
            something else than the alignment takes, after the others are measured and reported. What is measured stays,
            and is not measured again.
    """
    benchmark, root = _benchmark(args)
    _check_numbers(args)
    listed = benchmark.list_entries(root, args.split)
    check_names(listed)
    entries = listed[: args.limit]
    plans = make_plans(args, benchmark)
    missing = [plan for plan in plans if not plan.is_done(entries)]
    for plan in missing:
        check_libraries(plan.card, plan.model)
    import_methods([plan.model for plan in missing], args)
    share = this_share()
    others = _describe_others(args, benchmark, root, listed) if share.is_first else None  # it walks the whole folder
    if share.is_first:
        for plan in plans:
            drop_without_results(plan.folder)
            open_folder(plan.folder, settings_of(plan, args, benchmark, root))
            check_columns(plan.folder, columns(plan.alignments))  # also of what is measured whole already
        if others:
            print(f"depthfm: {root} has {others}.", file=sys.stderr)
    share.wait()
    failures = _measure_all(plans, benchmark, entries, args, share)
    share.wait()
    if share.is_first:
        _report(plans, benchmark, root, entries, args, others)
    share.wait()  # a launcher ends all processes when one ends with an error
    if failures:
        told = " ".join(f"{model} was not measured: {reason}" for model, reason in failures.items())
        raise ValueError(told)
    return 0


def _measure_all(
    plans: Sequence[Plan], benchmark: Benchmark, entries: Sequence[Entry], args: argparse.Namespace, share: Share
) -> dict[str, str]:
    """Measures method after method; those that failed, each with why, do not keep the others from their turn."""
    failures = {}
    for plan in plans:
        if plan.is_done(entries):
            continue
        try:
            _measure(plan, benchmark, entries, args, share)
        except (ImportError, *USER_ERRORS) as error:
            if args.traceback:
                raise
            failures[plan.model] = sentence(error)
    return failures


def _measure(
    plan: Plan, benchmark: Benchmark, entries: Sequence[Entry], args: argparse.Namespace, share: Share
) -> None:
    """Loads a method, measures what it has not been measured on, and lets it go before the next one is loaded."""
    method = load_method(plan.model, plan.options)
    write_facts(plan.folder, Facts(method.gives, method.made_with))
    ransac = Ransac() if args.ransac else None
    names = evaluate(
        method, benchmark, entries, plan.alignments, plan.folder, ransac=ransac, share=share, num_pictures=args.worst
    )
    for _ in tqdm(names, total=len(share.part(entries)), desc=plan.model, unit="image", disable=None):
        pass


def _describe_others(
    args: argparse.Namespace, benchmark: Benchmark, root: Path, entries: Sequence[Entry]
) -> str | None:
    """What lies in a folder of the user's own beside its pairs; None for what a list or a benchmark's layout names."""
    return pairs.describe_others(root, len(entries)) if benchmark.name == pairs.NAME and args.split is None else None


def _report(
    plans: Sequence[Plan],
    benchmark: Benchmark,
    root: Path,
    entries: Sequence[Entry],
    args: argparse.Namespace,
    others: str | None,
) -> None:
    """Writes and prints the report over the methods that were measured whole; nothing where there is none.

    What earlier runs measured into the same output stands in it too.
    """
    done = [plan for plan in plans if plan.is_done(entries)]
    if done:
        shown = [*done, *find_neighbors(args, benchmark, root, plans, entries)]
        summaries = [_summary(plan, benchmark, entries) for plan in shown]
        report = build_report(
            args,
            benchmark,
            data_set_name(args, root),
            entries,
            summaries,
            [plan.alignments for plan in shown],
            done[0].folder,
            others,
        )
        print(write_report(report, summaries, args.output))
        print(f"{args.output / 'report.html'}")
    for plan in plans:
        drop_without_results(plan.folder)


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


def _summary(plan: Plan, benchmark: Benchmark, entries: Sequence[Entry]) -> Summary:
    """What the method's folder says of it, which is all that there is of one that an earlier run measured."""
    rows, settings, facts = read_rows(plan.folder), read_settings(plan.folder), read_facts(plan.folder)
    measured = [rows[entry.name] for entry in entries]
    summary = summarize(plan.model, facts.gives, settings["weights"], measured, plan.alignments)
    made_with = changed_options(plan.options) | facts.made_with
    if "beside" in settings:
        made_with["beside"] = settings["beside"]
    if domain_of := plan.domain_of(benchmark):
        counts = Counter(map(domain_of, entries))
        made_with["domain"] = ", ".join(f"{domain} ({count} images)" for domain, count in sorted(counts.items()))
    return replace(summary, made_with=made_with, published=plan.card.published)
