"""Latents to train on: what they are made with, the autoencoder's two calls, and batches out of shards.

`precompute` writes the shards and `shards` knows their files. A batch is a function of its generator, however many
processes read the same shards.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..model.codec import LatentCodec
from ..model.precision import multiplies_bfloat16
from .augment import ViewSettings
from .shards import FORMATS, Shard, check_origin, find_shards, open_shard

_PIXELS_AT_ONCE = 2**20  # in the autoencoder; Stable Diffusion's needs some kilobytes for each


@dataclass(frozen=True)
class LatentSettings:
    """Which views to encode.

    Attributes:
        view: the canvas and how it is filled; sides are multiples of 8.
        datasets: the names of the data sets to encode; none = all.
        views_per_frame: random views of each frame.
        frames_per_shard: frames whose views share a file.
        sky_is_far: whether pixels without depth count, as the far plane; otherwise the nearest depth fills them and the
            loss leaves them out. Left out, they count for kinds of data sets that are rendered, where they are the
            sky, and not for "pairs", where they are what a sensor could not see.
        seed: of the views.
        format: of the shards, one of `FORMATS`.
        workers: processes, of one CPU thread each; the latents do not depend on how many.

    Raises:
        ValueError: an unknown format, sides that are no multiples of 8, counts below 1, or a negative seed.
    """

    view: ViewSettings
    datasets: tuple[str, ...] = ()
    views_per_frame: int = 1
    frames_per_shard: int = 256
    sky_is_far: bool | None = None
    seed: int = 0
    format: str = "safetensors"
    workers: int = 1

    def __post_init__(self) -> None:
        if self.format not in FORMATS:
            raise ValueError(f"Unknown format of latents {self.format!r}; choose one of {', '.join(FORMATS)}.")
        for name in ("views_per_frame", "frames_per_shard", "workers"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 1 or more.")
        if self.seed < 0:
            raise ValueError(f"seed is {self.seed}; choose 0 or more.")
        size = self.view.height_px, self.view.width_px
        if any(side < 1 or side % LatentCodec.downscale for side in size):
            raise ValueError(
                f"The view is {size[0]}x{size[1]} pixels; its sides must be multiples of {LatentCodec.downscale}."
            )


class LatentBatch(NamedTuple):
    """Pairs to learn from: [B, 4, h, w] scaled latents of picture and depth, and [B, 1, h, w] bool."""

    image_latent: Tensor
    depth_latent: Tensor
    valid: Tensor


@torch.no_grad()
def encode(codec: LatentCodec, pictures: Tensor) -> Tensor:
    """Scaled latents [N, 4, H/8, W/8] of pictures [N, 3, H, W] in [-1, 1], on the pictures' device.

    They are computed on the codec's device, a few at a time, in bfloat16 where that is fast.
    """
    device = _device_of(codec)
    with torch.autocast(device.type, torch.bfloat16, enabled=multiplies_bfloat16(device)):
        chunks = pictures.split(pictures_at_once(pictures.shape[-2] * pictures.shape[-1]))
        laid_out = (chunk.to(device).contiguous(memory_format=torch.channels_last) for chunk in chunks)
        return torch.cat([codec.encode(chunk).to(pictures.device) for chunk in laid_out])


def _device_of(codec: LatentCodec) -> torch.device:
    return next(codec.parameters()).device


def pictures_at_once(pixels: int) -> int:
    """How many pictures of so many pixels go through the autoencoder together."""
    return max(1, _PIXELS_AT_ONCE // pixels)


class LatentSet:
    """All shards of some folders, mapped: what is drawn is read, and processes of one machine share it.

    Args:
        folders: of shards.
        shares: how many batches to draw from each data set, in proportion; nothing = batches mix all views alike.
        origins: what the shards of each folder must have been made with, see `precompute.describe`; None = anything.

    Attributes:
        shards: all of them, opened.

    Raises:
        ValueError: a folder without shards, a shard that is not whole or was made otherwise, a data set with a share
            and no shards or the other way round, latents of different sizes where they have to share a batch, or only
            views without depth.
    """

    def __init__(
        self,
        folders: Sequence[Path],
        shares: Mapping[str, float] | None = None,
        origins: Sequence[Mapping[str, object]] | None = None,
    ) -> None:
        shards = []
        for folder, origin in zip(folders, origins or [{}] * len(folders), strict=True):
            own = [open_shard(path) for path in find_shards(Path(folder))]
            for shard in own:
                check_origin(shard, origin)
            shards += own
        where = ", ".join(map(str, folders))
        if not shards:
            raise ValueError(f"There are no latents in {where}; run that stage first.")
        by_name: dict[str, list[Shard]] = {}
        for shard in shards:
            by_name.setdefault(shard.data_set if shares else "", []).append(shard)
        if shares and set(by_name) != set(shares):
            raise ValueError(f"{where} has latents of {sorted(by_name)} and shares are of {sorted(shares)}; make them.")
        self.shards = shards
        self._groups = [_Group(by_name[name]) for name in sorted(by_name)]
        weights = np.array([shares[name] if shares else 1.0 for name in sorted(by_name)])
        self._probabilities = weights / weights.sum()

    def __len__(self) -> int:
        return sum(len(group) for group in self._groups)

    @property
    def tokens(self) -> int:
        """The number of cells of a latent, of the largest where sizes differ."""
        return math.prod(self.size)

    @property
    def size(self) -> tuple[int, int]:
        """Height and width of a latent, of the largest where sizes differ."""
        return max((group.size for group in self._groups), key=math.prod)

    def draw(self, size: int, rng: np.random.Generator) -> LatentBatch:
        """`size` random pairs in float32, with shares all of one data set."""
        index = rng.choice(len(self._groups), p=self._probabilities) if len(self._groups) > 1 else 0
        group = self._groups[index]
        return group.batch(rng.integers(len(group), size=size))


class _Group:
    """The views of some shards, which may share a batch, one after the other."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        sizes = {shard.size for shard in shards}
        names = ", ".join(sorted({str(shard.path.parent / shard.data_set) for shard in shards}))
        if len(sizes) > 1:
            raise ValueError(
                f"The latents {names} are of the sizes {sorted(sizes)} and cannot share a batch; train on one size, "
                "or give each data set a share, which draws a batch from one of them."
            )
        if not any(bool(cells.any()) for shard in shards for cells in shard.rows["valid"]):  # ends at the first view
            raise ValueError(
                f"No view of the latents {names} has depth to learn from; look at the depth maps (zeros, range, unit); "
                "once they are mended, delete these latents and make them anew."
            )
        self._shards, self.size = shards, shards[0].size
        self._ends = np.cumsum([len(shard) for shard in shards])

    def __len__(self) -> int:
        return int(self._ends[-1])

    def batch(self, indices: np.ndarray) -> LatentBatch:
        """The views of these indices in float32."""
        numbers = np.searchsorted(self._ends, indices, side="right")
        places = [(self._shards[n].rows, i - self._ends[n]) for n, i in zip(numbers, indices, strict=True)]

        latent, cells = (len(places), 4, *self.size), (len(places), 1, *self.size)
        batch = LatentBatch(torch.empty(latent), torch.empty(latent), torch.empty(cells, dtype=torch.bool))
        for name, tensor in zip(LatentBatch._fields, batch, strict=True):
            for target, (rows, place) in zip(tensor, places, strict=True):
                target.copy_(rows[name][place])  # a negative place counts from the end
        return batch
