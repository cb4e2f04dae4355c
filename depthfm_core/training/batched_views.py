"""Views of a batch of frames at once, on the device that the frames are on: `augment` for GPUs.

The settings are those of `augment` and mean the same; the draws differ, since here they are of a batch.
"""

import math

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .augment import PhotometricSettings, ViewSettings
from .effects import blurred, turned, vignetted
from .target import MIN_RANGE, NormalizationSettings

# The luminance table of JPEG's standard, ITU-T T.81, annex K, table K.1.
_JPEG_TABLE = """16 11 10 16 24 40 51 61 12 12 14 19 26 58 60 55 14 13 16 24 40 57 69 56 14 17 22 29 51 87 80 62
18 22 37 56 68 109 103 77 24 35 55 64 81 104 113 92 49 64 78 87 103 121 120 101 72 92 95 98 112 100 103 99"""


def draw_views(
    images: Tensor, depths_m: Tensor, settings: ViewSettings, rng: np.random.Generator
) -> tuple[Tensor, Tensor]:
    """A random crop on the canvas of each frame: the picture bilinear, depth by the nearest pixel.

    Frames should not be much larger than the canvas: bilinear sampling does not average over more than two pixels.

    Args:
        images: [B, 3, H, W] uint8.
        depths_m: [B, 1, H, W], 0 where there is none.
        settings: the canvas and how crops are drawn.
        rng: of all draws.

    Returns:
        [B, 3, h, w] in [0, 1] and [B, 1, h, w] metres, float32.
    """
    boxes = _draw_boxes(len(images), images.shape[-2:], settings, rng)
    theta = torch.from_numpy(boxes).to(images.device)
    grid = F.affine_grid(theta, [len(images), 1, settings.height_px, settings.width_px], align_corners=False)
    # No further out than the outermost pixels' centers: padding_mode="border", which MPS lacked before PyTorch 2.13.
    edge = 1 - 1 / grid.new_tensor([images.shape[-1], images.shape[-2]])
    grid, how = grid.clamp(-edge, edge), {"align_corners": False}
    return (
        F.grid_sample(images.float() / 255, grid, mode="bilinear", **how).clamp(0, 1),
        F.grid_sample(depths_m.float(), grid, mode="nearest", **how),
    )


def _draw_boxes(count: int, size: tuple[int, int], settings: ViewSettings, rng: np.random.Generator) -> np.ndarray:
    """[B, 2, 3] float32: where on [-1, 1] x [-1, 1] of the frame each canvas lies; mirrored ones from right to left."""
    height, width = size
    jitter = math.log1p(settings.aspect_jitter)
    aspect = settings.width_px / settings.height_px * np.exp(rng.uniform(-jitter, jitter, count))
    crop_height = rng.uniform(settings.min_scale, 1, count) * np.minimum(height, width / aspect)
    share_y, share_x = crop_height / height, np.minimum(1, crop_height * aspect / width)
    mirrored = np.where(rng.random(count) < settings.flip_probability, -1, 1)
    theta = np.zeros((count, 2, 3), np.float32)
    theta[:, 0, 0], theta[:, 1, 1] = share_x * mirrored, share_y
    theta[:, 0, 2] = rng.uniform(-1, 1, count) * (1 - share_x)
    theta[:, 1, 2] = rng.uniform(-1, 1, count) * (1 - share_y)
    return theta


def change_photometry_of_batch(images: Tensor, settings: PhotometricSettings, rng: np.random.Generator) -> Tensor:
    """Each picture as another camera might have taken it, [B, 3, H, W] in [0, 1], sides multiples of 8.

    In the order of light, as `augment.change_photometry`; JPEG here quantizes without subsampling color.
    """
    count, device = len(images), images.device

    def given(values: np.ndarray) -> Tensor:
        return torch.from_numpy(np.asarray(values, np.float32)).to(device)[:, None, None, None]

    def even(bound: float) -> np.ndarray:
        return rng.uniform(-bound, bound, count)

    def sometimes(strength: float) -> np.ndarray:
        """Amounts between nothing and the strength, nothing for those that the effect spares."""
        return rng.uniform(0, strength, count) * (rng.random(count) < settings.probability)

    gains = rng.normal(0, settings.white_balance, (count, 3)) + even(settings.exposure_stops)[:, None] * math.log(2)
    linear = images**2.2 * torch.from_numpy(np.exp(gains).astype(np.float32)).to(device)[:, :, None, None]
    images = linear.clamp(0, 1) ** (1 / 2.2)
    images = vignetted(images, given(sometimes(settings.vignette)))
    images = blurred(images, sometimes(settings.blur_px))
    noise_seed = int(rng.integers(2**62))
    generator = torch.Generator(device).manual_seed(noise_seed)
    noise = torch.randn(images.shape, generator=generator, device=device)
    images = images + given(sometimes(settings.noise)) * noise
    images = images.clamp(0, 1) ** given(np.exp(even(math.log(settings.gamma))))
    mean = images.mean((1, 2, 3), keepdim=True)
    images = mean + (images - mean) * given(1 + even(settings.contrast))
    saturation = (1 + even(settings.saturation)) * (rng.random(count) >= settings.grey_probability)
    images = turned(images, given(np.radians(even(settings.hue_deg))), given(saturation)).clamp(0, 1)
    images = _bordered(images, settings, rng)
    return _jpegs(images, sometimes(100.0 - settings.jpeg_quality)).clamp(0, 1)


def _bordered(images: Tensor, settings: PhotometricSettings, rng: np.random.Generator) -> Tensor:
    """White, black or grey along the edges of some pictures, every edge with its own width."""
    count, _, height, width = images.shape
    widths = rng.uniform(0, settings.border, (4, count)) * (rng.random(count) < settings.border_probability)
    top, bottom, left, right = torch.from_numpy(widths.astype(np.float32)).to(images.device)[:, :, None, None, None]
    grey = np.choose(rng.integers(3, size=count), [np.zeros(count), np.ones(count), rng.random(count)])
    y = (torch.arange(height, device=images.device)[:, None] + 0.5) / height
    x = (torch.arange(width, device=images.device) + 0.5) / width
    inside = (y > top) & (y < 1 - bottom) & (x > left) & (x < 1 - right)
    return images.where(inside, torch.from_numpy(grey.astype(np.float32)).to(images.device)[:, None, None, None])


def _jpegs(images: Tensor, amounts: np.ndarray) -> Tensor:
    """Each picture quantized in 8x8 blocks at quality 100 - amount; an amount of 0 leaves it as it is.

    Source: ITU-T T.81; the scale of the table for a quality is the Independent JPEG Group's.
    """
    quality = np.clip(100 - amounts, 1, 99.5)
    scale = np.where(quality < 50, 50 / quality, 2 - quality / 50).astype(np.float32)
    table = torch.tensor([float(word) for word in _JPEG_TABLE.split()], device=images.device).reshape(8, 8) / 255
    step = table * torch.from_numpy(scale).to(images.device)[:, None, None, None, None, None]  # [B, 1, 1, 1, 8, 8]
    basis = _cosines(images.device)
    blocks = rearrange(images, "b c (y p) (x q) -> b c y x p q", p=8, q=8)
    levels = basis @ (blocks - 0.5) @ basis.T
    coded = basis.T @ ((levels / step).round() * step) @ basis + 0.5
    changed = rearrange(coded, "b c y x p q -> b c (y p) (x q)")
    return changed.where(torch.from_numpy(amounts > 0).to(images.device)[:, None, None, None], images)


def _cosines(device: torch.device) -> Tensor:
    """The orthonormal cosine transform of 8 samples, [8, 8]."""
    k, n = np.mgrid[:8, :8]
    basis = np.cos(np.pi * (2 * n + 1) * k / 16) / 2
    basis[0] /= math.sqrt(2)
    return torch.from_numpy(basis.astype(np.float32)).to(device)


def normalize_targets(depths_m: Tensor, settings: NormalizationSettings) -> Tensor:
    """`normalize_target` of a batch: [B, 1, H, W] in [-1, 1], +1 where there is no depth (0 m).

    Only for the space "log", which is what a recipe takes.
    """
    valid = depths_m > 0
    log_depth = depths_m.clamp_min(1e-6).log()
    counted = log_depth.masked_fill(~valid, float("nan")).flatten(1)
    levels = torch.tensor([settings.near_percentile / 100, settings.far_percentile / 100], device=depths_m.device)
    near, far = counted.nanquantile(levels, dim=1)[:, :, None, None, None]
    scaled = (log_depth - near) / (far - near).clamp_min(MIN_RANGE) * 2 - 1
    return scaled.clamp(-1, 1).where(valid, 1.0)
