"""Scale and shift that bring a prediction to metric depth, as the benchmarks do before they measure.

Each alignment has its own idea of what a network leaves open, so results under different ones are not
comparable: "affine" and "disparity" leave open scale and shift, "log" scale and power, "scale" the scale
alone. All but "scale" are least squares over the valid pixels of each image. Nothing is clipped to a data
set's range here: "affine" can give negative depth, "disparity" ends at `FARTHEST_M`.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

# Where a fitted disparity falls to zero or below, its inverse has no meaning; farther than this is cut off.
FARTHEST_M = 1000.0


def align(prediction: Tensor, target_depth_m: Tensor, valid: Tensor, alignment: str) -> Tensor:
    """The prediction brought to the target's metres, image by image: [B, 1, H, W] depth in metres.

    A prediction that is constant over the valid pixels (a single one, say) says nothing about the scale, so
    the shift alone is fitted: the result is the target's mean everywhere (its geometric mean for "log", its
    harmonic mean for "disparity"). Without valid pixels it is NaN, and for "scale" also where the median of
    the prediction is not positive.

    Args:
        prediction: [B, 1, H, W]. "affine": depth up to scale and shift. "log": log depth up to scale and
            shift. "disparity": inverse depth up to scale and shift. "scale": depth up to scale.
        target_depth_m: [B, 1, H, W] depth in metres, > 0 where valid; elsewhere anything.
        valid: [B, 1, H, W] bool.
        alignment: a key of `ALIGNMENTS`.

    Raises:
        ValueError: unknown alignment, shapes that differ, or values that are not finite where valid (for the
            target: not positive).

    Source: "affine" Marigold, https://arxiv.org/abs/2312.02145; "log" CompVis/diff2flow, `metrics.py`;
    "disparity" MiDaS, https://arxiv.org/abs/1907.01341; "scale" (ratio of medians) Zhou et al. 2017,
    https://arxiv.org/abs/1704.07813.
    """
    if alignment not in ALIGNMENTS:
        raise ValueError(f"Unknown alignment {alignment!r}; choose one of {', '.join(ALIGNMENTS)}.")
    _check_maps(prediction, target_depth_m, valid)
    # On the CPU in float64: sums over millions of pixels need it, and Apple's GPUs have no float64.
    predicted, target, usable = prediction.cpu().double(), target_depth_m.cpu().double(), valid.cpu()
    aligned = ALIGNMENTS[alignment](predicted, target.where(usable, 1.0), usable)
    return aligned.float().to(prediction.device)


def _least_squares(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """scale * prediction + shift, closest to the target by least squares over each image's valid pixels."""
    prediction_mean, target_mean = _mean(prediction, valid), _mean(target, valid)
    centered = prediction - prediction_mean
    variance = _mean(centered**2, valid)
    covariance = _mean(centered * (target - target_mean), valid)
    highest = prediction.where(valid, -torch.inf).amax((1, 2, 3), keepdim=True)
    lowest = prediction.where(valid, torch.inf).amin((1, 2, 3), keepdim=True)
    scale = torch.where(highest > lowest, covariance / variance, 0.0)
    return scale * centered + target_mean


def _log(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return _least_squares(prediction, target.log(), valid).exp()


def _disparity(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    return 1 / _least_squares(prediction, 1 / target, valid).clamp_min(1 / FARTHEST_M)


def _scale(prediction: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """Times median(target) / median(prediction); of two middle pixels the lower one is the median."""
    median = _median(prediction, valid)
    return prediction * (_median(target, valid) / median.where(median > 0, torch.nan))


ALIGNMENTS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "affine": _least_squares,
    "log": _log,
    "disparity": _disparity,
    "scale": _scale,
}


def _mean(values: Tensor, valid: Tensor) -> Tensor:
    """[B, 1, H, W] -> [B, 1, 1, 1] over valid pixels; NaN without any."""
    return values.where(valid, 0.0).sum((1, 2, 3), keepdim=True) / valid.sum((1, 2, 3), keepdim=True)


def _median(values: Tensor, valid: Tensor) -> Tensor:
    return values.where(valid, torch.nan).flatten(1).nanmedian(dim=1).values.view(-1, 1, 1, 1)


def _check_maps(prediction: Tensor, target: Tensor, valid: Tensor) -> None:
    if prediction.ndim != 4 or prediction.shape[1] != 1:
        raise ValueError(f"prediction must be [B, 1, H, W], but came as {list(prediction.shape)}.")
    if not prediction.shape == target.shape == valid.shape:
        raise ValueError(
            "prediction, target_depth_m and valid must have one shape, but came as "
            f"{list(prediction.shape)}, {list(target.shape)} and {list(valid.shape)}; resize the prediction."
        )
    if valid.dtype != torch.bool:
        raise ValueError(f"valid must be a bool mask, but came as {valid.dtype}.")
    if not prediction[valid].isfinite().all():
        raise ValueError("prediction has NaN or infinite values at valid pixels; check the network's output.")
    if not (target[valid] > 0).logical_and(target[valid].isfinite()).all():
        raise ValueError("target_depth_m must be positive and finite where valid; mark other pixels invalid.")
