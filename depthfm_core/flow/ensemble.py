"""Several runs from different noise, and the one answer that they make together."""

import torch
from torch import Tensor

_LEAST_AGREEMENT = 0.1  # standard deviation of the mean member, of that of a member
_VALUES_AT_ONCE = 1 << 22  # of all members, that are reduced together: medians take several copies
# 1.4826 times the median absolute deviation of few normal values is too small an estimate of their standard deviation,
# of three by a third; times these it is right on average. Measured on 4 million draws of each size, to 0.0006. Those of
# Croux and Rousseeuw 1992, "Time-efficient algorithms for two highly robust estimators of scale", are within 1 % of
# them, and so is their formula for more values, n / (n - 0.8).
_FEW_MEMBERS = {2: 1.196, 3: 1.487, 4: 1.360, 5: 1.217, 6: 1.189, 7: 1.138, 8: 1.127, 9: 1.101}
MAX_ENSEMBLE_SIZE = 1000  # far beyond use; a mistyped number should not fill the memory


def member_noise(seed: int, ensemble_size: int, shape: tuple[int, ...]) -> Tensor:
    """Standard normal noise [ensemble_size, *shape], float32 on the CPU.

    Member e depends on the seed, on e and on the shape alone: not on the device, the ensemble's size, or the other
    images of a batch.

    Raises:
        ValueError: for an ensemble of less than 1 or more than 1000 members, or a seed outside 0..2^64 - 1.
    """
    if not 1 <= ensemble_size <= MAX_ENSEMBLE_SIZE:
        raise ValueError(f"ensemble_size is {ensemble_size}; choose 1 to {MAX_ENSEMBLE_SIZE}.")
    if not 0 <= seed < 2**64:
        raise ValueError(f"seed is {seed}; choose 0 to 2^64 - 1.")
    generator = torch.Generator("cpu").manual_seed(seed)
    plain = {"dtype": torch.float32, "device": "cpu"}  # whatever PyTorch's defaults have been set to
    return torch.stack([torch.randn(shape, generator=generator, **plain) for _ in range(ensemble_size)])


def combine_members(log_depth: Tensor, reduction: str = "mean", align: bool = True) -> tuple[Tensor, Tensor]:
    """[B, E, 1, H, W] -> centre and spread of the members, [B, 1, H, W] each.

    Args:
        log_depth: the members' log depth.
        reduction: "mean" with the standard deviation (unbiased) as spread, or "median" with the median absolute
            deviation times what makes it the standard deviation of normal noise, on average and for so many members.
        align: first fits every member to their mean by scale and shift (least squares), since log depth is known only
            up to these. Range (standard deviation) and level (mean) are then those of the plain mean; for "median" the
            medians of the members' own. False combines them as they are, as the authors' code does.

    Returns:
        Centre and spread; the spread is 0 for one member.

    Raises:
        ValueError: for an unknown reduction, another number of dimensions, or no picture or member at all.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"Unknown reduction {reduction!r}; choose one of {', '.join(REDUCTIONS)}.")
    if log_depth.ndim != 5:
        raise ValueError(f"log_depth has shape {list(log_depth.shape)}; expected [B, E, 1, H, W].")
    if not log_depth.numel():
        raise ValueError(f"log_depth has shape {list(log_depth.shape)}; give at least one picture and one member.")
    if log_depth.shape[1] == 1:
        return log_depth[:, 0], torch.zeros_like(log_depth[:, 0])
    members = _align_to_mean(log_depth, reduction) if align else log_depth
    rows = max(1, _VALUES_AT_ONCE // members[..., :1, :].numel())
    strips = [REDUCTIONS[reduction](strip) for strip in members.split(rows, dim=3)]
    centre, spread = (torch.cat(parts, dim=2) for parts in zip(*strips, strict=True))
    return centre, spread


def _align_to_mean(log_depth: Tensor, reduction: str) -> Tensor:
    """Every member times its scale plus its shift; together the aligned members keep their range and level."""
    level = log_depth.mean((2, 3, 4), keepdim=True)
    centred = log_depth - level  # [B, E, 1, H, W], and the only copy of all members
    target = centred.mean(1)
    variance = torch.stack([_mean_product(member, member) for member in centred.unbind(1)], dim=1)  # [B, E, 1, 1, 1]
    covariance = torch.stack([_mean_product(member, target) for member in centred.unbind(1)], dim=1)
    scale = covariance / variance.clamp_min(1e-12)
    target_range = _mean_product(target, target).sqrt()[:, None]
    if reduction == "median":  # a single wild member widens the mean's range
        deviation = variance.sqrt()
        kept, fitted_range = _middle(deviation)[:, None], _middle(scale * deviation)[:, None]
    else:
        kept, fitted_range = target_range, _range_of_mean(centred, scale)
    scale = scale * kept / fitted_range.clamp_min(1e-12)
    # Members that contradict each other have no common shape to be fitted to; shrinking them, or turning one over,
    # would hide that.
    agree = target_range > _LEAST_AGREEMENT * variance.mean(1, keepdim=True).sqrt()
    agree &= (covariance >= 0).all(1, keepdim=True)
    centre, _ = REDUCTIONS[reduction](level)
    return centred.mul_(torch.where(agree, scale, 1.0)).add_(centre[:, None])


def _range_of_mean(members: Tensor, scale: Tensor) -> Tensor:
    """The standard deviation [B, 1, 1, 1, 1] of the mean of members, each of mean 0, times their scales."""
    total = sum(member * factor for member, factor in zip(members.unbind(1), scale.unbind(1), strict=True))
    mean = total / members.shape[1]
    return _mean_product(mean, mean).sqrt()[:, None]


def _mean_product(a: Tensor, b: Tensor) -> Tensor:
    """Of two maps of each image, [B, 1, H, W], the mean of their product, [B, 1, 1, 1]."""
    return (a * b).mean((1, 2, 3), keepdim=True)


def _mean(members: Tensor) -> tuple[Tensor, Tensor]:
    return members.mean(1), members.std(1)


def _median(members: Tensor) -> tuple[Tensor, Tensor]:
    centre, count = _middle(members), members.shape[1]
    factor = 1.4826 * _FEW_MEMBERS.get(count, count / (count - 0.8))
    return centre, factor * _middle((members - centre[:, None]).abs())


def _middle(members: Tensor) -> Tensor:
    """The median over dimension 1; of an even number, the mean of the middle two."""
    ordered = members.sort(dim=1).values
    count = ordered.shape[1]
    return (ordered[:, (count - 1) // 2] + ordered[:, count // 2]) / 2


REDUCTIONS = {"mean": _mean, "median": _median}
