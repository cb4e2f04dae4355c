"""What the trainings draw from a `FrameStream`: pictures for the autoencoder, latents for the velocity network."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..model.codec import LatentCodec
from .augment import PhotometricSettings, ViewSettings
from .batched_views import change_photometry_of_batch, draw_views, normalize_targets
from .latents import LatentBatch, encode
from .stream import FrameStream, StreamSettings
from .target import NormalizationSettings


@dataclass(frozen=True)
class StreamedViews:
    """Random views of the frames that are there.

    Attributes:
        stream: the frames.
        photometry: how pictures are changed.
        normalization: what depth becomes.
    """

    stream: FrameStream
    photometry: PhotometricSettings
    normalization: NormalizationSettings

    def draw(self, count: int, view: ViewSettings, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Pictures [B, 3, h, w] and depth [B, 1, h, w], normalized, both in [-1, 1], on the stream's device.

        Raises:
            RuntimeError: rendering failed.
        """
        self.stream.check()
        picked = torch.from_numpy(rng.integers(len(self.stream), size=count)).to(self.stream.images.device)
        images, depths_m = draw_views(self.stream.images[picked], self.stream.depths_m[picked], view, rng)
        pictures = change_photometry_of_batch(images, self.photometry, rng) * 2 - 1
        return pictures, normalize_targets(depths_m, self.normalization)


class StreamedLatents:
    """Latents of views that are made as the training goes, in the place of a `LatentSet`.

    Encoding costs more than a small network's step, so a step encodes a few new views, which take the place of the
    oldest, and draws its batch from all that are kept.

    Args:
        views: where views come from; their sky counts, as the far plane.
        view: the canvas and how it is filled.
        settings: how many latents are there at first, how many are kept, and how many a step adds.
        codec: moves to the stream's device.

    Attributes:
        size: height and width of a latent.
    """

    def __init__(self, views: StreamedViews, view: ViewSettings, settings: StreamSettings, codec: LatentCodec) -> None:
        device = views.stream.images.device
        self._views, self._view, self._settings, self._codec = views, view, settings, codec.to(device)
        self.size = (view.height_px // LatentCodec.downscale, view.width_px // LatentCodec.downscale)
        self._image, self._depth = (
            torch.empty(settings.kept_views, 4, *self.size, dtype=torch.float16, device=device) for _ in range(2)
        )
        self._made = 0

    @property
    def tokens(self) -> int:
        """The number of cells of a latent."""
        return self.size[0] * self.size[1]

    def draw(self, size: int, rng: np.random.Generator) -> LatentBatch:
        """`size` random pairs in float32 on the stream's device."""
        settings = self._settings
        self._add(settings.fresh_views(size) if self._made else min(settings.first_views, settings.kept_views), rng)
        kept = min(self._made, settings.kept_views)
        picked = torch.from_numpy(rng.integers(kept, size=size)).to(self._image.device)
        image_latent, depth_latent = self._image[picked].float(), self._depth[picked].float()
        return LatentBatch(image_latent, depth_latent, torch.ones_like(image_latent[:, :1], dtype=torch.bool))

    def _add(self, count: int, rng: np.random.Generator) -> None:
        """Encodes new views over the oldest."""
        for some in torch.arange(self._made, self._made + count).split(256):
            pictures, depths = self._views.draw(len(some), self._view, rng)
            places = (some % self._settings.kept_views).to(self._image.device)
            self._image[places] = encode(self._codec, pictures).half()
            self._depth[places] = encode(self._codec, depths.expand(-1, 3, -1, -1)).half()
        self._made += count
