"""The metrics of the depth benchmarks, each image by itself.

They are computed in float64 from the valid pixels alone. Aligning a prediction (`depth.align`) and clipping it to a
data set's range come before and are the protocol's part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from ..depth.align import check_maps


def measure(pred: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Every metric of `METRICS` by its name, [B] float64 each, on the CPU; NaN for an image without valid pixels.

    Args:
        pred: [B, 1, H, W] depth in metres, aligned to the target; > 0 where valid.
        target: [B, 1, H, W] depth in metres; > 0 where valid, elsewhere anything.
        valid: [B, 1, H, W] bool.

    Raises:
        ValueError: shapes that differ, or values that are not finite and positive where valid.
    """
    rows = [[formula(*pixels) for formula in METRICS.values()] for pixels in valid_pixels(pred, target, valid)]
    return {name: torch.stack(column) for name, column in zip(METRICS, zip(*rows, strict=True), strict=True)}


def valid_pixels(pred: Tensor, target: Tensor, valid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Prediction and target of each image's valid pixels, [N] float64 each on the CPU; errors as in `measure`."""
    check_depths(pred, target, valid)
    for image_pred, image_target, usable in zip(pred, target, valid, strict=True):
        yield image_pred[usable].cpu().double(), image_target[usable].cpu().double()


def check_depths(pred: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raises the errors of `measure`."""
    check_maps(pred, target, valid)
    if not ((pred > 0) | ~valid).all():
        raise ValueError("pred must be positive where valid; clip the aligned depth to the data set's range.")


def _abs_rel(pred: Tensor, target: Tensor) -> Tensor:
    """mean(|pred - target| / target)"""
    return ((pred - target).abs() / target).mean()


def _sq_rel(pred: Tensor, target: Tensor) -> Tensor:
    """mean((pred - target)^2 / target), in metres"""
    return ((pred - target).square() / target).mean()


def _rmse(pred: Tensor, target: Tensor) -> Tensor:
    """sqrt(mean((pred - target)^2)), in metres"""
    return (pred - target).square().mean().sqrt()


def _rmse_log(pred: Tensor, target: Tensor) -> Tensor:
    """sqrt(mean((log pred - log target)^2))"""
    return (pred / target).log().square().mean().sqrt()


def _log10(pred: Tensor, target: Tensor) -> Tensor:
    """mean(|log10 pred - log10 target|)"""
    return (pred / target).log10().abs().mean()


def _si_log(pred: Tensor, target: Tensor) -> Tensor:
    """100 sqrt(mean(d^2) - mean(d)^2) with d = log pred - log target, as KITTI counts it; blind to scale"""
    difference = (pred / target).log()
    return 100 * (difference - difference.mean()).square().mean().sqrt()


def _delta(power: int) -> Callable[[Tensor, Tensor], Tensor]:
    """The share of pixels with max(pred / target, target / pred) < 1.25^power"""

    def share_within(pred: Tensor, target: Tensor) -> Tensor:
        return (torch.maximum(pred / target, target / pred) < 1.25**power).double().mean()

    return share_within


# Name -> formula of the valid pixels of one image, [N] float64 each; `measure` takes whole maps.
# Sources: Eigen et al. 2014, https://arxiv.org/abs/1406.2283, for all but log10 (Saxena et al. 2009, as Marigold has
# it: https://github.com/prs-eth/Marigold, `src/util/metric.py`).
METRICS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "abs_rel": _abs_rel,
    "sq_rel": _sq_rel,
    "rmse": _rmse,
    "rmse_log": _rmse_log,
    "log10": _log10,
    "si_log": _si_log,
    "delta1": _delta(1),
    "delta2": _delta(2),
    "delta3": _delta(3),
}
