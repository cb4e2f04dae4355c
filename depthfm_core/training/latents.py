"""Latents computed ahead: the frozen autoencoder runs once a view, not once a training step.

A shard is one safetensors file with all views of some frames: `image_latent` and `depth_latent` [N, 4, h, w] in half
precision, `valid` [N, h, w] as bytes. Shards are made independently and appear whole, so making them can be
interrupted, and more folders of frames can be added later.
"""

import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from ..data.folder import read_frame
from ..data.sample import DepthSample
from ..model.codec import LatentCodec, load_codec
from .augment import PhotometricSettings, ViewSettings, change_photometry, draw_view
from .normalize import NormalizationSettings, normalize_log_depth

_PIXELS_AT_ONCE = 2**20  # in the autoencoder; Stable Diffusion's needs some kilobytes for each


@dataclass(frozen=True)
class LatentSettings:
    """Which views to encode.

    Attributes:
        view: the canvas and how it is filled; sides are multiples of 8.
        views_per_frame: random views of each frame.
        frames_per_shard: frames whose views share a file.
        sky_is_far: whether pixels without depth count, as the far plane; otherwise the loss leaves them out.
        seed: of the views.
        workers: processes; the latents do not depend on how many.
    """

    view: ViewSettings
    views_per_frame: int = 1
    frames_per_shard: int = 256
    sky_is_far: bool = True
    seed: int = 0
    workers: int = 1


class LatentBatch(NamedTuple):
    """Pairs to learn from: [B, 4, h, w] scaled latents of picture and depth, and [B, 1, h, w] bool."""

    image_latent: Tensor
    depth_latent: Tensor
    valid: Tensor


def write_latents(
    frames: Sequence[Path],
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec_path: Path,
    folder: Path,
) -> None:
    """Writes the shards that are not yet in `folder`.

    Args:
        frames: as `list_frames` gives them; each folder of frames gets shards of its own.
        settings: which views.
        photometry: how pictures are changed.
        normalization: what depth becomes.
        codec_path: the autoencoder, as `load_codec` reads it.
        folder: for the shards; made if missing.
    """
    folder.mkdir(parents=True, exist_ok=True)
    shards = _shards(frames, settings.frames_per_shard, folder)
    todo = [(path, part) for path, part in shards if not path.exists()]
    write = partial(_write_shard, settings, photometry, normalization, codec_path)
    if settings.workers == 1:
        for shard in tqdm(todo, desc=folder.name, unit="shard"):
            write(shard)
        return
    with ProcessPoolExecutor(settings.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for _ in tqdm(pool.map(write, todo), total=len(todo), desc=folder.name, unit="shard"):
            pass


def _shards(frames: Sequence[Path], size: int, folder: Path) -> list[tuple[Path, list[Path]]]:
    """The path and the frames of each shard, folder of frames by folder of frames."""
    by_folder: dict[Path, list[Path]] = {}
    for frame in frames:
        by_folder.setdefault(frame.parent, []).append(frame)
    names = [parent.name for parent in by_folder]
    if len(set(names)) < len(names):
        raise ValueError(f"Folders of frames must differ in their names, which name the shards; got {names}.")
    return [
        (folder / f"{parent.name}-{start // size:04d}.safetensors", own[start : start + size])
        for parent, own in by_folder.items()
        for start in range(0, len(own), size)
    ]


def _write_shard(
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec_path: Path,
    shard: tuple[Path, list[Path]],
) -> None:
    path, frames = shard
    rng = np.random.default_rng([settings.seed, *path.name.encode()])
    pictures, depths, valids = [], [], []
    for frame in frames:
        sample = read_frame(frame)
        for _ in range(settings.views_per_frame):
            view = draw_view(sample, settings.view, rng)
            pictures.append(change_photometry(view.image, photometry, rng) * 2 - 1)
            depths.append(depth_picture(view, normalization))
            valids.append(valid_cells(view, sky_is_far=settings.sky_is_far))
    codec = load_codec(codec_path)
    tensors = {
        "image_latent": encode(codec, torch.stack(pictures)).half().contiguous(),
        "depth_latent": encode(codec, torch.stack(depths)).half().contiguous(),
        "valid": torch.stack(valids)[:, 0].to(torch.uint8),
    }
    partial_path = path.with_suffix(".partial")
    save_file(tensors, partial_path)
    os.replace(partial_path, path)


def depth_picture(sample: DepthSample, normalization: NormalizationSettings) -> Tensor:
    """Normalized log depth as a grey picture for the autoencoder, [3, H, W] in [-1, 1]."""
    return normalize_log_depth(sample.depth_m, sample.valid, normalization).expand(3, -1, -1)


def valid_cells(sample: DepthSample, *, sky_is_far: bool) -> Tensor:
    """Which cells of the latent count, [1, H/8, W/8] bool: those with at least half of their pixels usable.

    A picture that is sky alone says nothing about depth, so none of it counts.
    """
    usable = sample.valid | (sample.valid.any() & sky_is_far)
    return F.avg_pool2d(usable.float(), LatentCodec.downscale) >= 0.5


@torch.no_grad()
def encode(codec: LatentCodec, pictures: Tensor) -> Tensor:
    """Scaled latents [N, 4, H/8, W/8] of pictures [N, 3, H, W] in [-1, 1], a few at a time, computed in bfloat16."""
    with torch.autocast(pictures.device.type, torch.bfloat16):
        chunks = pictures.split(_at_once(pictures.shape[-2] * pictures.shape[-1]))
        return torch.cat([codec.encode(chunk.contiguous(memory_format=torch.channels_last)) for chunk in chunks])


@torch.no_grad()
def decode(codec: LatentCodec, latent: Tensor) -> Tensor:
    """Pictures [N, 3, H, W] of scaled latents [N, 4, H/8, W/8], a few at a time."""
    pixels = codec.downscale**2 * latent.shape[-2] * latent.shape[-1]
    return torch.cat([codec.decode(chunk) for chunk in latent.split(_at_once(pixels))])


def _at_once(pixels: int) -> int:
    """How many pictures of so many pixels go together."""
    return max(1, _PIXELS_AT_ONCE // pixels)


class LatentSet:
    """All shards of some folders in memory, in half precision.

    Raises:
        ValueError: a folder without shards.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        paths = [path for folder in folders for path in sorted(Path(folder).glob("*.safetensors"))]
        if not paths:
            raise ValueError(f"There are no latents in {', '.join(map(str, folders))}; run that stage first.")
        shards = [load_file(path) for path in paths]
        self._tensors = {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}

    def __len__(self) -> int:
        return len(self._tensors["valid"])

    @property
    def tokens(self) -> int:
        """The number of cells of a latent."""
        return self._tensors["valid"][0].numel()

    def draw(self, size: int, rng: np.random.Generator) -> LatentBatch:
        """`size` random pairs in float32."""
        picked = torch.from_numpy(rng.integers(len(self), size=size))
        image_latent, depth_latent = (self._tensors[name][picked].float() for name in ("image_latent", "depth_latent"))
        return LatentBatch(image_latent, depth_latent, self._tensors["valid"][picked][:, None].bool())
