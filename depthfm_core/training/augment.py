"""Views of a frame: random crops, flips, and photometric changes that carry rendered pictures towards photographs.

The geometry changes picture and depth together; the photometry touches the picture alone. Everything is drawn from the
generator that is handed in, so a view is a function of its seed.
"""

import io
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from ..data.sample import DepthSample
from .effects import blurred, turned, vignetted


@dataclass(frozen=True)
class ViewSettings:
    """A canvas and how crops are drawn for it.

    Attributes:
        height_px, width_px: size of the canvas.
        min_scale: the smallest crop, as a share of the largest that fits into the frame.
        aspect_jitter: the crop's aspect differs from the canvas's by up to this share, either way.
        flip_probability: share of views that are mirrored.

    Raises:
        ValueError: for a share outside of what it is a share of.
    """

    height_px: int
    width_px: int
    min_scale: float = 0.6
    aspect_jitter: float = 0.1
    flip_probability: float = 0.5

    def __post_init__(self) -> None:
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale is {self.min_scale}; choose above 0 and up to 1 (the largest crop).")
        if not 0 <= self.aspect_jitter < 1:
            raise ValueError(f"aspect_jitter is {self.aspect_jitter}; choose from 0 (none) to below 1.")
        check_shares(self, "flip_probability")

    @property
    def varies(self) -> bool:
        """Whether views of one frame differ, whatever the frame's shape."""
        return self.min_scale < 1 or self.aspect_jitter > 0 or 0 < self.flip_probability < 1


@dataclass(frozen=True)
class PhotometricSettings:
    """How strongly pictures are changed; each effect is drawn between nothing and its strength.

    Attributes:
        probability: the chance of each effect that need not happen (vignette, blur, noise, JPEG).
        exposure_stops: brightness in linear light, up to this many stops either way.
        gamma: exponent up to this factor either way.
        contrast: spread around the mean, up to this share either way.
        white_balance: standard deviation of each channel's log gain.
        saturation: colourfulness up to this share either way.
        hue_deg: rotation of the colour circle, up to this angle either way.
        grey_probability: share of pictures without colour.
        vignette: darkening of the corners, at most this share.
        blur_px: standard deviation of a Gaussian blur, at most.
        noise: standard deviation of Gaussian noise, at most.
        jpeg_quality: the worst JPEG quality, 1 to 100.
        border_probability: share of pictures with a plain border over their edges, as scans and sensors leave it; the
            depth goes on beneath.
        border: the widest border, as a share of the picture's side.

    Raises:
        ValueError: for a share outside 0..1, a border of half a side or more, a negative strength, a factor below 1, or
            a quality that JPEG does not have.
    """

    probability: float = 0.5
    exposure_stops: float = 1.0
    gamma: float = 1.5
    contrast: float = 0.4
    white_balance: float = 0.12
    saturation: float = 0.7
    hue_deg: float = 60.0
    grey_probability: float = 0.08
    vignette: float = 0.5
    blur_px: float = 1.2
    noise: float = 0.06
    jpeg_quality: int = 30
    border_probability: float = 0.12
    border: float = 0.04

    def __post_init__(self) -> None:
        check_shares(
            self, "probability", "contrast", "saturation", "grey_probability", "vignette", "border_probability"
        )
        for name in ("exposure_stops", "white_balance", "hue_deg", "blur_px", "noise"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 0 (none) or more.")
        if not 1 <= self.gamma < math.inf:
            raise ValueError(f"gamma is {self.gamma}; choose 1 (none) or more.")
        if not 0 <= self.border < 0.5:
            raise ValueError(f"border is {self.border}; choose from 0 (none) to below 0.5, where nothing is left.")
        if not 1 <= self.jpeg_quality <= 100:
            raise ValueError(f"jpeg_quality is {self.jpeg_quality}; choose from 1 to 100.")

    @property
    def changes_pictures(self) -> bool:
        """Whether any effect has a strength."""
        always = ("exposure_stops", "contrast", "white_balance", "saturation", "hue_deg")
        sometimes = ("probability", "grey_probability", "border_probability")
        return self.gamma > 1 or any(getattr(self, name) > 0 for name in (*always, *sometimes))


def check_shares(settings: object, *names: str) -> None:
    """Raises ValueError for settings that are not from 0 to 1."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise ValueError(f"{name} is {getattr(settings, name)}; choose from 0 (none) to 1.")


def draw_view(sample: DepthSample, settings: ViewSettings, rng: np.random.Generator) -> DepthSample:
    """A random crop on the canvas: the picture resampled with antialiasing, depth by the nearest pixel.

    Nearest, because a mean of two depths across an edge is the depth of nothing.
    """
    top, left, height, width = _draw_box(sample.image.shape[-2:], settings, rng)
    flip = rng.random() < settings.flip_probability
    canvas = (settings.height_px, settings.width_px)

    def view(tensor: Tensor, **how: object) -> Tensor:
        crop = tensor[None, :, top : top + height, left : left + width].float()
        resized = F.interpolate(crop, canvas, **how)[0]
        return resized.flip(-1) if flip else resized

    return DepthSample(
        image=view(sample.image, mode="bilinear", antialias=True).clamp(0, 1),
        depth_m=view(sample.depth_m, mode="nearest-exact"),
        valid=view(sample.valid, mode="nearest-exact") > 0.5,
    )


def _draw_box(size: tuple[int, int], settings: ViewSettings, rng: np.random.Generator) -> tuple[int, int, int, int]:
    """Top, left, height and width of a crop within a frame of `size`."""
    frame_height, frame_width = size
    jitter = math.log1p(settings.aspect_jitter)
    aspect = settings.width_px / settings.height_px * math.exp(rng.uniform(-jitter, jitter))
    scale = rng.uniform(settings.min_scale, 1)
    height = max(1, round(scale * min(frame_height, frame_width / aspect)))
    width = min(frame_width, max(1, round(height * aspect)))
    return rng.integers(frame_height - height + 1), rng.integers(frame_width - width + 1), height, width


def change_photometry(image: Tensor, settings: PhotometricSettings, rng: np.random.Generator) -> Tensor:
    """The picture as another camera might have taken it, [3, H, W] in [0, 1].

    In the order of light: exposure and white balance, lens (vignette, blur), sensor noise, tone, color, border, JPEG.
    """

    image = image[None]

    def sometimes(effect: Callable[[Tensor, float], Tensor], strength: float) -> None:
        nonlocal image
        amount = rng.uniform(0, strength)
        if rng.random() < settings.probability:
            image = effect(image, amount)

    gains = rng.normal(0, settings.white_balance, (3, 1, 1)) + _uniform(rng, settings.exposure_stops) * math.log(2)
    image = (image**2.2 * torch.from_numpy(np.exp(gains)).float()).clamp(0, 1) ** (1 / 2.2)
    sometimes(vignetted, settings.vignette)
    sometimes(lambda image, amount: blurred(image, np.array([amount])), settings.blur_px)
    sometimes(partial(_noisy, rng), settings.noise)
    image = image.clamp(0, 1) ** math.exp(_uniform(rng, math.log(settings.gamma)))
    image = image.mean() + (image - image.mean()) * (1 + _uniform(rng, settings.contrast))
    image = _change_color(image, settings, rng).clamp(0, 1)
    if rng.random() < settings.border_probability:
        image = _border(image, settings.border, rng)
    sometimes(_jpeg, 100.0 - settings.jpeg_quality)
    return image[0]


def _uniform(rng: np.random.Generator, bound: float) -> float:
    return float(rng.uniform(-bound, bound))


def _change_color(image: Tensor, settings: PhotometricSettings, rng: np.random.Generator) -> Tensor:
    """Rotates hue about the grey axis and scales the distance from it."""
    saturation = 1 + _uniform(rng, settings.saturation)
    angle = math.radians(_uniform(rng, settings.hue_deg))
    if rng.random() < settings.grey_probability:
        saturation = 0.0
    return turned(image, torch.tensor(angle), saturation)


def _border(image: Tensor, widest: float, rng: np.random.Generator) -> Tensor:
    """White, black or grey along each edge, every edge with its own width."""
    height, width = image.shape[-2:]
    top, bottom = (round(share * height) for share in rng.uniform(0, widest, 2))
    left, right = (round(share * width) for share in rng.uniform(0, widest, 2))
    framed = torch.full_like(image, rng.choice([0.0, 1.0, rng.random()]))
    inside = (..., slice(top, height - bottom), slice(left, width - right))
    framed[inside] = image[inside]
    return framed


def _noisy(rng: np.random.Generator, image: Tensor, amount: float) -> Tensor:
    return image + amount * torch.from_numpy(rng.standard_normal(image.shape, dtype=np.float32))


def _jpeg(image: Tensor, amount: float) -> Tensor:
    buffer = io.BytesIO()
    pixels = (image[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).contiguous()
    Image.fromarray(pixels.numpy()).save(buffer, "JPEG", quality=round(100 - amount))
    return torch.from_numpy(np.array(Image.open(buffer))).permute(2, 0, 1)[None].float() / 255
