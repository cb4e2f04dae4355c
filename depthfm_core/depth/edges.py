"""Edges of a depth map where the picture has them, as sharp as the picture shows them.

A latent cell is many pixels wide, and a small network blurs beyond that: a silhouette comes out as a ramp. Each pixel
of a ramp takes the weighted median of the depth around it, where pixels of its own color weigh most and those in the
middle of a ramp least. So it joins either side and makes no depth in between. Slopes are left alone, or what is printed
on them would bend them.

Source: Ma, He, Wei, Sun, Wu, "Constant Time Weighted Median Filtering for Stereo Matching and Beyond", ICCV 2013, of
which this is the plain form, on the few pixels that it changes. Reach and weights were chosen on rendered scenes
(docs/nano.md).
"""

import math
from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from ..resize import enlarge, shrink

_TAPS = 3  # to each side: 49 pixels have a say
_SPACINGS = (2, 1, 1)  # of the taps of each pass, in pixels
_OWN_COLOR = 0.18  # square of what counts as a pixel's own color, of the mean square of the differences around it
_LEAST_COLOR = 0.04  # distance in RGB of [0, 1] that it is in any case, since pictures have noise
_RAMP = 0.2  # step of depth within three pixels that halves the say of the one between, of the map's whole range
_SPACE_SIGMA = 2.0  # in taps
_SLOPE_PX = 6  # so far around it a pixel's depth is compared with the mean, which a slope shares
_LEAST_STEP = 0.08  # what that difference must vary by beside an edge, of the map's whole range
_SURFACE_SIGMA = 0.03  # how far depth belongs to one surface, of the map's whole range
_AT_ONCE = 1 << 14  # pixels, each with 49 others: what fits into a CPU's cache


def sharpen_edges(log_depth: Tensor, image: Tensor) -> Tensor:
    """A depth map with its edges moved onto those of the picture, [B, 1, H, W].

    Scale and shift of the depth make no difference: the sharpened map has them, too.

    Args:
        log_depth: [B, 1, H, W] floating point, in any unit.
        image: [B, 3, H, W] RGB in [0, 1], of the same size.

    Raises:
        ValueError: for shapes that differ.
    """
    _check_same_size(log_depth, image)
    for spacing in _SPACINGS:
        beside_steps = _beside_steps(log_depth, _TAPS * spacing)
        log_depth = _median(log_depth, image, spacing, beside_steps)
    return log_depth


def resize_sharply(log_depth: Tensor, image: Tensor) -> Tensor:
    """A depth map at the size of a picture, [B, 1, H, W], its edges kept sharp on the way.

    Sizes go up by at most two at a time, so that an edge is never wider than the few pixels that a median looks at. A
    map that is made smaller goes there at once, since the ramps that come of it are of a pixel or two.

    Args:
        log_depth: [B, 1, h, w] floating point with sharp edges, as `sharpen_edges` returns it.
        image: [B, 3, H, W] RGB in [0, 1] of the same view.
    """
    for size in _sizes(tuple(log_depth.shape[-2:]), tuple(image.shape[-2:])):
        smaller_image, resized = shrink(image, size), enlarge(log_depth, size)
        grows = all(before <= after for before, after in zip(log_depth.shape[-2:], size, strict=True))
        # Found on the smaller map: on the way up that takes a quarter of the time, on the way down it may be flat.
        beside_steps = _beside_steps(log_depth if grows else resized, _TAPS)
        beside_steps = F.interpolate(beside_steps.float(), size, mode="nearest-exact") > 0
        for _ in range(2):
            resized = _median(resized, smaller_image, 1, beside_steps)
        log_depth = resized
    return log_depth


def _median(log_depth: Tensor, image: Tensor, spacing: int, chosen: Tensor) -> Tensor:
    """One pass: every chosen pixel takes the weighted median of what lies around it, `spacing` pixels apart.

    And then the mean of what is about as deep, in any color, or a curved surface would become a staircase, which shows
    in normals.
    """
    extent = _extent(log_depth)
    height, width = log_depth.shape[-2:]
    down, across, nearness = _taps(spacing, log_depth)
    sharpened = log_depth.clone(memory_format=torch.contiguous_format)
    for index in range(len(log_depth)):
        values, colors = log_depth[index].flatten(), image[index].flatten(1)  # [H W], [3, H W]
        for pixels in chosen[index].flatten().nonzero().split(_AT_ONCE):  # [N, 1]
            rows = (pixels // width + down).clamp(0, height - 1)
            around = rows * width + (pixels % width + across).clamp(0, width - 1)  # [N, 49]
            difference = colors[:, around] - colors[:, pixels]
            depths = values[around] / extent[index, 0]
            weight = nearness * _likeness((difference * difference).sum(0), nearness) * _flatness(depths)
            median = _mean_near(_weighted_median(depths, weight), depths, nearness)
            sharpened[index].view(-1)[pixels[:, 0]] = median * extent[index, 0]
    return sharpened


def _beside_steps(log_depth: Tensor, reach: int) -> Tensor:
    """Where depth departs from a slope within a reach, bool [B, 1, H, W]: where what a mean leaves varies by a step."""
    bent = log_depth - _mean_around(log_depth)
    both = torch.cat([bent, -bent], 1)  # the maximum of the negative is the minimum
    in_rows = F.max_pool2d(both, (1, 2 * reach + 1), 1, (0, reach))
    step = F.max_pool2d(in_rows, (2 * reach + 1, 1), 1, (reach, 0)).sum(1, keepdim=True)
    return step > _LEAST_STEP * _extent(log_depth)


def _extent(log_depth: Tensor) -> Tensor:
    """Largest minus smallest value of each map, [B, 1, 1, 1]."""
    return log_depth.amax((1, 2, 3), keepdim=True) - log_depth.amin((1, 2, 3), keepdim=True)


def _mean_around(log_depth: Tensor) -> Tensor:
    """Of a square around each pixel, [B, 1, H, W], the rim repeated beyond it: on a slope, the pixel's own value."""
    side = 2 * _SLOPE_PX + 1
    padded = F.pad(log_depth, (_SLOPE_PX,) * 4, mode="replicate")
    return F.avg_pool2d(F.avg_pool2d(padded, (1, side), 1), (side, 1), 1)


def _taps(spacing: int, like: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How far down and across the neighbours are, in pixels, and their weight by distance, [49] each."""
    steps = torch.arange(-_TAPS, _TAPS + 1, device=like.device)
    down, across = (offset.flatten() for offset in torch.meshgrid(steps, steps, indexing="ij"))
    nearness = torch.exp(-(down**2 + across**2).to(like) / (2 * _SPACE_SIGMA**2))
    return spacing * down, spacing * across, nearness


def _likeness(square: Tensor, nearness: Tensor) -> Tensor:
    """How much like a pixel's color those around it are, [N, 49], of the squared distances: 1 for its own.

    What parts two surfaces in the dark or in haze is noise on a colorful one, so the contrast around decides.
    """
    contrast = (square * nearness).sum(1, keepdim=True) / nearness.sum()
    return torch.exp(-square / (2 * (_OWN_COLOR * contrast).clamp_min(_LEAST_COLOR**2)))


def _flatness(depths: Tensor) -> Tensor:
    """1 on a surface, towards 0 in the middle of a steep ramp, [N, 49]: there, depth is of neither side."""
    square = depths.unflatten(1, (1, 2 * _TAPS + 1, 2 * _TAPS + 1))
    step = F.max_pool2d(torch.cat([square, -square], 1), 3, 1, 1).sum(1)
    return 1 / (1 + (step.flatten(1) / _RAMP).square())


def _weighted_median(values: Tensor, weight: Tensor) -> Tensor:
    """Of each row, [N, K] to [N]: the first of its values in order with which half of the weight is reached."""
    in_order, order = values.sort(1)
    reached = weight.gather(1, order).cumsum(1)
    middle = torch.searchsorted(reached, reached[:, -1:] / 2)
    return in_order.gather(1, middle)[:, 0]


def _mean_near(centre: Tensor, values: Tensor, weight: Tensor) -> Tensor:
    """Mean by weights, [K], of each row, [N, K] to [N], of what is about as deep as the row's centre, [N]."""
    weight = weight * torch.exp(-(((values - centre[:, None]) / _SURFACE_SIGMA) ** 2) / 2)
    return (weight * values).sum(1) / weight.sum(1)


def _sizes(start: tuple[int, int], end: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Of both sides, from the one to the other in even steps of at most two times; nothing where both are the same."""
    if start == end:
        return
    growth = max(last / first for first, last in zip(start, end, strict=True))
    count = max(1, math.ceil(math.log2(growth) - 1e-9))
    for index in range(1, count + 1):
        yield tuple(round(first * (last / first) ** (index / count)) for first, last in zip(start, end, strict=True))


def _check_same_size(log_depth: Tensor, image: Tensor) -> None:
    maps, pictures = tuple(log_depth.shape), tuple(image.shape)
    if len(maps) != 4 or pictures != (maps[0], 3, *maps[2:]) or maps[1] != 1:
        raise ValueError(
            f"Depth came as {list(maps)} and pictures as {list(pictures)}; expected [B, 1, H, W] and [B, 3, H, W]."
        )
