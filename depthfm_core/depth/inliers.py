"""RANSAC: the pixels that one line explains, where some of the depth, measured or predicted, is plainly wrong."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

_NUM_SCORED = 4096  # pixels that a candidate line is judged by; their share of inliers is known to about a percent


@dataclass(frozen=True)
class Ransac:
    """How to look for the line that most pixels agree with.

    Attributes:
        num_trials: candidate lines, each through two pixels drawn at random. With a share w of good pixels one of
            them is right with probability 1 - (1 - w^2)^num_trials.
        tolerance: how far from the line, in median absolute deviations of the image's target, a pixel still counts
            as explained; without unit, so it serves depth, log depth and disparity.
        seed: of the pixels that are drawn, the same for each image.

    Raises:
        ValueError: num_trials below 1, a tolerance that is not positive, or a seed outside 0..2^64 - 1.

    Source: Fischler and Bolles 1981, https://doi.org/10.1145/358669.358692. Others align depth by scikit-learn's
    `RANSACRegressor`, whose tolerance is 1: with 5 % noise and 30 % outliers that lets outliers tilt the line (error
    of 7 % where 0.2 leaves the noise alone).
    """

    num_trials: int = 500
    tolerance: float = 0.2
    seed: int = 0

    def __post_init__(self) -> None:
        if self.num_trials < 1:
            raise ValueError(f"num_trials is {self.num_trials}; choose 1 or more.")
        if not self.tolerance > 0:
            raise ValueError(f"tolerance is {self.tolerance}; choose a positive number.")
        if not 0 <= self.seed < 2**64:
            raise ValueError(f"seed is {self.seed}; choose 0 to 2^64 - 1.")


def inliers(prediction: Tensor, target: Tensor, valid: Tensor, ransac: Ransac) -> Tensor:
    """Those valid pixels of each image that the best line from prediction to target explains.

    An image's result does not depend on the others in its batch. At least one valid pixel is kept, if there is any.

    Args:
        prediction: [B, 1, H, W], finite where valid.
        target: [B, 1, H, W], finite where valid.
        valid: [B, 1, H, W] bool.
        ransac: settings.

    Returns:
        [B, 1, H, W] bool.
    """
    kept = torch.zeros_like(valid)
    for i, usable in enumerate(valid):
        if usable.any():
            kept[i, usable] = _explained(prediction[i, usable], target[i, usable], ransac)
    return kept


def _explained(prediction: Tensor, target: Tensor, ransac: Ransac) -> Tensor:
    """[N] and [N] -> [N] bool: within the tolerance of the candidate line that has most pixels there."""
    generator = torch.Generator("cpu").manual_seed(ransac.seed)
    drawn = torch.randint(len(target), (2, ransac.num_trials), generator=generator, device="cpu")
    first, second = drawn.to(target.device)
    rise, run = target[second] - target[first], prediction[second] - prediction[first]
    # Two equal predictions give a level line: the right one for a constant prediction, and else not chosen.
    scale = torch.where(run != 0, rise / run, 0.0)
    deviation = (target - median(target)).abs()
    typical = median(deviation)
    tolerance = ransac.tolerance * (typical if typical > 0 else deviation.mean())  # 0 where most have one depth

    def near(trial: Tensor, p: Tensor, t: Tensor) -> Tensor:
        """Whether pixels [N] lie at the lines [T, 1]: [T, N]."""
        line = scale[trial] * (p - prediction[first[trial]]) + target[first[trial]]
        return (line - t).abs() <= tolerance

    scored = torch.randperm(len(target), generator=generator, device="cpu")[:_NUM_SCORED].to(target.device)
    every = torch.arange(ransac.num_trials, device=target.device)[:, None]
    votes = near(every, prediction[scored], target[scored]).sum(1)
    return near(votes.argmax(), prediction, target)


def median(values: Tensor) -> Tensor:
    """[N] -> scalar: the middle value, of an even number the mean of the middle two; NaN without any."""
    count = len(values)
    if count == 0:
        return values.new_tensor(torch.nan)
    lower, upper = (values.kthvalue(k).values for k in ((count + 1) // 2, count // 2 + 1))
    return (lower + upper) / 2
