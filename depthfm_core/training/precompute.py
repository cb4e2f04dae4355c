"""Latents computed ahead: the frozen autoencoder runs once a view, not once a training step.

The views of some frames share a file, see `shards`. Shards are made independently and appear whole, so making them can
be interrupted or shared among machines, and more data sets can be added later.
"""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict
from functools import cache, partial
from itertools import islice
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from .. import __version__
from ..model.codec import LatentCodec, load_codec
from ..model.fingerprint import fingerprint_weights
from ..share import ALL, Share
from ..workers import start_network_worker
from .augment import PhotometricSettings
from .latents import LatentSettings, encode, pictures_at_once
from .shards import FORMATS, Shard, check_origin, data_set_of, find_shards, open_shard, write_shard
from .sources import Frame
from .target import NormalizationSettings
from .views import sky_is_far, views_of

_LOGGER = logging.getLogger(__name__)
_NOT_IN_THE_LATENTS = ("datasets", "format", "workers")


class _Odd(NamedTuple):
    """How many views of a shard have no depth, and how many depth that `is_stretched`."""

    empty: int
    stretched: int


def write_latents(
    frames: Sequence[Frame],
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec_path: Path,
    folder: Path,
    *,
    share: Share = ALL,
    device: str | torch.device = "cpu",
) -> int:
    """Writes the shards that are not yet in `folder`; how many there are once every process has written its own.

    The latents do not depend on which process writes them, nor on how many there are. Views without depth, which
    teach nothing, and with depth over too wide a range are counted in the log.

    Args:
        frames: of any data sets; each data set gets shards of its own.
        settings: which data sets and views.
        photometry: how pictures are changed.
        normalization: what depth becomes.
        codec_path: the autoencoder, as `load_codec` reads it.
        folder: for the shards; made if missing.
        share: which of the shards this process writes.
        device: where the autoencoder runs.

    Raises:
        ValueError: a frame that cannot be read or whose latents are not finite, or shards in `folder` that were made
            otherwise. The shards that are finished stay.
        OSError: a full disk or a folder that cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    codec = load_codec(codec_path)
    origin, shards = describe(settings, photometry, normalization, codec), plan_shards(frames, settings, folder)
    todo = _unwritten(share.part(shards), settings, origin)
    _refuse_strange(folder, shards)
    write = partial(_write_shard, settings, photometry, normalization, origin)
    bar = partial(tqdm, total=len(todo), desc=folder.name, unit="shard", disable=not share.is_first)
    if settings.workers == 1:
        codec.to(device)
        with _one_thread():
            _tell_odd(todo, [write(codec, shard) for shard in bar(todo)], settings)
        return len(shards)
    write = partial(_write_in_worker, write, codec_path, str(device))
    with ProcessPoolExecutor(settings.workers, get_context("spawn"), start_network_worker) as pool:
        _tell_odd(todo, list(bar(pool.map(write, todo))), settings)
    return len(shards)


def _tell_odd(shards: Sequence[tuple[Path, list[Frame]]], odd: Sequence[_Odd], settings: LatentSettings) -> None:
    """Warns of data sets whose shards have such views, so many each."""
    views, empty, stretched = Counter(), Counter(), Counter()
    for (path, frames), counts in zip(shards, odd, strict=True):
        views[data_set_of(path)] += len(frames) * settings.views_per_frame
        empty[data_set_of(path)] += counts.empty
        stretched[data_set_of(path)] += counts.stretched
    for name in +empty:
        _LOGGER.warning("%d of %d views of %s have no depth", empty[name], views[name], name)
    for name in +stretched:
        _LOGGER.warning(
            "%d of %d views of %s have depth over a range of more than 1 to 1000, which leaves little of it to what is "
            "near; is it a number for the sky? Write 0 there, or set max_depth_m of pairs",
            stretched[name],
            views[name],
            name,
        )


@contextmanager
def _one_thread() -> Iterator[None]:
    """As in the worker processes, because sums over a picture round differently on several."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def describe(
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    codec: LatentCodec,
) -> dict[str, object]:
    """What makes latents, of JSON's types, as the shards keep it: the autoencoder's weights and all settings of views.

    Which data sets there are, the format and the number of processes change no latent and are not in it, and of
    `sky_is_far` where it depends on the data set only the shards know.
    """
    left_out = (*_NOT_IN_THE_LATENTS, *(["sky_is_far"] if settings.sky_is_far is None else []))
    described = {name: value for name, value in asdict(settings).items() if name not in left_out}
    return {
        "autoencoder": fingerprint_weights(codec, f"scaling factor {codec.scaling_factor}"),
        "normalization": asdict(normalization),
        "photometry": asdict(photometry),
        **described,
    }


def plan_shards(frames: Sequence[Frame], settings: LatentSettings, folder: Path) -> list[tuple[Path, list[Frame]]]:
    """The path and the frames of each shard that `write_latents` writes, data set by data set."""
    by_name: dict[str, list[Frame]] = {}
    for frame in frames:
        if not settings.datasets or frame.data_set in settings.datasets:
            by_name.setdefault(frame.data_set, []).append(frame)
    size, suffix = settings.frames_per_shard, FORMATS[settings.format].suffix
    return [
        (folder / f"{name}-{start // size:04d}{suffix}", own[start : start + size])
        for name, own in by_name.items()
        for start in range(0, len(own), size)
    ]


def _refuse_strange(folder: Path, shards: Sequence[tuple[Path, list[Frame]]]) -> None:
    """Shards that are not written again would be trained on nevertheless: of another format, or of fewer frames now."""
    strange = sorted(set(find_shards(folder)) - {path for path, _ in shards})
    if strange:
        raise ValueError(
            f"{strange[0]} and {len(strange) - 1} more are not what the recipe writes there, which is "
            f"{shards[0][0].name} to {shards[-1][0].name}; delete them, or change the recipe back."
        )


def _unwritten(
    shards: Sequence[tuple[Path, list[Frame]]], settings: LatentSettings, origin: Mapping[str, object]
) -> list[tuple[Path, list[Frame]]]:
    """The shards that are not there; those that are must be what would be written."""
    for path, frames in shards:
        if path.exists():
            shard = open_shard(path)
            check_origin(shard, {**origin, **_of_frames(settings, frames)})
    return [shard for shard in shards if not shard[0].exists()]


def check_sky(shard: Shard, frames: Sequence[Frame], settings: LatentSettings) -> None:
    """Compares what the shard of some frames takes pixels without depth for, of which `describe` may say nothing.

    Raises:
        ValueError: as `check_origin`.
    """
    check_origin(shard, {"sky_is_far": sky_is_far(settings, frames[0])})


def _of_frames(settings: LatentSettings, frames: Sequence[Frame]) -> dict[str, object]:
    """What makes a shard beside `describe`: its frames, and what is made of their pixels without depth."""
    return {"sky_is_far": sky_is_far(settings, frames[0]), "frames": _name_all(frames)}


def _name_all(frames: Sequence[Frame]) -> str:
    """Short for the frames' names in their order, and for where they come from."""
    told = [f"{frame.name}\t{frame.source}" if frame.source else frame.name for frame in frames]
    return hashlib.sha256("\n".join(told).encode()).hexdigest()


def _write_in_worker(
    write: Callable[[LatentCodec, tuple[Path, list[Frame]]], _Odd],
    codec_path: Path,
    device: str,
    shard: tuple[Path, list[Frame]],
) -> _Odd:
    return write(_worker_codec(codec_path, device), shard)


@cache  # a worker process serves one call of `write_latents` and loads the autoencoder once
def _worker_codec(codec_path: Path, device: str) -> LatentCodec:
    return load_codec(codec_path).to(device)


def _write_shard(
    settings: LatentSettings,
    photometry: PhotometricSettings,
    normalization: NormalizationSettings,
    origin: Mapping[str, object],
    codec: LatentCodec,
    shard: tuple[Path, list[Frame]],
) -> _Odd:
    """Writes a shard; which of its views are to be told."""
    path, frames = shard
    rng = np.random.default_rng([settings.seed, *f"{path.stem}.safetensors".encode()])  # alike in every format
    views = views_of(frames, settings, photometry, normalization, rng)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    stretched = 0
    while some := list(islice(views, pictures_at_once(settings.view.height_px * settings.view.width_px))):
        pictures, depths, valids = (torch.stack([view[index] for view in some]) for index in range(3))
        stretched += sum(view[3] for view in some)
        parts.append((encode(codec, pictures).half(), encode(codec, depths).half(), valids[:, 0].to(torch.uint8)))
    image_latent, depth_latent, valid = (torch.cat(part).contiguous() for part in zip(*parts, strict=True))
    for latents in (image_latent, depth_latent):
        _check_finite(latents, [frame for frame in frames for _ in range(settings.views_per_frame)])
    tensors = {"image_latent": image_latent, "depth_latent": depth_latent, "valid": valid}
    write_shard(path, tensors, {**origin, **_of_frames(settings, frames), "depthfm": __version__})
    return _Odd(int((~valid.flatten(1).bool().any(1)).sum()), stretched)


def _check_finite(latents: Tensor, frames: Sequence[Frame]) -> None:
    """Raises ValueError for the first frame whose latent [N, 4, h, w], in half precision, is not finite."""
    for latent, frame in zip(latents, frames, strict=True):
        if not latent.isfinite().all():
            raise ValueError(
                f"The latents of {frame.name} in {frame.data_set} are not finite; mend its picture and depth map, or "
                "take them out. If they are sound, the autoencoder's latents do not fit into half precision."
            )
