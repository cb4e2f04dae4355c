"""ComfyUI's layouts to those of `depthfm_core`, and back."""

from einops import rearrange
from torch import Tensor


def channels_first(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, 3 or 4] as [B, 3, H, W], alpha dropped; a view, so that a long video is not copied whole.

    Raises:
        ValueError: for another number of dimensions or channels, or a batch without a frame.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or image.numel() == 0:
        raise ValueError(
            f"The image has shape {list(image.shape)}; expected [B, H, W, 3], or 4 with alpha, and at least one frame."
        )
    return rearrange(image[..., :3], "b h w c -> b c h w")


def rgb(image: Tensor) -> Tensor:
    """Some frames of `channels_first` as float32 in [0, 1].

    What resizing and sharpening nodes leave outside [0, 1] is clipped, as ComfyUI's own "Save Image" does.
    """
    return image.float().clamp(0, 1).contiguous()


def image_to_comfy(image: Tensor) -> Tensor:
    """RGB [B, 3, H, W] to IMAGE [B, H, W, 3], float32 on the CPU."""
    return rearrange(image, "b c h w -> b h w c").contiguous().float().cpu()


def mask_to_comfy(values: Tensor) -> Tensor:
    """[B, 1, H, W] to MASK [B, H, W] in [0, 1], float32 on the CPU; larger values are clipped."""
    return rearrange(values, "b 1 h w -> b h w").float().clamp(0, 1).cpu()
