"""Scale and shift that bring a prediction to metric depth, as the benchmarks do before they measure.

Each alignment has its own idea of what a network leaves open, so results under different ones are not
comparable: "affine" and "disparity" leave open scale and shift, "log" scale and power, "scale" the scale
alone. All but "scale" fit a line in a space of their own over the valid pixels of each image: by least squares
over all of them, as the benchmarks do, or over those that RANSAC keeps. Nothing is clipped to a data set's
range here: "affine" can give negative depth, "disparity" ends at `FARTHEST_M`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from .inliers import Ransac, inliers, median

# Where a fitted disparity falls to zero or below, its inverse has no meaning; farther than this is cut off, which is
# Marigold's clip of the disparity at 1e-3.
FARTHEST_M = 1000.0


@dataclass(frozen=True, eq=False)
class Line:
    """What was fitted: `scale * (prediction - origin) + value`, with [B, 1, 1, 1] float64 each.

    Origin and value are the fit's means, not folded into one shift: with a large offset in the prediction the
    difference of two large numbers would cost precision.
    """

    scale: Tensor
    origin: Tensor
    value: Tensor

    def __call__(self, prediction: Tensor) -> Tensor:
        """[B, 1, H, W] -> [B, 1, H, W] float64 on the CPU, in the space of the fit."""
        return self.scale * (prediction.cpu().double() - self.origin) + self.value

    @property
    def shift(self) -> Tensor:
        """[B, 1, 1, 1], so that scale * prediction + shift is the same line."""
        return self.value - self.scale * self.origin


def align(
    prediction: Tensor,
    target_depth_m: Tensor,
    valid: Tensor,
    alignment: str,
    *,
    ransac: Ransac | None = None,
    max_side_px: int | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The prediction brought to the target's metres, image by image: [B, 1, H, W] depth in metres.

    A prediction that is constant over the valid pixels (a single one, say) says nothing about the scale, so
    the shift alone is fitted: the result is the target's mean everywhere (its geometric mean for "log", its
    harmonic mean for "disparity"). Without valid pixels it is NaN, and for "scale" also where the median of
    the prediction is not positive.

    Args:
        prediction: [B, 1, H, W]. "affine": depth up to scale and shift. "log": log depth up to scale and
            shift. "disparity": inverse depth up to scale and shift. "scale": depth up to scale.
        target_depth_m: [B, 1, H, W] depth in metres, > 0 where valid; elsewhere anything.
        valid: [B, 1, H, W] bool, the pixels to fit; all pixels are aligned. Marigold's disparity protocol fits
            where the prediction is positive, `valid & (prediction > 0)`.
        alignment: a key of `ALIGNMENTS`.
        ransac: fits to the pixels that RANSAC keeps, not to all valid ones; not for "scale".
        max_side_px: fits to a map thinned as Marigold's `alignment_max_res` does, see `fit`; all pixels are aligned.
        dtype: of the result, which is computed in float64.

    Raises:
        ValueError: unknown alignment, RANSAC for "scale", max_side_px below 1, shapes that differ, no picture at all,
            or values that are not finite where valid (for the target: not positive).

    Source: "affine" Marigold, https://arxiv.org/abs/2312.02145; "log" CompVis/diff2flow, `metrics.py`;
    "disparity" MiDaS, https://arxiv.org/abs/1907.01341; "scale" (ratio of medians) Zhou et al. 2017,
    https://arxiv.org/abs/1704.07813.
    """
    line = fit(prediction, target_depth_m, valid, alignment, ransac=ransac, max_side_px=max_side_px)
    return ALIGNMENTS[alignment].to_depth(line(prediction)).to(prediction.device, dtype)


def fit(
    prediction: Tensor,
    target_depth_m: Tensor,
    valid: Tensor,
    alignment: str,
    *,
    ransac: Ransac | None = None,
    max_side_px: int | None = None,
) -> Line:
    """The line from the prediction to the space of the alignment (depth, log depth or disparity) of each image.

    `align` applies it; alone it serves to bring an uncertainty along, by `line.scale.abs()`. With max_side_px, an
    image whose longer side exceeds it is thinned to every n-th column, n = longer side / max_side_px, and all rows:
    Marigold's code hands its nearest-neighbor downsampling a map in the shape of a one-dimensional signal. Arguments
    and errors are those of `align`.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"Unknown alignment {alignment!r}; choose one of {', '.join(ALIGNMENTS)}.")
    if ransac and alignment == "scale":
        raise ValueError("ransac fits scale and shift; 'scale' is a ratio of medians, which outliers hardly move.")
    check_maps(prediction, target_depth_m, valid)
    maps = (prediction, target_depth_m, valid)
    if max_side_px is not None:
        columns = _kept_columns(prediction.shape[-2], prediction.shape[-1], max_side_px)
        maps = tuple(values[..., columns.to(values.device)] for values in maps)
    # On the CPU in float64: sums over millions of pixels need it, and Apple's GPUs have no float64.
    predicted, target, usable = maps[0].cpu().double(), maps[1].cpu().double(), maps[2].cpu()
    target = ALIGNMENTS[alignment].from_depth(target.where(usable, 1.0))
    if ransac:
        usable = inliers(predicted, target, usable, ransac)
    return ALIGNMENTS[alignment].fit(predicted, target, usable)


def least_squares(prediction: Tensor, target: Tensor, valid: Tensor) -> Line:
    """Closest to the target by least squares over each image's valid pixels."""
    prediction_mean, target_mean = _mean(prediction, valid), _mean(target, valid)
    centered = prediction - prediction_mean
    variance = _mean(centered**2, valid)
    covariance = _mean(centered * (target - target_mean), valid)
    highest = prediction.where(valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    lowest = prediction.where(valid, torch.inf).amin((1, 2, 3), keepdim=True)
    scale = torch.where(highest > lowest, covariance / variance, 0.0)
    return Line(scale, prediction_mean, target_mean)


def _ratio_of_medians(prediction: Tensor, target: Tensor, valid: Tensor) -> Line:
    """Through zero, so that the medians of each image agree; NaN where the prediction's is not positive."""
    pairs = [(median(p[v]), median(t[v])) for p, t, v in zip(prediction, target, valid, strict=True)]
    predicted, measured = (torch.stack(values).view(-1, 1, 1, 1) for values in zip(*pairs, strict=True))
    scale = measured / predicted.where(predicted > 0, torch.nan)
    return Line(scale, torch.zeros_like(scale), torch.zeros_like(scale))


@dataclass(frozen=True)
class Alignment:
    """The space in which a line is fitted, the way there from depth in metres and back, and the fit."""

    from_depth: Callable[[Tensor], Tensor]
    to_depth: Callable[[Tensor], Tensor]
    fit: Callable[[Tensor, Tensor, Tensor], Line] = least_squares


def _same(depth_m: Tensor) -> Tensor:
    return depth_m


def _inverse_of_disparity(disparity: Tensor) -> Tensor:
    return 1 / disparity.clamp_min(1 / FARTHEST_M)


ALIGNMENTS: dict[str, Alignment] = {
    "affine": Alignment(_same, _same),
    "log": Alignment(torch.log, torch.exp),
    "disparity": Alignment(torch.reciprocal, _inverse_of_disparity),
    "scale": Alignment(_same, _same, _ratio_of_medians),
}


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """[B, 1, H, W] -> [B, 1, 1, 1] over valid pixels; NaN without any."""
    return values.where(valid, 0.0).sum((1, 2, 3), keepdim=True) / valid.sum((1, 2, 3), keepdim=True)


def _kept_columns(height: int, width: int, max_side_px: int) -> Tensor:
    """Columns that nearest-neighbor interpolation of the width alone, by max_side_px / longer side, takes."""
    if max_side_px < 1:
        raise ValueError(f"max_side_px is {max_side_px}; choose 1 or more, or None to fit to all pixels.")
    columns = torch.arange(width, dtype=torch.float32, device="cpu")
    factor = max_side_px / max(height, width)
    if factor >= 1:
        return columns.long()
    if width * factor < 1:
        return columns[:1].long()
    return F.interpolate(columns.view(1, 1, width), scale_factor=factor, mode="nearest").flatten().long()


def check_maps(prediction: Tensor, target_depth_m: Tensor, valid: Tensor) -> None:
    """Raises ValueError unless all three are [B, 1, H, W] tensors of one size, B > 0, and hold numbers where valid.

    That is: valid is bool, and there the prediction is finite and the target positive and finite.
    """
    for name, values in {"prediction": prediction, "target_depth_m": target_depth_m, "valid": valid}.items():
        if not isinstance(values, Tensor):
            raise ValueError(f"{name} is a {type(values).__name__}; expected a tensor, torch.from_numpy of an array.")
    if prediction.ndim != 4 or prediction.shape[1] != 1:
        raise ValueError(f"prediction must be [B, 1, H, W], but came as {list(prediction.shape)}.")
    if not len(prediction):
        raise ValueError(f"prediction came as {list(prediction.shape)}; give at least one picture.")
    if not prediction.shape == target_depth_m.shape == valid.shape:
        raise ValueError(
            "prediction, target_depth_m and valid must have one shape, but came as "
            f"{list(prediction.shape)}, {list(target_depth_m.shape)} and {list(valid.shape)}; resize the prediction."
        )
    if valid.dtype != torch.bool:
        raise ValueError(f"valid must be a bool mask, but came as {valid.dtype}.")
    if not (prediction.isfinite() | ~valid).all():
        raise ValueError("prediction has NaN or infinite values at valid pixels; check the network's output.")
    if not ((target_depth_m > 0) & target_depth_m.isfinite() | ~valid).all():
        raise ValueError("target_depth_m must be positive and finite where valid; mark other pixels invalid.")
