"""ComfyUI's layouts to those of `depthfm_core`, and back."""

import comfy.model_management as mm
import torch
from einops import rearrange
from torch import Tensor


def channels_first(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, 1, 3 or 4] as [B, 3, H, W], gray in all three, alpha dropped.

    It is a view, so that a long video is not copied whole.

    Raises:
        ValueError: for another number of dimensions or channels, or a batch without a frame.
    """
    if image.ndim != 4 or image.shape[-1] not in (1, 3, 4) or image.numel() == 0:
        raise ValueError(
            f"The image has shape {list(image.shape)}; expected [B, H, W, 3], or 4 with alpha, or 1 if it is gray, and "
            "at least one frame."
        )
    return rearrange(image[..., :3].expand(*image.shape[:3], 3), "b h w c -> b c h w")


def rgb(image: Tensor) -> Tensor:
    """Some frames of `channels_first` as float32 in [0, 1].

    What resizing and sharpening nodes leave outside [0, 1] is clipped, as ComfyUI's own "Save Image" does.
    """
    return image.float().clamp(0, 1).contiguous()


def image_to_comfy(image: Tensor) -> Tensor:
    """RGB [B, 3, H, W] to IMAGE [B, H, W, 3], as `_handed_on`."""
    return _handed_on(rearrange(image, "b c h w -> b h w c").contiguous())


def mask_to_comfy(values: Tensor) -> Tensor:
    """[B, 1, H, W] to MASK [B, H, W] in [0, 1], as `_handed_on`; larger values are clipped."""
    return _handed_on(rearrange(values, "b 1 h w -> b h w").clamp(0, 1))


def _handed_on(picture: Tensor) -> Tensor:
    """Where and in which dtype core's nodes hand on theirs: the CPU and float32, unless ComfyUI was told otherwise."""
    dtype = mm.intermediate_dtype() if hasattr(mm, "intermediate_dtype") else torch.float32  # newer than 0.3.75
    return picture.to(mm.intermediate_device(), dtype)
