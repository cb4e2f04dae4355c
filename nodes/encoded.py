"""The pictures that were encoded: what DepthFM Decode brings depth to the size of, and sharpens its edges by."""

import math
from dataclasses import dataclass

from torch import Tensor

from ..depthfm_core.checks import check_image
from ..depthfm_core.depth.prediction import DepthPrediction
from ..depthfm_core.pipeline import at_pictures_size
from ..depthfm_core.resize import Placement, extend, shrink
from .convert import rgb
from .vae import VaeCodec

_Size = tuple[int, int]


@dataclass(frozen=True)
class EncodedPictures:
    """Pictures, of which latents show all but the rim that VAE Encode cuts off; made by `encoded_pictures`.

    Attributes:
        image: [B, 3, H, W] of any floating dtype, one for each frame or one for all.
        placement: from the size that was encoded, before the cut, to that of the pictures.
        margins: what was cut off to the left, right, top and bottom, in pixels of that size.
        sharpen: move the edges of the depth onto those of the pictures.
    """

    image: Tensor
    placement: Placement
    margins: tuple[int, int, int, int]
    sharpen: bool

    def prediction(self, index: int, centre: Tensor, spread: Tensor) -> DepthPrediction:
        """The depth of one frame at its picture's size, of what was decoded, [1, 1, h, w] each."""
        centre, spread = (extend(values, self.margins) for values in (centre, spread))
        return at_pictures_size(centre, spread, self.placement, self._pictures(index) if self.sharpen else None)

    def _pictures(self, index: int) -> tuple[Tensor, Tensor]:
        image = rgb(self.image[index % len(self.image)][None]).cpu()
        check_image(image)
        return shrink(image, self.placement.working_size), image


def encoded_pictures(image: Tensor, num_frames: int, shown: _Size, sharpen: bool) -> EncodedPictures:
    """The pictures of latents that show (H, W) pixels.

    The picture may be the encoded one, or that from which it was scaled. VAE Encode cuts both sides to a multiple of a
    latent's cell, as much off either end: what is missing to the picture's aspect was cut off, and is not stretched.

    Raises:
        ValueError: for another number of pictures, or an aspect of which VAE Encode would not have made the latents'.
    """
    if len(image) not in (1, num_frames):
        raise ValueError(
            f"{len(image)} pictures came for the latents of {num_frames}; connect the images that went into VAE "
            "Encode, as many and in the same order, or a single one for all."
        )
    size = tuple(image.shape[-2:])
    working_size = _size_before_the_cut(size, shown)
    height, width = (side - seen for side, seen in zip(working_size, shown, strict=True))
    margins = (width // 2, width - width // 2, height // 2, height - height // 2)
    return EncodedPictures(image, Placement(size, working_size, (0, 0, 0, 0)), margins, sharpen)


def _size_before_the_cut(size: _Size, shown: _Size) -> _Size:
    """The picture's own size if that is cut to what the latents show, else the smallest of its aspect that holds it."""
    if tuple(side - side % VaeCodec.downscale for side in size) == shown:
        return size
    scale = max(seen / side for side, seen in zip(size, shown, strict=True))
    whole = tuple(round(side * scale) for side in size)
    # Whoever scaled the picture rounded its sides, too: half a pixel of the short one is more of the long one.
    most = VaeCodec.downscale + math.ceil(max(whole) / min(whole) / 2)
    if any(side - seen >= most for side, seen in zip(whole, shown, strict=True)):
        raise ValueError(
            f"The picture is {size[1]}x{size[0]} pixels, but the latents are of one of {shown[1]}x{shown[0]}, another "
            "aspect. Connect the image that went into VAE Encode, or one from which it was scaled and not cropped."
        )
    return whole
