"""Measures a method on a data set, image by image; what is in the folder already is not measured again."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

from ..data import DepthSample
from ..data.entries import Entry
from ..depth.align import ALIGNMENTS, align, fit
from ..depth.inliers import Ransac
from ..share import Share
from .baselines.method import Method
from .boundaries import BOUNDARIES, boundary_scores
from .memory import PeakMemory
from .metrics import METRICS, measure
from .pictures import save_error_picture
from .protocol import Benchmark, clip_aligned, prepare_image, prepare_prediction
from .spaces import check_alignments, to_space
from .table import MEASURED, NAME, SKIPPED, STATUS, append_row, check_columns, read_rows
from .uncertainty import log_error, measure_uncertainty

SCALE = "scale"  # beside the scores: of the line that was fitted; below zero, the map was turned upside down
COST = ("seconds", "peak_memory_mb", "num_calls")
UNCERTAINTY = ("spearman", "ause", "calibration_error")  # of `uncertainty.UncertaintyScores`
_NAMED = (ValueError, RuntimeError, MemoryError)


def columns(alignments: Sequence[str]) -> list[str]:
    """The columns of the table of images."""
    aligned = [f"{alignment}.{name}" for alignment in alignments for name in (*METRICS, *BOUNDARIES, SCALE)]
    return [NAME, STATUS, *COST, *aligned, *UNCERTAINTY]


def evaluate(
    method: Method,
    benchmark: Benchmark,
    entries: Sequence[Entry],
    alignments: Sequence[str],
    folder: Path,
    *,
    ransac: Ransac | None = None,
    share: Share = Share(),  # noqa: B008 (frozen)
    num_pictures: int = 8,
) -> Iterator[str]:
    """Yields the name of each image once its line is in `folder`; images that have one are yielded at once.

    Args:
        method: see `baselines.Method`.
        benchmark: how depth is read, masked and clipped.
        entries: the images.
        alignments: keys of `depth.align.ALIGNMENTS` that suit what the method gives; the first one ranks the pictures.
        folder: for the table, and `worst/` with pictures of the largest errors.
        ransac: fits to the pixels that RANSAC keeps, not to all valid ones; not for the alignment "scale".
        share: this process's part.
        num_pictures: how many pictures are kept.

    Raises:
        ValueError: for an alignment that does not suit the method, a table with other columns, as earlier versions
            wrote, or, naming the image, for a file that cannot be read or a map that is none.
        RuntimeError, MemoryError: naming the image, for what its estimation failed with.
    """
    check_alignments(method.gives, alignments, method.name)
    for alignment in alignments:
        _rehearse(method.gives, alignment, ransac)
    table = folder / ("images.csv" if share.count == 1 else f"images.{share.index}.csv")
    check_columns(folder, columns(alignments))
    done = read_rows(folder)
    for entry in share.part(entries):
        if entry.name not in done:
            with _naming(entry):
                row, picture = _measure_entry(method, benchmark, entry, alignments, ransac)
            append_row(table, columns(alignments), row)
            done[entry.name] = row
            if picture and entry.name in worst_names(done.values(), alignments[0], num_pictures):
                save_error_picture(folder / "worst", entry.name, *picture)
        yield entry.name


def worst_names(rows: Sequence[Mapping], alignment: str, count: int) -> list[str]:
    """The images with the largest abs_rel, the largest first."""
    measured = [row for row in rows if row[STATUS] == MEASURED]
    return [row[NAME] for row in sorted(measured, key=lambda row: -float(row[f"{alignment}.abs_rel"]))[:count]]


def _rehearse(gives: str, alignment: str, ransac: Ransac | None) -> None:
    """Aligns a map of a few pixels, so that what does not go together is refused before anything is measured."""
    values = torch.linspace(0.1, 1, 4).reshape(1, 1, 2, 2)
    valid = torch.ones_like(values, dtype=torch.bool)
    align(to_space(values, gives, alignment), values, valid, alignment, ransac=ransac)


@contextmanager
def _naming(entry: Entry) -> Iterator[None]:
    """Puts the image's name before what an error says."""
    try:
        yield
    except _NAMED as error:
        kind = next(kind for kind in _NAMED if isinstance(error, kind))  # subclasses may take other arguments
        raise kind(f"{entry.name}: {error}") from error


def _measure_entry(
    method: Method, benchmark: Benchmark, entry: Entry, alignments: Sequence[str], ransac: Ransac | None
) -> tuple[dict[str, object], tuple | None]:
    """A line of the table, and what a picture of the errors shows; an image without ground truth is only counted."""
    sample = benchmark.read(entry)
    if not sample.valid.any():
        return {NAME: entry.name, STATUS: SKIPPED}, None
    image = prepare_image(sample.image[None], benchmark)
    domain = benchmark.domain(entry) if benchmark.domain else None
    with PeakMemory() as memory:
        start = time.perf_counter()
        values = method(image, domain)
        seconds = time.perf_counter() - start
    row = {NAME: entry.name, STATUS: MEASURED, "seconds": f"{seconds:.4f}", "num_calls": method.num_calls}
    row["peak_memory_mb"] = memory.megabytes
    aligned = {name: _aligned(values, method.gives, name, sample, benchmark, ransac) for name in alignments}
    for alignment, (depth_m, scale) in aligned.items():
        scores = _scores(depth_m, sample) | {SCALE: scale}
        row |= {f"{alignment}.{name}": value for name, value in scores.items()}
    return row | _uncertainty(method, values, sample), (sample, aligned[alignments[0]][0])


def _aligned(
    values: Tensor, gives: str, alignment: str, sample: DepthSample, benchmark: Benchmark, ransac: Ransac | None
) -> tuple[Tensor, float]:
    """[1, 1, H, W] float64 depth in metres at the ground truth's size, cut as the protocol says; and the fit's scale.

    Raises:
        ValueError: for a map that no scale fits, or that `align` refuses.
    """
    prediction = prepare_prediction(to_space(values, gives, alignment), tuple(sample.depth_m.shape[-2:]))
    fitted = sample.valid[None]
    if alignment == "disparity":  # Marigold fits where the estimated disparity is one, and measures everywhere
        positive = fitted & (prediction > 0)
        fitted = positive if positive.any() else fitted
    line = fit(
        prediction,
        sample.depth_m[None],
        fitted,
        alignment,
        ransac=ransac,
        max_side_px=benchmark.alignment_max_side,
    )
    if line.scale.isnan().any():
        raise ValueError(
            "The median of the map is not positive where depth was measured, so no factor fits; the method gives no "
            f"depth up to scale here. Leave it out, or --align {alignment}."
        )
    return clip_aligned(ALIGNMENTS[alignment].to_depth(line(prediction)), benchmark), line.scale.item()


def _scores(depth_m: Tensor, sample: DepthSample) -> dict[str, float]:
    """All metrics and the boundary scores of one image; a score that it cannot have is left out."""
    maps = (depth_m, sample.depth_m[None].double(), sample.valid[None])
    found = {name: value.item() for name, value in (measure(*maps) | boundary_scores(*maps)).items()}
    return {name: value for name, value in found.items() if not math.isnan(value)}


def _uncertainty(method: Method, values: Tensor, sample: DepthSample) -> dict[str, float]:
    """Scores of an ensemble's uncertainty; empty for a method that has none."""
    if method.uncertainty is None:
        return {}
    size = tuple(sample.depth_m.shape[-2:])
    log_depth, spread = (prepare_prediction(found, size) for found in (values, method.uncertainty))
    error, sigma = log_error(log_depth, spread, sample.depth_m[None], sample.valid[None])
    scores = measure_uncertainty(error, sigma, sample.valid[None])
    found = {name: getattr(scores, name).item() for name in UNCERTAINTY}
    return {name: value for name, value in found.items() if not math.isnan(value)}
