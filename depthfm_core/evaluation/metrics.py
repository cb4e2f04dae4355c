"""The metrics of the depth benchmarks, each image by itself.

They are computed in float64 from the valid pixels alone. Aligning a prediction (`depth.align`) and clipping it to a
data set's range come before and are the protocol's part.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property

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
        ValueError: shapes that differ, no picture at all, or values that are not finite and positive where valid.
    """
    images = [_Pixels(*pixels) for pixels in valid_pixels(pred, target, valid)]
    rows = [[formula(pixels) for formula in METRICS.values()] for pixels in images]
    return {name: torch.stack(column) for name, column in zip(METRICS, zip(*rows, strict=True), strict=True)}


def valid_pixels(pred: Tensor, target: Tensor, valid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Prediction and target of each image's valid pixels, [N] float64 each on the CPU; errors as in `measure`."""
    check_depths(pred, target, valid)
    for image_pred, image_target, usable in zip(pred, target, valid, strict=True):
        places = usable.flatten().nonzero().squeeze(1)  # found once; a mask as an index takes several times as long
        yield tuple(values.flatten()[places].cpu().double() for values in (image_pred, image_target))


def check_depths(pred: Tensor, target: Tensor, valid: Tensor) -> None:
    """Raises the errors of `measure`."""
    check_maps(pred, target, valid)
    if not ((pred > 0) | ~valid).all():
        raise ValueError("pred must be positive where valid; clip the aligned depth to the data set's range.")


@dataclass(frozen=True)
class _Pixels:
    """The valid pixels of one image, [N] float64 each, and what several formulas take of them, computed once."""

    pred: Tensor
    target: Tensor

    @cached_property
    def error(self) -> Tensor:
        """In metres."""
        return self.pred - self.target

    @cached_property
    def log_error(self) -> Tensor:
        return (self.pred / self.target).log()

    @cached_property
    def factor(self) -> Tensor:
        """By how much a pixel is too far or too near; 1 or more. Of the ratios themselves, for its limits are exact."""
        return torch.maximum(self.pred / self.target, self.target / self.pred)


def _abs_rel(pixels: _Pixels) -> Tensor:
    """mean(|pred - target| / target)"""
    return (pixels.error.abs() / pixels.target).mean()


def _sq_rel(pixels: _Pixels) -> Tensor:
    """mean((pred - target)^2 / target), in metres"""
    return (pixels.error.square() / pixels.target).mean()


def _rmse(pixels: _Pixels) -> Tensor:
    """sqrt(mean((pred - target)^2)), in metres"""
    return pixels.error.square().mean().sqrt()


def _rmse_log(pixels: _Pixels) -> Tensor:
    """sqrt(mean((log pred - log target)^2))"""
    return pixels.log_error.square().mean().sqrt()


def _log10(pixels: _Pixels) -> Tensor:
    """mean(|log10 pred - log10 target|)"""
    return pixels.log_error.abs().mean() / math.log(10)


def _si_log(pixels: _Pixels) -> Tensor:
    """100 sqrt(mean(d^2) - mean(d)^2) with d = log pred - log target, as KITTI counts it; blind to scale"""
    return 100 * (pixels.log_error - pixels.log_error.mean()).square().mean().sqrt()


def _delta(power: int) -> Callable[[_Pixels], Tensor]:
    """The share of pixels with max(pred / target, target / pred) < 1.25^power"""

    def share_within(pixels: _Pixels) -> Tensor:
        return (pixels.factor < 1.25**power).double().mean()

    return share_within


# Name -> formula of the valid pixels of one image; `measure` takes whole maps.
# Sources: Eigen et al. 2014, https://arxiv.org/abs/1406.2283, for all but log10 (Saxena et al. 2009, as Marigold has
# it: https://github.com/prs-eth/Marigold, `src/util/metric.py`).
METRICS: dict[str, Callable[[_Pixels], Tensor]] = {
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
