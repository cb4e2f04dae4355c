"""What the network says about an image: raw log depth, its spread, and the depth maps made from it.

The network estimates log depth up to scale and shift, so no unit and no ratio far / near is certain.
`depth` is the authors' output: exp, then minimum and maximum of each image to 0 and 1. `relative_depth` and
`disparity` keep the ratios that the network estimated, for whoever needs positive depth (normals, points,
ControlNet). All three are computed when they are asked for: a long video holds log depth alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class DepthPrediction:
    """Depth of a batch of images, as the network output that it comes from; made by `from_log_depth`.

    Attributes:
        log_depth: [B, 1, H, W] float32, affine-invariant log depth as the network gave it (about [-1, 1]);
            larger = farther.
        uncertainty: [B, 1, H, W] float32 >= 0, the ensemble's spread in log depth; 0 for one member.
        working_log_depth: [B, 1, h, w] float32, `log_depth` at the size that the network saw the images at, before it
            was enlarged; None where it was not, or nobody has it.

    Raises:
        ValueError: another shape or dtype, shapes that differ, a NaN or infinite value, or one out of range.
    """

    log_depth: Tensor
    uncertainty: Tensor
    working_log_depth: Tensor | None = None

    def __post_init__(self) -> None:
        for name in ("log_depth", "uncertainty"):
            _check_map(name, getattr(self, name))
        if self.working_log_depth is not None:
            _check_map("working_log_depth", self.working_log_depth)
            found, wanted = len(self.working_log_depth), len(self.log_depth)
            if found != wanted:
                raise ValueError(f"working_log_depth must be of the same images, but came of {found}, not {wanted}.")
        if self.log_depth.shape != self.uncertainty.shape:
            raise ValueError(
                "log_depth and uncertainty must have one shape, but came as "
                f"{list(self.log_depth.shape)} and {list(self.uncertainty.shape)}."
            )
        if self.uncertainty.amin() < 0:
            raise ValueError(f"uncertainty must be >= 0, but its minimum is {self.uncertainty.amin():.4g}.")

    @classmethod
    def from_log_depth(
        cls, log_depth: Tensor, uncertainty: Tensor, working_log_depth: Tensor | None = None
    ) -> DepthPrediction:
        """The prediction of log depth in any precision.

        Args:
            log_depth: [B, 1, H, W], any floating dtype; larger = farther.
            uncertainty: the same shape, >= 0.
            working_log_depth: what `log_depth` was enlarged from.

        Raises:
            ValueError: not [B, 1, H, W], shapes that differ, or a NaN or infinite value.
        """
        working_log_depth = None if working_log_depth is None else working_log_depth.float()
        return cls(log_depth.float(), uncertainty.float(), working_log_depth)

    @property
    def depth(self) -> Tensor:
        """exp(log_depth), with each image's minimum at 0 and maximum at 1: [B, 1, H, W], 0 = nearest, 1 = farthest.

        A constant image gives 0 everywhere. Source: https://github.com/CompVis/depth-fm, `depthfm/dfm.py`.
        """
        return over_own_range(self.relative_depth)

    @property
    def relative_depth(self) -> Tensor:
        """exp(log_depth - its maximum), depth up to a factor and a power: [B, 1, H, W] in (0, 1], 1 = farthest."""
        return exp_below_max(self.log_depth)

    @property
    def disparity(self) -> Tensor:
        """1 / relative_depth, scaled to 1 at the nearest point: [B, 1, H, W] in (0, 1], larger = nearer."""
        return exp_below_max(-self.log_depth)

    def disparity_from(self, nearest: float | Tensor) -> Tensor:
        """`disparity` that is 1 at a log depth (or that of each image, [B or 1, 1, 1, 1]): with the least of a whole
        video, its frames compare.
        """
        return _positive_exp(nearest - self.log_depth)

    @property
    def shared_relative_depth(self) -> Tensor:
        """`relative_depth` with one factor for all images: 1 is the batch's farthest point, so frames compare."""
        return exp_below_max(self.log_depth, over_batch=True)

    @property
    def maps(self) -> tuple[Tensor, ...]:
        """All maps that are there, in the order of the fields."""
        maps = (self.log_depth, self.uncertainty)
        return maps if self.working_log_depth is None else (*maps, self.working_log_depth)

    def _comfy_cache_tensors(self) -> tuple[Tensor, ...]:
        """`maps`; ComfyUI's cache asks under this name which of its results are large."""
        return self.maps

    def get_ram_usage(self) -> int:
        """Their bytes in memory, under the name that ComfyUI's cache asked for until 2026."""
        return sum(stored(values).nbytes for values in self.maps)


def stored(values: Tensor) -> Tensor:
    """What memory holds of a map: one cell along every axis that it was expanded on, as an ensemble of one's spread."""
    return values[tuple(slice(None) if step else slice(1) for step in values.stride())]


def exp_below_max(log_values: Tensor, *, over_batch: bool = False) -> Tensor:
    """exp(x - max x of each image, or of all): no overflow, and positive even where the range exceeds float32's."""
    highest = log_values.amax() if over_batch else log_values.amax((1, 2, 3), keepdim=True)
    return _positive_exp(log_values - highest)


def over_own_range(values: Tensor) -> Tensor:
    """[B, 1, H, W] of any values with each image's minimum at 0 and maximum at 1; 0 where it is constant."""
    return stretch(values, values.amin((1, 2, 3), keepdim=True), values.amax((1, 2, 3), keepdim=True))


def stretch(values: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """The values with `low` at 0 and `high` at 1, and beyond these unclamped; only shifted where the two are equal.

    Args:
        values: [B, 1, H, W].
        low, high: of shapes that expand to it, low <= high.
    """
    extent = high - low
    return (values - low) / extent.where(extent > 0, 1.0)


def _positive_exp(log_values: Tensor) -> Tensor:
    """exp that is positive even where float32 would round it to 0."""
    return log_values.exp().clamp_min(torch.finfo(log_values.dtype).tiny)


def _check_map(name: str, values: Tensor) -> None:
    if values.ndim != 4 or values.shape[1] != 1 or values.numel() == 0:
        raise ValueError(f"{name} must be [B, 1, H, W] with at least one pixel, but came as {list(values.shape)}.")
    if values.dtype != torch.float32:
        raise ValueError(f"{name} must be float32, but came as {values.dtype}; convert it with .float().")
    # The ends tell, since NaN spreads to them; a map of where would take as much memory as a long video's depth.
    if not torch.stack(stored(values).aminmax()).isfinite().all():
        broken = int((~values.isfinite()).sum())
        raise ValueError(
            f"{name} has {broken} NaN or infinite values among {values.numel()}; if the network ran in half "
            "precision, run it, or its VAE, in float32 or bfloat16; if in float32, its weights are damaged: get the "
            "model's file again."
        )
