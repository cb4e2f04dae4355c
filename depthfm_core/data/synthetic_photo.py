"""From linear radiance to what a cheap camera stores: exposure, glare, color cast, tone curve, grain."""

from random import Random

import numpy as np
from PIL import Image, ImageFilter


def develop(radiance: np.ndarray, rng: Random, seed: int) -> np.ndarray:
    """[H, W, 3] linear radiance -> uint8 sRGB picture, sometimes dark, too bright, warm, soft or noisy."""
    height, width, _ = radiance.shape
    level = np.exp(np.log(radiance.mean(2) + 1e-3).mean())
    key = min(0.6, max(0.02, 0.14 * np.exp(rng.gauss(0, 0.6))))
    exposure = key / max(level, 1e-4)
    if rng.random() < 0.85:  # most cameras keep most of the picture from clipping
        exposure = min(exposure, rng.uniform(0.5, 1.1) / np.quantile(radiance.mean(2), 0.8))
    light = radiance * np.float32(exposure)
    light = light + _glare(light, rng.uniform(0.02, 0.15))
    warm = rng.uniform(0.15, 0.4) if rng.random() < 0.2 else rng.gauss(0.06, 0.12)
    cast = np.clip([1 + warm, 1 + 0.2 * warm + rng.gauss(0, 0.02), 1 - warm], 0.4, 1.6)
    light *= cast.astype(np.float32)
    light *= _vignette(height, width, rng.uniform(0, 0.4))
    curve = rng.uniform(0.1, 0.6)
    toned = np.clip(light * (1 + curve) / (1 + curve * light), 0, 1) ** (1 / rng.uniform(1.9, 2.4))
    toned = np.clip(toned + rng.uniform(-0.2, 0.5) * toned * (1 - toned) * (2 * toned - 1), 0, 1)
    gray = toned.mean(2, keepdims=True)
    picture = Image.fromarray(_bytes(gray + rng.uniform(0.7, 1.2) * (toned - gray)))
    if rng.random() < 0.6:
        picture = picture.filter(ImageFilter.GaussianBlur(rng.uniform(0.2, 1.1) * height / 192))
    noise = np.random.default_rng(seed).standard_normal(radiance.shape, np.float32)
    return _bytes(np.asarray(picture, np.float32) / 255 + noise * rng.choice([0.002, 0.006, 0.015, 0.03]))


def _bytes(values: np.ndarray) -> np.ndarray:
    return (np.clip(values, 0, 1) * 255 + 0.5).astype(np.uint8)


def _glare(light: np.ndarray, share: float) -> np.ndarray:
    """Light that bright parts spread around them."""
    height, width, _ = light.shape
    small = Image.fromarray(_bytes(np.clip(light - 0.8, 0, 2) / 2)).resize(
        (max(1, width // 8), max(1, height // 8)), Image.Resampling.BOX
    )
    soft = small.filter(ImageFilter.GaussianBlur(2)).resize((width, height), Image.Resampling.BILINEAR)
    return np.asarray(soft, np.float32) * (2 * share / 255 * 3)


def _vignette(height: int, width: int, strength: float) -> np.ndarray:
    y, x = np.mgrid[0:height, 0:width]
    square = ((x - width / 2) ** 2 + (y - height / 2) ** 2) / (width**2 + height**2) * 4
    return (1 - strength * square)[..., None].astype(np.float32)
