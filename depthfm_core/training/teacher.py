"""Pseudo-depth: what a teacher says of a photograph, as positive depth that training reads.

A teacher gives what it was trained for: meters, depth or inverse depth up to scale and shift, or log depth. Training
takes the logarithm and normalizes it between two percentiles, so a factor cancels and ratios count. A rule for each
kind makes positive depth whose ratios are the teacher's, where it knows them, and reach from 1 / R to 1 where it does
not. R, the dynamic range, is then an assumption: the ratio of the farthest to the nearest depth.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..depth.files import read_image, write_npy, write_png
from ..evaluation.baselines import GIVES, Method
from ..evaluation.protocol import prepare_prediction
from ..resize import resize_long_side

LEAST_DEPTH_M = 1e-3
LEAST_SHARE = 1e-4  # of the farthest depth
MOST_RANGE = 1e6


@dataclass(frozen=True)
class Rule:
    """How a kind of numbers becomes positive depth.

    Attributes:
        convert: float64 values of one picture and R -> depth > 0, in the same order of near and far.
        text: the same as a formula.
        dynamic_range: R unless another one is chosen; None for a rule without.
    """

    convert: Callable[[Tensor, float], Tensor]
    text: str
    dynamic_range: float | None = None


def _meters(depth_m: Tensor, _range: float) -> Tensor:
    return depth_m.clamp_min(LEAST_DEPTH_M)


def _below_farthest(depth: Tensor, _range: float) -> Tensor:
    farthest = depth.amax()
    return (depth / farthest.where(farthest > 0, 1.0)).clamp_min(LEAST_SHARE)


def _linear(depth: Tensor, dynamic_range: float) -> Tensor:
    return 1 / dynamic_range + (1 - 1 / dynamic_range) * _unit(depth)


def _power(log_depth: Tensor, dynamic_range: float) -> Tensor:
    return dynamic_range ** (_unit(log_depth) - 1)


def _inverse(disparity: Tensor, dynamic_range: float) -> Tensor:
    disparity = disparity - disparity.amin().clamp_max(0)
    nearest = disparity.amax()
    return 1 / (1 + (dynamic_range - 1) * disparity / nearest.where(nearest > 0, 1.0))


def _unit(values: Tensor) -> Tensor:
    """From 0 at the smallest value to 1 at the largest; 1 for a constant."""
    low, high = values.aminmax()
    return (values - low) / (high - low) if high > low else torch.ones_like(values)


# What a teacher gives (a key of `GIVES`) -> how it becomes depth.
RULES = {
    "depth_m": Rule(_meters, "d, in meters; at least 0.001"),
    "relative_depth": Rule(_below_farthest, "d / max(d); at least 0.0001"),
    "depth": Rule(_linear, "1 / R + (1 - 1 / R) (d - min(d)) / (max(d) - min(d))", 10),
    "log_depth": Rule(_power, "R ^ (t - 1) with t = (l - min(l)) / (max(l) - min(l))", 10),
    "disparity": Rule(_inverse, "1 / (1 + (R - 1) d / max(d)), d less its minimum where that is negative", 100),
}


def choose_range(gives: str, dynamic_range: float | None = None) -> float | None:
    """R for a kind of numbers: the chosen one or the rule's own; None for a rule without.

    Raises:
        ValueError: for an R that is not above 1 and at most 1e6, or one where the teacher knows the ratios itself.
    """
    own = RULES[gives].dynamic_range
    if dynamic_range is None:
        return own
    if own is None:
        raise ValueError(
            f"The teacher gives {GIVES[gives]}, whose ratios are its own; leave the dynamic range {dynamic_range} out."
        )
    if not 1 < dynamic_range <= MOST_RANGE:
        raise ValueError(
            f"The dynamic range is {dynamic_range}; choose a number above 1 and at most {MOST_RANGE:g}, such as {own}."
        )
    return dynamic_range


def to_depth(values: Tensor, gives: str, dynamic_range: float | None = None) -> Tensor:
    """Positive depth of one picture by the rule of what its teacher gives.

    Args:
        values: [..., H, W], finite.
        gives: a key of `RULES`.
        dynamic_range: R; None is the rule's own.

    Returns:
        The same shape, float32: meters for "depth_m", otherwise depth up to a factor in (0, 1].

    Raises:
        ValueError: as `choose_range`.
    """
    chosen = choose_range(gives, dynamic_range)
    return RULES[gives].convert(values.double(), chosen or 0.0).float()


def read_as_stored(path: Path, long_side_px: int) -> Tensor:
    """The picture as it is stored and as the teacher sees it: [1, 3, H, W] in [0, 1], in steps of 1 / 255.

    Args:
        path: a picture in any format that `read_image` reads.
        long_side_px: a longer picture is made smaller to this; 0 keeps every size.

    Raises:
        ValueError: as `read_image`.
    """
    image = read_image(path)
    if 0 < long_side_px < max(image.shape[2:]):
        image = resize_long_side(image, long_side_px)
    return (image * 255).round() / 255


def estimate_depth(method: Method, image: Tensor, dynamic_range: float | None = None) -> Tensor:
    """The teacher's depth of a picture at the picture's size: [1, 1, H, W], see `to_depth`.

    Raises:
        ValueError: as the method and `to_depth`.
    """
    values = prepare_prediction(method(image), tuple(image.shape[-2:]))
    return to_depth(values, method.gives, dynamic_range)


def label_paths(folder: Path, name: str) -> tuple[Path, Path]:
    """The picture and the depth map of a photograph, in the layout of `data.pairs`.

    Args:
        folder: of the labels.
        name: of the photograph, with its suffix, so that a.jpg and a.webp do not meet.
    """
    return folder / f"{name}.png", folder / f"{name}.npy"


def is_labeled(folder: Path, name: str) -> bool:
    """Whether both files of a photograph are there; each appears whole."""
    return all(path.is_file() for path in label_paths(folder, name))


def write_label(folder: Path, name: str, image: Tensor, depth: Tensor) -> None:
    """Writes both files of a photograph, the picture last, so that a pair that is found is whole.

    Args:
        folder: of the labels; folders are made as needed.
        name: as `label_paths` takes it.
        image: [1, 3, H, W], of `read_as_stored`.
        depth: [1, 1, H, W], of `estimate_depth`.

    Raises:
        OSError, ValueError: for what cannot be written.
    """
    image_path, depth_path = label_paths(folder, name)
    image_path.parent.mkdir(parents=True, exist_ok=True)
    write_npy(depth_path, depth[0, 0])
    write_png(image_path, image[0])
