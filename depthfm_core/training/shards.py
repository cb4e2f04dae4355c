"""Shards of latents as files: all views of some frames, and what made them.

A shard is one safetensors file with `image_latent` and `depth_latent` [N, 4, h, w] in half precision and `valid`
[N, h, w] as bytes, or one tar file with `KEY.image_latent.npy`, `KEY.depth_latent.npy` and `KEY.valid.npy` for each
view, which the package webdataset streams. What made it stands in the safetensors metadata or in the tar file's global
header, which readers of pictures and arrays pass over. Opening maps a file and reads none of its latents: processes of
one machine share the pages that they draw from, and a data set may be larger than memory.
"""

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..replacing import remove_leftovers, replacing

_TENSORS = ("image_latent", "depth_latent", "valid")
_ORIGIN, _VIEWS = "depthfm.latents", "depthfm.views"
_REMEDY = "delete it and run `python -m depthfm_core precompute` again"


@dataclass(frozen=True)
class Shard:
    """An open shard of N views.

    Attributes:
        path: its file.
        origin: what made it, as `write_shard` was told.
        rows: by the names above, N tensors each: [4, h, w] half, [4, h, w] half, [h, w] bytes; mapped, not read.
    """

    path: Path
    origin: dict[str, object]
    rows: Mapping[str, Sequence[Tensor]]

    def __len__(self) -> int:
        return len(self.rows["valid"])

    @property
    def data_set(self) -> str:
        """As `data_set_of` its file."""
        return data_set_of(self.path)

    @property
    def size(self) -> tuple[int, int]:
        """(h, w) of its latents."""
        return tuple(self.rows["valid"][0].shape)


class _Format(NamedTuple):
    """A suffix, the calls that write tensors and their origin as text and that map them again, and one that reads the
    origin alone.
    """

    suffix: str
    write: Callable[[Path, str, Mapping[str, Tensor], str], None]
    open: Callable[[Path], tuple[str | None, dict[str, Sequence[Tensor]]]]
    origin: Callable[[Path], str | None]


def write_shard(path: Path, tensors: Mapping[str, Tensor], origin: Mapping[str, object]) -> None:
    """Writes a shard, which appears whole or not at all; what a killed process left half written of it is removed.

    Args:
        path: its suffix chooses the format.
        tensors: `image_latent` and `depth_latent` [N, 4, h, w] half, `valid` [N, h, w] uint8, contiguous.
        origin: what made it, of JSON's types.

    Raises:
        OSError: a full disk or a folder that cannot be written, with the shard's name.
    """
    remove_leftovers(path)
    try:
        with replacing(path, durable=True) as temporary:
            _format_of(path).write(temporary, path.stem, tensors, json.dumps(origin, sort_keys=True))
    except OSError as error:
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    except SafetensorError as error:
        raise OSError(f"{path} cannot be written ({error}); free some space or choose another disk.") from error


def open_shard(path: Path) -> Shard:
    """A shard that is whole as far as its size and its header tell; its latents are not read.

    Raises:
        ValueError: a truncated or foreign file, or one that does not say what made it.
    """
    with _told_as_broken(path):
        text, rows = _format_of(path).open(path)
        origin = json.loads(text) if text else None
    shard = Shard(path, _checked_origin(path, origin), rows)
    _check_shapes(shard)
    return shard


def read_origin(path: Path) -> dict[str, object]:
    """What made a shard, out of its header, which is quick for a file of any length. Errors: `open_shard`."""
    with _told_as_broken(path):
        text = _format_of(path).origin(path)
        origin = json.loads(text) if text else None
    return _checked_origin(path, origin)


def data_set_of(path: Path) -> str:
    """The data set in a shard's name, NAME-0000.safetensors."""
    return path.stem.rpartition("-")[0]


@contextmanager
def _told_as_broken(path: Path) -> Iterator[None]:
    try:
        yield
    except (OSError, SafetensorError, tarfile.TarError, ValueError, EOFError) as error:
        raise ValueError(f"{path} is no whole shard of latents ({error}); {_REMEDY}.") from error


def _checked_origin(path: Path, origin: object) -> dict[str, object]:
    if not isinstance(origin, dict):
        raise ValueError(f"{path} does not say what made it, as latents of an older version; {_REMEDY}.")
    return origin


def find_shards(folder: Path) -> list[Path]:
    """The shards in a folder, by name.

    Raises:
        ValueError: shards of two formats, which would be the same views twice.
    """
    found = {name: sorted(folder.glob(f"*{kind.suffix}")) for name, kind in FORMATS.items()}
    present = [name for name, paths in found.items() if paths]
    if len(present) > 1:
        raise ValueError(f"{folder} has shards in the formats {', '.join(present)}; delete those of one format.")
    return found[present[0]] if present else []


def check_origin(shard: Shard, origin: Mapping[str, object]) -> None:
    """Compares what made a shard with what the recipe would make it with.

    Raises:
        ValueError: naming the shard and the settings that differ.
    """
    other = [key for key, value in origin.items() if shard.origin.get(key) != value]
    if not other:
        return
    if not any(key in shard.origin for key in other):  # then no recipe makes it so
        raise ValueError(
            f"{shard.path} was made by an earlier version, with another {' and '.join(other)} than now; {_REMEDY}."
        )
    raise ValueError(
        f"{shard.path} was made with another {' and '.join(other)} than this recipe's; {_REMEDY}, or go back to the "
        "recipe and autoencoder that made it."
    )


def _format_of(path: Path) -> _Format:
    return next(kind for kind in FORMATS.values() if kind.suffix == path.suffix)


def _check_shapes(shard: Shard) -> None:
    first = {name: (tuple(rows[0].shape), rows[0].dtype) if len(rows) else None for name, rows in shard.rows.items()}
    latent, valid = ((4, *shard.size), torch.half), (shard.size, torch.uint8)
    counts = {len(rows) for rows in shard.rows.values()}
    if first != {"image_latent": latent, "depth_latent": latent, "valid": valid} or len(counts) > 1:
        raise ValueError(f"{shard.path} holds {first} and no views of one size; {_REMEDY}.")


def _write_safetensors(path: Path, _stem: str, tensors: Mapping[str, Tensor], origin: str) -> None:
    path.write_bytes(safetensors.torch.save(dict(tensors), {_ORIGIN: origin}))


def _open_safetensors(path: Path) -> tuple[str | None, dict[str, Sequence[Tensor]]]:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_ORIGIN), {name: file.get_tensor(name) for name in _TENSORS}


def _safetensors_origin(path: Path) -> str | None:
    with safe_open(path, "pt") as file:
        return (file.metadata() or {}).get(_ORIGIN)


def _write_webdataset(path: Path, stem: str, tensors: Mapping[str, Tensor], origin: str) -> None:
    """The names are those of CompVis/diff2flow, configs/data/hypersim.yaml; a key ends at its first dot."""
    views = len(tensors["valid"])
    headers = {_ORIGIN: origin, _VIEWS: str(views)}
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT, pax_headers=headers) as archive:
        for index in range(views):
            for name in _TENSORS:
                content = io.BytesIO()
                np.save(content, tensors[name][index].numpy())
                member = tarfile.TarInfo(f"{stem.replace('.', '_')}-{index:06d}.{name}.npy")
                member.size = content.tell()
                content.seek(0)
                archive.addfile(member, content)


def _open_webdataset(path: Path) -> tuple[str | None, dict[str, Sequence[Tensor]]]:
    with tarfile.open(path, "r:") as archive:
        members, facts = archive.getmembers(), archive.pax_headers
    if _ORIGIN not in facts:
        return None, {}
    mapped = torch.from_file(str(path), shared=False, size=path.stat().st_size, dtype=torch.uint8)
    rows = {}
    for name in _TENSORS:
        own = [member for member in members if member.name.endswith(f".{name}.npy")]
        if str(len(own)) != facts.get(_VIEWS) or len({member.size for member in own}) != 1:
            raise ValueError(f"it has {len(own)} of {facts.get(_VIEWS)} arrays {name}")
        rows[name] = _Arrays(mapped, [member.offset_data for member in own], own[0].size)
    return facts[_ORIGIN], rows


def _webdataset_origin(path: Path) -> str | None:
    with tarfile.open(path, "r:") as archive:  # which reads the global header and the first member
        return archive.pax_headers.get(_ORIGIN)


class _Arrays(Sequence):
    """Arrays of one shape and type in .npy files inside of a mapped file."""

    def __init__(self, mapped: Tensor, offsets: Sequence[int], size: int) -> None:
        """The first array's header, of `size` - array bytes, holds for all."""
        content = mapped[offsets[0] : offsets[0] + size].numpy().tobytes()
        first = torch.from_numpy(np.load(io.BytesIO(content), allow_pickle=False))
        self._mapped, self._shape, self._dtype, self._bytes = mapped, first.shape, first.dtype, first.nbytes
        self._starts = np.array(offsets) + size - first.nbytes

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Tensor:
        start = self._starts[index]
        return self._mapped[start : start + self._bytes].view(self._dtype).view(self._shape)


FORMATS: dict[str, _Format] = {
    "safetensors": _Format(".safetensors", _write_safetensors, _open_safetensors, _safetensors_origin),
    "webdataset": _Format(".tar", _write_webdataset, _open_webdataset, _webdataset_origin),
}
