"""Latents computed ahead: the frozen autoencoder runs once a view, not once a training step.

A shard is one safetensors file with all views of some frames: `image_latent` and `depth_latent` [N, 4, h, w] in half
precision, `valid` [N, h, w] as bytes. Shards are made independently and appear whole, so making them can be
interrupted, and more data sets can be added later.
"""

import os
from collections.abc import Mapping, Sequence
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

from ..data.sample import DepthSample
from ..evaluation.share import Share
from ..model.codec import LatentCodec, load_codec
from .augment import PhotometricSettings, ViewSettings, change_photometry, draw_view
from .normalize import NormalizationSettings, normalize_log_depth
from .sources import Frame

_PIXELS_AT_ONCE = 2**20  # in the autoencoder; Stable Diffusion's needs some kilobytes for each


@dataclass(frozen=True)
class LatentSettings:
    """Which views to encode.

    Attributes:
        view: the canvas and how it is filled; sides are multiples of 8.
        datasets: the names of the data sets to encode; none = all.
        views_per_frame: random views of each frame.
        frames_per_shard: frames whose views share a file.
        sky_is_far: whether pixels without depth count, as the far plane; otherwise the loss leaves them out.
        seed: of the views.
        workers: processes; the latents do not depend on how many.
    """

    view: ViewSettings
    datasets: tuple[str, ...] = ()
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
    frames: Sequence[Frame],
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec_path: Path,
    folder: Path,
    share: Share = Share(),  # noqa: B008 (frozen)
) -> None:
    """Writes the shards that are not yet in `folder`.

    Args:
        frames: of any data sets; each data set gets shards of its own.
        settings: which data sets and views.
        photometry: how pictures are changed.
        normalization: what depth becomes.
        codec_path: the autoencoder, as `load_codec` reads it.
        folder: for the shards; made if missing.
        share: which shards are this process's.
    """
    folder.mkdir(parents=True, exist_ok=True)
    chosen = [frame for frame in frames if not settings.datasets or frame.data_set in settings.datasets]
    shards = _shards(chosen, settings.frames_per_shard, folder)
    todo = [(path, part) for path, part in share.part(shards) if not path.exists()]
    write = partial(_write_shard, settings, photometry, normalization, codec_path)
    bar = partial(tqdm, total=len(todo), desc=folder.name, unit="shard", disable=not share.is_first)
    if settings.workers == 1:
        for shard in bar(todo):
            write(shard)
        return
    with ProcessPoolExecutor(settings.workers, get_context("spawn"), torch.set_num_threads, (1,)) as pool:
        for _ in bar(pool.map(write, todo)):
            pass


def _shards(frames: Sequence[Frame], size: int, folder: Path) -> list[tuple[Path, list[Frame]]]:
    """The path and the frames of each shard, data set by data set."""
    by_name: dict[str, list[Frame]] = {}
    for frame in frames:
        by_name.setdefault(frame.data_set, []).append(frame)
    return [
        (folder / f"{name}-{start // size:04d}.safetensors", own[start : start + size])
        for name, own in by_name.items()
        for start in range(0, len(own), size)
    ]


def _write_shard(
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec_path: Path,
    shard: tuple[Path, list[Frame]],
) -> None:
    path, frames = shard
    rng = np.random.default_rng([settings.seed, *path.name.encode()])
    pictures, depths, valids = [], [], []
    for frame in frames:
        sample = frame.read()
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


def _at_once(pixels: int) -> int:
    """How many pictures of so many pixels go together."""
    return max(1, _PIXELS_AT_ONCE // pixels)


class LatentSet:
    """All shards of some folders in memory, in half precision.

    Args:
        folders: of shards.
        shares: how many batches to draw from each data set, in proportion; nothing = batches mix all views alike.

    Raises:
        ValueError: a folder without shards, a data set with a share and no shards or the other way round, or latents
            of different sizes where they have to share a batch.
    """

    def __init__(self, folders: Sequence[Path], shares: Mapping[str, float] | None = None) -> None:
        paths = [path for folder in folders for path in sorted(Path(folder).glob("*.safetensors"))]
        where = ", ".join(map(str, folders))
        if not paths:
            raise ValueError(f"There are no latents in {where}; run that stage first.")
        by_name: dict[str, list[Path]] = {}
        for path in paths:
            by_name.setdefault(_data_set(path) if shares else "", []).append(path)
        if shares and set(by_name) != set(shares):
            raise ValueError(f"{where} has latents of {sorted(by_name)} and shares are of {sorted(shares)}; make them.")
        self._groups = [_join(by_name[name]) for name in sorted(by_name)]
        weights = np.array([shares[name] if shares else 1.0 for name in sorted(by_name)])
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return sum(len(group["valid"]) for group in self._groups)

    @property
    def tokens(self) -> int:
        """The number of cells of a latent, of the largest where sizes differ."""
        return max(group["valid"][0].numel() for group in self._groups)

    def draw(self, size: int, rng: np.random.Generator) -> LatentBatch:
        """`size` random pairs in float32, with shares all of one data set."""
        index = rng.choice(len(self._groups), p=self._probabilities) if len(self._groups) > 1 else 0
        group = self._groups[index]
        picked = torch.from_numpy(rng.integers(len(group["valid"]), size=size))
        image_latent, depth_latent = (group[name][picked].float() for name in ("image_latent", "depth_latent"))
        return LatentBatch(image_latent, depth_latent, group["valid"][picked][:, None].bool())


def _data_set(shard: Path) -> str:
    """The data set in the name of a shard, NAME-0000.safetensors."""
    return shard.stem.rpartition("-")[0]


def _join(paths: Sequence[Path]) -> dict[str, Tensor]:
    shards = [load_file(path) for path in paths]
    sizes = {tuple(shard["valid"].shape[1:]) for shard in shards}
    if len(sizes) > 1:
        names = ", ".join(sorted({str(path.parent / _data_set(path)) for path in paths}))
        raise ValueError(
            f"The latents {names} are of the sizes {sorted(sizes)} and cannot share a batch; train on one size, or "
            "give each data set a share, which draws a batch from one of them."
        )
    return {name: torch.cat([shard[name] for shard in shards]) for name in shards[0]}
