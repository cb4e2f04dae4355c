"""Whether an ensemble knows where it is wrong: its spread, sigma, against the error that it made, each image by itself.

Three questions: do sigma and error rank the pixels alike (Spearman), how much of the error goes when the least
certain pixels go (sparsification, AUSE), and is sigma as large as the error (calibration). The first two are blind to
the unit of sigma, the third is not: bring both to one space first, by `log_error`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ..depth.align import fit

_NUM_FRACTIONS = 50
_SIGMAS = (1.0, 2.0, 3.0)


@dataclass(frozen=True, eq=False)
class UncertaintyScores:
    """Scores and curves of B images, float64 on the CPU; NaN for an image without valid pixels.

    Attributes:
        spearman: [B] in [-1, 1], rank correlation of sigma and error; 1 is best. NaN where either is constant.
        removed: [51] shares of the pixels left out, 0 to 1.
        curve: [B, 51] mean error of the pixels left when those with the largest sigma are left out, as a share of the
            error of all. Of pixels with equal sigma none goes first: they count with their mean error.
        oracle: [B, 51] the same when those with the largest error are left out: the lowest curve possible. Both end
            at 0, where no pixel is left.
        sigmas: [3] the multiples k of sigma.
        within: [B, 3] share of the pixels with error <= k sigma.
        expected_within: [3] the share if errors were normal with deviation sigma.
    """

    spearman: Tensor
    removed: Tensor
    curve: Tensor
    oracle: Tensor
    sigmas: Tensor
    within: Tensor
    expected_within: Tensor

    @property
    def ause(self) -> Tensor:
        """[B] area between curve and oracle; 0 is best."""
        return torch.trapezoid(self.curve - self.oracle, self.removed, dim=1)

    @property
    def calibration_error(self) -> Tensor:
        """[B] mean of |within - expected_within|; 0 is best."""
        return (self.within - self.expected_within).abs().mean(1)


def measure_uncertainty(error: Tensor, sigma: Tensor, valid: Tensor) -> UncertaintyScores:
    """How well sigma tells the error, over the valid pixels of each image.

    Args:
        error: [B, 1, H, W], the absolute error; >= 0 where valid.
        sigma: [B, 1, H, W], the spread of an ensemble of two or more, in the unit of the error; >= 0 where valid.
        valid: [B, 1, H, W] bool.

    Raises:
        ValueError: shapes that differ, no picture at all, or values that are negative or not finite where valid.

    Source: sparsification and its normalization Ilg et al. 2018, https://arxiv.org/abs/1802.07095; the 50 steps and
    the area up to a share of 1 Poggi et al. 2020, https://arxiv.org/abs/2005.06209; calibration Kuleshov et al. 2018,
    https://arxiv.org/abs/1807.00263.
    """
    _check(error, sigma, valid)
    images = zip(error.cpu(), sigma.cpu(), valid.cpu(), strict=True)
    rows = [_score(e[v], s[v]) for e, s, v in images]
    spearman, curve, oracle, within = (torch.stack(column) for column in zip(*rows, strict=True))
    removed = torch.linspace(0, 1, _NUM_FRACTIONS + 1, dtype=torch.float64)
    sigmas = torch.tensor(_SIGMAS, dtype=torch.float64)
    return UncertaintyScores(spearman, removed, curve, oracle, sigmas, within, torch.erf(sigmas / math.sqrt(2)))


def log_error(log_depth: Tensor, uncertainty: Tensor, target_depth_m: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """|error| and sigma of a prediction in log depth, after the alignment "log": [B, 1, H, W] float64 on the CPU each.

    The alignment scales the spread as it does the log depth. The target is taken as 1 m where it is not valid.

    Args:
        log_depth: [B, 1, H, W], affine-invariant.
        uncertainty: [B, 1, H, W] >= 0, in the unit of `log_depth`.
        target_depth_m: [B, 1, H, W] in metres, > 0 where valid.
        valid: [B, 1, H, W] bool.

    Raises:
        ValueError: as `depth.align.align`.
    """
    line = fit(log_depth, target_depth_m, valid, "log")
    target = target_depth_m.cpu().double().where(valid.cpu(), 1.0)
    return (line(log_depth) - target.log()).abs(), uncertainty.cpu().double() * line.scale.abs()


def _score(error: Tensor, sigma: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """[N] and [N] of one image -> spearman, curve, oracle, within. Sorts either map once."""
    if not len(error):
        nan = torch.tensor(torch.nan, dtype=torch.float64)
        return nan, nan.expand(_NUM_FRACTIONS + 1), nan.expand(_NUM_FRACTIONS + 1), nan.expand(len(_SIGMAS))
    by_error, by_sigma = _Order(error), _Order(sigma)
    error = error.double()
    correlation = _correlation(by_error.ranks()[by_sigma.order], by_sigma.ranks_in_order())
    curves = [_sparsify(error[by.order], by.group_ends) for by in (by_sigma, by_error)]
    within = torch.stack([(error <= k * sigma.double()).double().mean() for k in _SIGMAS])
    return correlation, *curves, within


class _Order:
    """The order of values, smallest first, and where the groups of equal values end in it."""

    def __init__(self, values: Tensor) -> None:
        ordered, self.order = values.sort()
        self.group_sizes = torch.unique_consecutive(ordered, return_counts=True)[1]
        self.group_ends = self.group_sizes.cumsum(0)

    def ranks_in_order(self) -> Tensor:
        """1 to N, ties with the mean of theirs: [N] float64 in the order of the values."""
        ranks = self.group_ends - (self.group_sizes.double() - 1) / 2
        return ranks.repeat_interleave(self.group_sizes)

    def ranks(self) -> Tensor:
        """The same at the places where the values stood."""
        ranks = self.ranks_in_order()
        return torch.empty_like(ranks).scatter_(0, self.order, ranks)


def _correlation(first: Tensor, second: Tensor) -> Tensor:
    """Pearson's, of two [N]; NaN where either is constant."""
    first, second = first - first.mean(), second - second.mean()
    return (first @ second) / ((first @ first) * (second @ second)).sqrt()


def _sparsify(error: Tensor, group_ends: Tensor) -> Tensor:
    """Errors [N], those to leave out last -> mean error of what is left, relative to that of all: [51]."""
    count = len(error)
    sums = torch.cat([error.new_zeros(1), error.cumsum(0)])
    kept = count - torch.arange(_NUM_FRACTIONS) * count // _NUM_FRACTIONS
    starts_and_ends = torch.cat([group_ends.new_zeros(1), group_ends])
    group = torch.searchsorted(group_ends, kept)
    start, end = starts_and_ends[group], starts_and_ends[group + 1]
    # Within a group of equal sigma the sum grows evenly, as if each pixel had the group's mean error.
    kept_sum = sums[start] + (sums[end] - sums[start]) * ((kept - start).double() / (end - start))
    relative = kept_sum / kept / (sums[-1] / count).where(sums[-1] > 0, 1.0)
    return torch.cat([relative, relative.new_zeros(1)])


def _check(error: Tensor, sigma: Tensor, valid: Tensor) -> None:
    if not error.shape == sigma.shape == valid.shape or error.ndim != 4 or error.shape[1] != 1:
        shapes = f"{list(error.shape)}, {list(sigma.shape)} and {list(valid.shape)}"
        raise ValueError(f"error, sigma and valid must be [B, 1, H, W] of one size, but came as {shapes}.")
    if not len(error):
        raise ValueError(f"error came as {list(error.shape)}; give at least one picture.")
    if valid.dtype != torch.bool:
        raise ValueError(f"valid must be a bool mask, but came as {valid.dtype}.")
    for name, values in (("error", error), ("sigma", sigma)):
        if not ((values >= 0) & values.isfinite() | ~valid).all():
            raise ValueError(f"{name} must be finite and >= 0 where valid; give its absolute value.")
