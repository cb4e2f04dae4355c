"""Trains the small autoencoder, one for pictures and depth maps, in the architecture of TAESD.

diffusers' `AutoencoderTiny` as it is has costly blocks at full resolution. A block whose weights are zero is a plain
ReLU, so we train with the costliest blocks replaced by ReLU and write zeros for them: the file is a standard TAESD for
everyone, and about three times cheaper for a reader that skips idle blocks, as ours does.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from einops import rearrange
from torch import Tensor, nn

from ..depth.color import colorize
from ..model.autoencoders import skip_idle_blocks
from ..model.codec import LatentCodec
from .augment import PhotometricSettings, ViewSettings, change_photometry, draw_view
from .loop import LoopSettings, train
from .losses import coarse_loss, edge_loss, whitening_loss
from .objective import Objective, StepRandom
from .sources import Frame
from .stream import FrameStream
from .streamed import StreamedViews
from .target import NormalizationSettings
from .thumbnail import start_as_thumbnail
from .views import depth_picture
from .watch import Checked, titled

_COARSE_PX = 4
_ENCODER_BLOCKS = (1, 3, 3, 3)  # TAESD's on each level; its decoder's are the same the other way round
_SHOWN = 4  # frames in a check's picture


@dataclass(frozen=True)
class AutoencoderSettings:
    """What to train on and towards.

    Attributes:
        crop_px: side of the square crops.
        min_scale: the smallest crop, as a share of the largest that fits into the frame.
        encoder_blocks, decoder_blocks: how many residual blocks stay active on each level, in the order of computation;
            TAESD has 1, 3, 3, 3 and 3, 3, 3, 1.
        edge_weight: of the error of neighbouring differences.
        coarse_weight: of the squared error of 4x4 means, which is what makes it learn color.
        whitening_weight: of the pull towards latents of zero mean and unit covariance.
        latent_noise: standard deviation of the noise that the decoder learns to live with.

    Raises:
        ValueError: for crops that are no multiple of 8 or of no size, negative weights, or blocks that TAESD does not
            have.
    """

    crop_px: int = 96
    min_scale: float = 0.35
    encoder_blocks: tuple[int, ...] = (0, 1, 2, 3)
    decoder_blocks: tuple[int, ...] = (3, 2, 1, 0)
    edge_weight: float = 0.5
    coarse_weight: float = 1.0
    whitening_weight: float = 0.05
    latent_noise: float = 0.1

    def __post_init__(self) -> None:
        if self.crop_px < 1 or self.crop_px % LatentCodec.downscale:
            raise ValueError(f"crop_px is {self.crop_px}; choose a multiple of {LatentCodec.downscale}.")
        if not 0 < self.min_scale <= 1:
            raise ValueError(f"min_scale is {self.min_scale}; choose above 0 and up to 1 (the largest crop).")
        for name in ("edge_weight", "coarse_weight", "whitening_weight", "latent_noise"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 0 (none) or more.")
        for name, most in (("encoder_blocks", _ENCODER_BLOCKS), ("decoder_blocks", _ENCODER_BLOCKS[::-1])):
            active = getattr(self, name)
            if len(active) != len(most) or any(not 0 <= n <= m for n, m in zip(active, most, strict=True)):
                raise ValueError(
                    f"{name} is {list(active)}; TAESD has {list(most)}: choose 0 to so many of each level."
                )


def build_autoencoder(settings: AutoencoderSettings, seed: int) -> AutoencoderTiny:
    """A freshly initialized autoencoder that codes thumbnails, with its idle blocks skipped."""
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        autoencoder = AutoencoderTiny()
    start_as_thumbnail(autoencoder)
    _idle(autoencoder.encoder.layers, settings.encoder_blocks)
    _idle(autoencoder.decoder.layers, settings.decoder_blocks)
    skip_idle_blocks(autoencoder.encoder.layers, autoencoder.decoder.layers)
    return autoencoder.to(memory_format=torch.channels_last)


def _idle(layers: nn.Sequential, active: Sequence[int]) -> None:
    """Zeroes all but the first `active` blocks of each level."""
    levels = [list(run) for block, run in groupby(layers, _is_block) if block]
    for level, count in zip(levels, active, strict=True):
        for block in level[count:]:
            for parameter in block.parameters():
                nn.init.zeros_(parameter)


def _is_block(layer: nn.Module) -> bool:
    return isinstance(layer, AutoencoderTinyBlock)


@dataclass(frozen=True)
class AutoencoderData:
    """Where the pictures come from, and how they are changed.

    Attributes:
        frames, held_out: to train on, and to check with.
        photometry, normalization: how pictures are changed, and what depth becomes.
        stream: trained on in the place of `frames`, if there is one.
    """

    frames: Sequence[Frame]
    held_out: Sequence[Frame]
    photometry: PhotometricSettings
    normalization: NormalizationSettings
    stream: FrameStream | None = None


class Pictures(NamedTuple):
    """What a step learns from: [2B, 3, S, S] pictures as `_draw_pictures` gives them, and noise of their latents."""

    pictures: Tensor
    noise: Tensor


def train_autoencoder(
    settings: AutoencoderSettings,
    data: AutoencoderData,
    loop: LoopSettings,
    folder: Path,
    events: Path | None = None,
) -> AutoencoderTiny:
    """A trained autoencoder with averaged weights; resumes from `folder` and shows PSNR on the held-out frames.

    One process trains it, and the batch goes through it at once: the whitening loss is of a batch as a whole.
    """
    autoencoder = build_autoencoder(settings, loop.seed)

    def draw(random: StepRandom) -> Pictures:
        pictures = _draw_batch(loop.batch_size, data, settings, random.rng)
        shape = (len(pictures), 4, *(side // LatentCodec.downscale for side in pictures.shape[-2:]))
        return Pictures(pictures, torch.randn(shape, generator=random.generator))

    def check() -> Checked:
        return check_reconstruction(
            autoencoder, _draw_pictures(data.held_out, data, settings, np.random.default_rng(0))
        )

    objective = Objective(draw, lambda model, batch: _losses(model, batch, settings))
    train(autoencoder, objective, loop, folder, check, events=events)
    return autoencoder.eval().requires_grad_(False)


def _draw_batch(count: int, data: AutoencoderData, settings: AutoencoderSettings, rng: np.random.Generator) -> Tensor:
    """`_draw_pictures` of random frames; on the stream's device, if there is one."""
    if data.stream is None:
        picked = rng.integers(len(data.frames), size=count)
        return _draw_pictures([data.frames[i] for i in picked], data, settings, rng)
    views = StreamedViews(data.stream, data.photometry, data.normalization)
    pictures, log_depths = views.draw(count, _view(settings), rng)
    depths = _change_ranges(log_depths, rng).expand(-1, 3, -1, -1)
    return torch.cat([pictures, depths]).contiguous(memory_format=torch.channels_last)


def _view(settings: AutoencoderSettings) -> ViewSettings:
    return ViewSettings(settings.crop_px, settings.crop_px, min_scale=settings.min_scale)


def _draw_pictures(
    frames: Sequence[Frame], data: AutoencoderData, settings: AutoencoderSettings, rng: np.random.Generator
) -> Tensor:
    """[2B, 3, S, S] in [-1, 1]: B pictures with changed photometry, then the B depth maps as grey pictures."""
    view = _view(settings)
    images, depths = [], []
    for frame in frames:
        sample = draw_view(frame.read(), view, rng)
        images.append(change_photometry(sample.image, data.photometry, rng) * 2 - 1)
        depth = depth_picture(sample, data.normalization, sky_is_far=frame.sky_is_far)[:1]
        depths.append(_change_range(depth, rng).expand(3, -1, -1))
    return torch.stack(images + depths).contiguous(memory_format=torch.channels_last)


def _change_range(log_depth: Tensor, rng: np.random.Generator) -> Tensor:
    """Half of the time, another contrast, offset and sign within [-1, 1], so that any range is coded well."""
    return _change_ranges(log_depth[None], rng)[0]


def _change_ranges(log_depths: Tensor, rng: np.random.Generator) -> Tensor:
    """`_change_range` of a batch [B, 1, H, W], each with draws of its own."""
    count = len(log_depths)
    gain = rng.uniform(0.3, 1, count) * rng.choice([-1, 1], count)
    offset = rng.uniform(-1, 1, count) * (1 - abs(gain))
    changed = rng.random(count) < 0.5
    gain, offset = np.where(changed, gain, 1.0), np.where(changed, offset, 0.0)
    gain, offset = (torch.from_numpy(v.astype(np.float32)).to(log_depths.device) for v in (gain, offset))
    return log_depths * gain[:, None, None, None] + offset[:, None, None, None]


def _losses(autoencoder: AutoencoderTiny, batch: Pictures, settings: AutoencoderSettings) -> dict[str, Tensor]:
    latent = autoencoder.encoder(batch.pictures).float()
    decoded = autoencoder.decoder(latent + settings.latent_noise * batch.noise).float()
    return {
        "absolute": (decoded - batch.pictures).abs().mean(),
        "edge": settings.edge_weight * edge_loss(decoded, batch.pictures),
        "coarse": settings.coarse_weight * coarse_loss(decoded, batch.pictures, _COARSE_PX),
        # Over pictures and depth maps together: grey depth maps alone would leave no channel for color.
        "whitening": settings.whitening_weight * whitening_loss(latent),
    }


@torch.no_grad()
def check_reconstruction(autoencoder: AutoencoderTiny, pictures: Tensor) -> Checked:
    """Peak signal-to-noise ratios in dB, and a picture of some images and depth maps, each beside what became of it.

    Args:
        autoencoder: with its idle blocks skipped or not.
        pictures: [2B, 3, S, S] in [-1, 1], first the images, then their depth maps.
    """
    decoded = torch.cat(
        [autoencoder.decoder(autoencoder.encoder(chunk)).cpu() for chunk in pictures.to(autoencoder.device).split(8)]
    )
    errors = ((decoded - pictures) ** 2).mean(dim=(1, 2, 3)).chunk(2)
    scores = {
        f"{name}_psnr_db": float(10 * torch.log10(4 / error.mean()))
        for name, error in zip(("image", "depth"), errors, strict=True)
    }
    return Checked(scores, _side_by_side(pictures, decoded))


def _side_by_side(pictures: Tensor, decoded: Tensor) -> Tensor:
    """[3, H, W] in [0, 1]; of each row the first two panels are an image, the others its depth in color."""
    images, depths = (
        (torch.stack([given, coded], dim=1) / 2 + 0.5).clamp(0, 1)  # [B, 2, 3, S, S]
        for given, coded in zip(pictures.chunk(2), decoded.chunk(2), strict=True)
    )
    rows = []
    for image, depth in zip(images[:_SHOWN], depths[:_SHOWN], strict=True):
        panels = torch.cat([image, colorize(depth.mean(1, keepdim=True))])
        rows.append(rearrange(panels, "n c h w -> c h (n w)"))
    return titled(rows, ("picture", "decoded", "depth", "decoded"))
