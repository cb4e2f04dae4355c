"""Whether depth jumps where it should: precision, recall and F1 of occlusion boundaries, blind to scale.

Two neighboring pixels are a boundary at threshold t where the farther one is more than t times as far. A boundary of
the prediction is right where the target has one between the same two pixels, the same side being nearer.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from .metrics import check_depths

_THRESHOLDS = torch.linspace(1.05, 1.25, 10, dtype=torch.float64)
BOUNDARIES = ("boundary_precision", "boundary_recall", "boundary_f1")


def boundary_scores(pred: Tensor, target: Tensor, valid: Tensor) -> dict[str, Tensor]:
    """Precision, recall and F1 as "boundary_precision", "boundary_recall", "boundary_f1": [B] float64 each, in [0, 1].

    Each is the weighted mean over ten thresholds from 1.05 to 1.25, the weight of each being the threshold itself. At
    one threshold, precision and recall are means over the four directions (left, right, top or bottom pixel nearer),
    and a direction without boundaries counts as 0, as in the authors' code: a perfect prediction of an image without
    any boundary scores 0, and one of an image with boundaries in each direction 1. The target should be dense, for
    only pairs of valid neighbors are counted (that is ours: the authors use complete targets).

    Args:
        pred: [B, 1, H, W] depth up to scale; > 0 where valid. Shift matters: ratios of depth are compared.
        target: [B, 1, H, W] depth; > 0 where valid.
        valid: [B, 1, H, W] bool.

    Returns:
        On the CPU; NaN for an image in which no two valid pixels are neighbors.

    Raises:
        ValueError: shapes that differ, no picture at all, or values that are not finite and positive where valid.

    Source: Depth Pro, Bochkovskii et al. 2024, https://arxiv.org/abs/2410.02073; https://github.com/apple/ml-depth-pro,
    `src/depth_pro/eval/boundary_metrics.py` (`SI_boundary_F1`).
    """
    check_depths(pred, target, valid)
    images = zip(pred.cpu().double(), target.cpu().double(), valid.cpu(), strict=True)
    rows = [_score(p.squeeze(0), t.squeeze(0), v.squeeze(0)) for p, t, v in images]
    return dict(zip(BOUNDARIES, torch.stack(rows, dim=1), strict=True))


def _score(pred: Tensor, target: Tensor, valid: Tensor) -> Tensor:
    """[H, W] each -> precision, recall, F1 of one image: [3]."""
    directions = list(_neighbors(pred, target, valid))
    if not any(len(p) for p, _ in directions):
        return pred.new_full((3,), torch.nan)
    found, true, both = torch.stack([_count(p, t) for p, t in directions], dim=1)  # [4 directions, thresholds] each
    precision = (both / found.clamp_min(1)).mean(0)
    recall = (both / true.clamp_min(1)).mean(0)
    f1 = 2 * precision * recall / (precision + recall).where(both.sum(0) > 0, 1.0)
    return torch.stack([precision, recall, f1]) @ (_THRESHOLDS / _THRESHOLDS.sum())


def _neighbors(pred: Tensor, target: Tensor, valid: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Farther / nearer of each pair of valid neighbors, for either of them and along either axis: 4 times [N], [N]."""
    for axis in (0, 1):
        length = valid.shape[axis] - 1
        pairs = valid.narrow(axis, 0, length) & valid.narrow(axis, 1, length)
        places = pairs.flatten().nonzero().squeeze(1)  # see `valid_pixels`
        ratios = [(m.narrow(axis, 1, length) / m.narrow(axis, 0, length)).flatten()[places] for m in (pred, target)]
        yield ratios[0], ratios[1]
        yield 1 / ratios[0], 1 / ratios[1]


def _count(pred_ratio: Tensor, target_ratio: Tensor) -> Tensor:
    """[N] and [N] -> boundaries of the prediction, of the target and of both, above each threshold: [3, thresholds].

    A pair is sorted once by how many thresholds its ratios exceed; the counts for a threshold are sums over that.
    """
    levels = len(_THRESHOLDS) + 1
    pred_level, target_level = (torch.bucketize(ratio, _THRESHOLDS) for ratio in (pred_ratio, target_ratio))
    pairs = torch.bincount(pred_level * levels + target_level, minlength=levels**2).view(levels, levels).double()
    at_least = (
        pairs.flip(0, 1).cumsum(0).cumsum(1).flip(0, 1)
    )  # [i, j]: prediction above i and target above j thresholds
    return torch.stack([at_least[1:, 0], at_least[0, 1:], at_least.diagonal()[1:]])
