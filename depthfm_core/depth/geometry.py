"""Depth as the geometry dictionaries that ComfyUI's own MoGe and Depth Anything 3 nodes take.

Those nodes make meshes, fields of view and normal maps of a dictionary, so that a depth map in that form can have
them too. Camera axes are OpenCV's (x right, y down, z forward). What the two dictionaries disagree on is where a
pixel's center lies, and so the intrinsics: MoGe counts the image as 0 to 1, Depth Anything in pixels with the first
center at 0.

Source: https://github.com/comfyanonymous/ComfyUI, `comfy_extras/nodes_moge.py` and `nodes_depth_anything_3.py`.
"""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor

from .normals import CONVENTIONS
from .points import focal_length, unproject
from .predicted_normals import predicted_normals
from .prediction import DepthPrediction


def moge_geometry(
    prediction: DepthPrediction, image: Tensor, *, fov_deg: float = 60.0, focal_px: float | None = None
) -> dict[str, Tensor]:
    """A MOGE_GEOMETRY of a pinhole camera: points, depth, normals and intrinsics, channels last, on the CPU.

    Depth has no unit: the farthest point of each image is at 1.

    Args:
        prediction: the depth of a batch of images, at least 2 x 2.
        image: [B, 3, H, W] in [0, 1], the images that it is of.
        fov_deg: horizontal field of view in degrees; not used if `focal_px` is given.
        focal_px: focal length in pixels.

    Returns:
        points [B, H, W, 3], depth [B, H, W], intrinsics [B, 3, 3] (fx / W, fy / H, center 0.5), mask [B, H, W] bool
        (all of it), normal [B, H, W, 3] (a wall that faces the camera has (0, 0, -1)), image [B, H, W, 3].

    Raises:
        ValueError: an image of another size or number than the depth, or a camera out of range.
    """
    depth, image, focal_px = _camera(prediction, image, fov_deg, focal_px)
    height, width = depth.shape[2:]
    to_camera = depth.new_tensor(CONVENTIONS["opengl"])  # signs, so they also lead back
    intrinsics = depth.new_tensor([[focal_px / width, 0, 0.5], [0, focal_px / height, 0.5], [0, 0, 1]])
    return {
        "points": _channels_last(unproject(depth, focal_px)),
        "depth": depth[:, 0],
        "intrinsics": intrinsics.repeat(len(depth), 1, 1),
        "mask": torch.ones_like(depth[:, 0], dtype=torch.bool),
        "normal": _channels_last(predicted_normals(prediction, focal_px=focal_px)) * to_camera,
        "image": image,
    }


def da3_geometry(
    prediction: DepthPrediction, image: Tensor, *, fov_deg: float = 60.0, focal_px: float | None = None
) -> dict[str, Tensor | str]:
    """A DA3_GEOMETRY of single views: depth, the camera and the image. Arguments and errors: `moge_geometry`.

    Returns:
        depth [B, H, W], intrinsics [1, B, 3, 3] in pixels, image [B, H, W, 3], mode "mono"; on the CPU.
    """
    depth, image, focal_px = _camera(prediction, image, fov_deg, focal_px)
    height, width = depth.shape[2:]
    intrinsics = depth.new_tensor([[focal_px, 0, (width - 1) / 2], [0, focal_px, (height - 1) / 2], [0, 0, 1]])
    return {
        "depth": depth[:, 0],
        "intrinsics": intrinsics.repeat(1, len(depth), 1, 1),
        "image": image,
        "mode": "mono",
    }


def check_belongs(prediction: DepthPrediction, image: Tensor) -> None:
    """Raises ValueError unless the image [B, 3, H, W] has the number and size of the prediction's."""
    wanted = [len(prediction.log_depth), 3, *prediction.log_depth.shape[2:]]
    if list(image.shape) != wanted:
        raise ValueError(
            f"The image is {list(image.shape)}, but its depth asks for {wanted}; "
            "connect the images that the depth was estimated from."
        )


def _camera(
    prediction: DepthPrediction, image: Tensor, fov_deg: float, focal_px: float | None
) -> tuple[Tensor, Tensor, float]:
    """Positive depth [B, 1, H, W] and the image [B, H, W, 3], both on the CPU, and the focal length in pixels."""
    check_belongs(prediction, image)
    depth = prediction.relative_depth.cpu()
    return depth, _channels_last(image.cpu()), focal_length(depth.shape[3], fov_deg, focal_px)


def _channels_last(values: Tensor) -> Tensor:
    return rearrange(values, "b c h w -> b h w c").contiguous()
