"""A batch of depth maps frame by frame, so that a long video needs the memory of its result and of one frame.

The views of a frame take up to thirty planes of its size while they are computed.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TypeVar

import comfy.model_management as mm
import comfy.utils
import torch
import torch.nn.functional as F
from torch import Tensor

from ..depthfm_core.depth.normalize import check_mask
from ..depthfm_core.depth.prediction import DepthPrediction
from .convert import image_to_comfy

T = TypeVar("T")


def empty_maps(num_frames: int, size: Sequence[int], ensemble_size: int) -> dict[str, Tensor]:
    """What `prediction_of` takes, [num_frames, 1, H, W] each, to be filled; one member alone has no uncertainty."""
    names = ("log_depth",) if ensemble_size == 1 else ("log_depth", "uncertainty")
    return {name: torch.empty(num_frames, 1, *size) for name in names}


def prediction_of(maps: dict[str, Tensor], working_log_depth: Tensor | None = None) -> DepthPrediction:
    """The prediction of maps from `empty_maps`; where there is no uncertainty it is 0, of a single value in memory."""
    none = torch.zeros(1, 1, 1, 1).expand_as(maps["log_depth"])
    return DepthPrediction(**{"uncertainty": none} | maps, working_log_depth=working_log_depth)


def frames_of(depth: DepthPrediction, bar: comfy.utils.ProgressBar | None = None) -> Iterator[DepthPrediction]:
    """Each frame as a batch of one; see `one_by_one`."""
    maps = [values.split(1) for values in depth.maps]
    for frame in one_by_one(list(zip(*maps, strict=True)), bar):
        yield DepthPrediction(*frame)


def one_by_one(frames: Sequence[T], bar: comfy.utils.ProgressBar | None = None) -> Iterator[T]:
    """The frames, with ComfyUI's progress bar; raises its interrupt when the user has cancelled.

    `bar` is the node's, where it has one already; it goes on by one for each frame.
    """
    progress = bar or comfy.utils.ProgressBar(len(frames))
    for frame in frames:
        mm.throw_exception_if_processing_interrupted()
        yield frame
        progress.update(1)


def joined(frames: Iterable[dict[str, Tensor]], num_frames: int) -> dict[str, Tensor]:
    """[1, ...] tensors of each frame as [num_frames, ...] tensors, allocated once."""
    whole = {}
    for index, frame in enumerate(frames):
        for name, values in frame.items():
            if index == 0:
                whole[name] = values.new_empty(num_frames, *values.shape[1:])
            whole[name][index] = values[0]
    return whole


def mask_for(mask: Tensor | None, depth: DepthPrediction) -> Tensor | None:
    """MASK [B, h, w] or [h, w] as [B or 1, 1, H, W] in [0, 1], of the depth's size; resized as ComfyUI's nodes do.

    Raises:
        ValueError: for another number of masks than one or the depth's.
    """
    if mask is None:
        return None
    mask = mask.reshape(-1, 1, *mask.shape[-2:]).float().cpu().clamp(0, 1)
    mask = F.interpolate(mask, depth.log_depth.shape[2:], mode="bilinear")
    check_mask(depth, mask)
    return mask


def picture_of_each(
    depth: DepthPrediction,
    picture: Callable[..., Tensor],
    mask: Tensor | None = None,
    bar: comfy.utils.ProgressBar | None = None,
) -> Tensor:
    """IMAGE [B, H, W, 3] of the pictures [1, 3, H, W] that a view makes of each frame, and of its mask where one is.

    For `bar` see `one_by_one`.
    """
    count = len(depth.log_depth)
    masks = [] if mask is None else [mask.expand(count, -1, -1, -1).split(1)]
    frames = ({"image": image_to_comfy(picture(*frame))} for frame in zip(frames_of(depth, bar), *masks, strict=True))
    return joined(frames, count)["image"]
