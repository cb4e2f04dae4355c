"""What the report of `evaluate` says: facts, notes and pictures around the tables."""

import argparse
import platform
from collections.abc import Sequence
from itertools import chain
from pathlib import Path

import torch

from ..data.entries import Entry, digest_images
from ..data.kitti import DEFAULT_MASK
from ..evaluation.pictures import keep_only, picture_path
from ..evaluation.protocol import Benchmark
from ..evaluation.published import PUBLISHED_ALIGNMENTS
from ..evaluation.report import FITTED_BY_RANSAC, Report, build_tables, published_notes
from ..evaluation.run import worst_names
from ..evaluation.summary import Summary
from ..evaluation.table import read_rows
from ..loading import chosen_device

ALIGNMENT_NOTES = (
    "affine fits scale and shift of depth (Marigold's protocol); log fits scale and power, in log depth, which is what "
    "DepthFM leaves open; disparity fits scale and shift of inverse depth; scale fits a factor. Each leaves open "
    "something else, so numbers under different alignments are not comparable.",
    "affine takes log depth as exp of the method's numbers, as DepthFM's authors do: from -1 to 1, depth of range e^2. "
    "Perfect log depth of a picture whose farthest point is 15 times as far as its nearest has an AbsRel of 0.09 under "
    "it, at 20 times 0.16; log tells such a method's errors alone.",
    "constant and ramp are baselines without a network: one depth everywhere, and depth by the row.",
    "Boundary scores need dense depth: with sparse depth few neighbors are both measured.",
)
PEAK_NOTE = (
    "Peak MB is, on a GPU, what PyTorch allocated for an image; on a CPU the whole process, libraries and weights "
    "included, during an image on Linux, and elsewhere since it started. What the methods before left behind counts "
    "too, so compare methods that were run alone."
)
SIZE_NOTE = (
    "Every method is handed the picture with a long side of {} pixels, the size that Marigold computes at here; so are "
    "methods that resize pictures themselves, and whose authors may hand them the original."
)
PARTIAL_NOTE = "its numbers here are not comparable with the published rows"
MISSING_NOTE = (
    "Of the largest errors {} have no picture: they are made while an image is measured, and that was with a smaller "
    "--worst, or before the picture was removed. Another --output makes them."
)


def build_report(
    args: argparse.Namespace,
    benchmark: Benchmark,
    data_set: str,
    entries: Sequence[Entry],
    summaries: Sequence[Summary],
    alignments: Sequence[Sequence[str]],
    folder: Path,
    others: str | None = None,
) -> Report:
    """What a run of `evaluate` found.

    Args:
        args: of the command.
        benchmark: that was measured on.
        data_set: its name, or that of the user's own folder.
        entries: its images.
        summaries: one a method that was measured, in the order of `args.model`; after these, those that earlier runs
            measured.
        alignments: of each of these methods.
        folder: of the first method's results, whose largest errors are shown; pictures of others are removed.
        others: `data.pairs.describe_others` of the data set.
    """
    pictures = _pictures(args, entries, summaries[0].name, alignments[0][0], folder)
    device = chosen_device(args.device)
    used = list(dict.fromkeys(chain(*alignments)))
    departures = _departures(args, benchmark, used)
    facts = {
        "data set": f"{args.dataset} ({benchmark.name}), {_told_images(benchmark, entries)}",
        **({"not measured": others} if others else {}),
        **_missing(args, benchmark, entries, summaries),
        **({"not the published protocol": f"{', '.join(departures)}; {PARTIAL_NOTE}"} if departures else {}),
        **_earlier(args, summaries),
        **_inverted(summaries),
        "fitted to": FITTED_BY_RANSAC if args.ransac else _fitted_to(used),
        "machine": f"{_device_name(device)}, PyTorch {torch.__version__}",
    }
    notes = [benchmark.notes]
    if benchmark.long_side_px:
        notes.append(SIZE_NOTE.format(benchmark.long_side_px))
    notes += [*ALIGNMENT_NOTES, PEAK_NOTE, *published_notes(benchmark.name)]
    missing = min(args.worst, summaries[0].num_images) - len(pictures)
    if missing:
        notes.append(MISSING_NOTE.format(missing))
    return Report(
        title=f"Zero-shot depth on {data_set}",
        data_set=data_set,
        benchmark=benchmark.name,
        facts=facts,
        tables=build_tables(benchmark.name, summaries, used, comparable=not departures),
        departures=departures,
        images=digest_images(entries),
        notes=notes,
        pictures=pictures,
    )


def _told_images(benchmark: Benchmark, entries: Sequence[Entry]) -> str:
    count, whole = len(entries), benchmark.num_images
    if not _is_partial(benchmark, entries):
        return f"{count} images"
    return f"{count} of {whole} images" if count < whole else f"{count} images instead of {whole}"


def _is_partial(benchmark: Benchmark, entries: Sequence[Entry]) -> bool:
    """Whether these are other images than the published means are over, as far as their number tells."""
    return benchmark.num_images not in (None, len(entries))


def _missing(
    args: argparse.Namespace, benchmark: Benchmark, entries: Sequence[Entry], summaries: Sequence[Summary]
) -> dict[str, str]:
    """Facts of what keeps the report from being whole: images of the benchmark, and methods that failed."""
    found = {"not the whole benchmark": PARTIAL_NOTE} if _is_partial(benchmark, entries) else {}
    measured = {summary.name for summary in summaries}
    failed = [model for model in args.model if model not in measured]
    return found | ({"asked for, but not measured whole": ", ".join(failed)} if failed else {})


def _departures(args: argparse.Namespace, benchmark: Benchmark, alignments: Sequence[str]) -> list[str]:
    """The options that were chosen and that published numbers were not measured with."""
    if benchmark.num_images is None:
        return []
    chosen = {
        f"--kitti-mask {args.kitti_mask}": args.kitti_mask not in (None, DEFAULT_MASK),
        "--diode-gradient-filter": args.diode_gradient_filter,
        "--ransac": args.ransac,
        f"--align {' '.join(alignments)}": set(alignments).isdisjoint(PUBLISHED_ALIGNMENTS),
    }
    return [option for option, departs in chosen.items() if departs]


def _fitted_to(alignments: Sequence[str]) -> str:
    """How each alignment was fitted: all by least squares but for "scale"."""
    lines = ", ".join(alignment for alignment in alignments if alignment != "scale")
    told = [f"by least squares ({lines})"] if lines else []
    told += ["by the ratio of the medians (scale)"] if "scale" in alignments else []
    return f"all measured pixels, {' and '.join(told)}"


def _earlier(args: argparse.Namespace, summaries: Sequence[Summary]) -> dict[str, str]:
    """The methods that this run was not asked for: their cost may be that of another machine."""
    names = [summary.name for summary in summaries if summary.name not in args.model]
    told = f"{', '.join(names)} (with the weights and on the machine of that time)"
    return {"measured by earlier runs": told} if names else {}


def _inverted(summaries: Sequence[Summary]) -> dict[str, str]:
    """The images that a fit turned upside down, which no score shows: with near and far swapped a map is as good."""
    told = [
        f"{summary.name} {count} of {summary.num_images} images ({alignment})"
        for summary in summaries
        for alignment, count in summary.inverted.items()
    ]
    return {"fitted upside down (negative scale)": ", ".join(told)} if told else {}


def _pictures(
    args: argparse.Namespace, entries: Sequence[Entry], model: str, first: str, folder: Path
) -> dict[str, str]:
    """Caption -> path below the output folder, of the first method's largest errors; other pictures are removed."""
    rows = read_rows(folder)
    keep_only(folder / "worst", worst_names(list(rows.values()), first, args.worst))
    found = {}
    for name in worst_names([rows[entry.name] for entry in entries], first, args.worst):
        path = picture_path(folder / "worst", name)
        if path.exists():
            error = float(rows[name][f"{first}.abs_rel"])
            found[f"{model} on {name}: AbsRel {error:.3f} ({first})"] = path.relative_to(args.output).as_posix()
    return found


def _device_name(device: str) -> str:
    if device.startswith("cuda"):
        return torch.cuda.get_device_name(device)
    return f"{platform.machine()} {device}, {torch.get_num_threads()} threads"
