"""Which weights were measured, or trained with."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from .catalog import MODELS, find_model
from .digest import tensor_digest

_CHUNK_BYTES = 2**24


def fingerprint(weights: str) -> str:
    """The SHA-256 of a weights file (of all files of a folder, by name); of a repository, what is in the cache.

    Hidden files and what Python compiles do not count: importing the code beside the weights would change them. A
    repository of the Hugging Face hub is NAME@COMMIT, one of torch.hub NAME@SHA-256 of its code (which names the
    weights that it takes), and one that is in no cache its name alone.

    Args:
        weights: a path, a name from `model.catalog.MODELS`, or a repository's name.

    Raises:
        ValueError: for a model that was not downloaded yet.
    """
    path = find_model(weights)[0] if weights in MODELS else Path(weights)
    if not path.exists():
        return _cached(weights)
    return _digest(path)


def cached_repository(name: str) -> Path | None:
    """The folder of a repository's code in torch.hub's cache, None where it was never fetched."""
    found = sorted(Path(torch.hub.get_dir()).glob(f"{name.replace('/', '_')}_*/hubconf.py"))
    return found[0].parent if found else None


def _cached(name: str) -> str:
    """NAME, after @ which revision of the repository a library would take from its cache."""
    from huggingface_hub.constants import HF_HUB_CACHE  # late: it would be slow to start every command

    commit = Path(HF_HUB_CACHE, f"models--{name.replace('/', '--')}", "refs", "main")
    if commit.is_file():
        return f"{name}@{commit.read_text(encoding='utf-8').strip()}"
    code = cached_repository(name)
    return f"{name}@{_digest(code)}" if code else name


def _digest(path: Path) -> str:
    files = [path] if path.is_file() else [file for file in path.rglob("*") if _is_part_of_it(file, path)]
    digest = hashlib.sha256()
    for file in sorted(files, key=lambda file: file.relative_to(path).parts):  # paths of Windows sort without case
        digest.update(file.relative_to(path).as_posix().encode())
        with file.open("rb") as content:
            while chunk := content.read(_CHUNK_BYTES):
                digest.update(chunk)
    return f"sha256:{digest.hexdigest()}"


def _is_part_of_it(file: Path, folder: Path) -> bool:
    names = file.relative_to(folder).parts
    return file.is_file() and not any(name.startswith(".") or name == "__pycache__" for name in names)


def fingerprint_weights(module: nn.Module, *facts: str) -> str:
    """The SHA-256 of a module's tensors and of what else decides what it computes, in whatever file they came."""
    return f"sha256:{tensor_digest(module.state_dict(), *facts)}"
