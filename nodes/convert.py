"""ComfyUI's layouts to those of `depthfm_core`, and back."""

from einops import rearrange
from torch import Tensor


def image_from_comfy(image: Tensor) -> Tensor:
    """IMAGE [B, H, W, 3 or 4] of any floating dtype to RGB [B, 3, H, W] float32 in [0, 1].

    Alpha is dropped, and what resizing and sharpening nodes leave outside [0, 1] is clipped, as ComfyUI's own "Save
    Image" does.

    Raises:
        ValueError: for another number of dimensions or channels, or a batch without a frame.
    """
    if image.ndim != 4 or image.shape[-1] not in (3, 4) or image.numel() == 0:
        raise ValueError(
            f"The image has shape {list(image.shape)}; expected [B, H, W, 3], or 4 with alpha, and at least one frame."
        )
    return rearrange(image[..., :3].float().clamp(0, 1), "b h w c -> b c h w").contiguous()


def image_to_comfy(image: Tensor) -> Tensor:
    """RGB [B, 3, H, W] to IMAGE [B, H, W, 3], float32 on the CPU."""
    return rearrange(image, "b c h w -> b h w c").contiguous().float().cpu()


def mask_to_comfy(values: Tensor) -> Tensor:
    """[B, 1, H, W] to MASK [B, H, W] in [0, 1], float32 on the CPU; larger values are clipped."""
    return rearrange(values, "b 1 h w -> b h w").float().clamp(0, 1).cpu()
