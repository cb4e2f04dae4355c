"""Which weights were measured."""

import hashlib
from pathlib import Path

import torch
from torch import nn

from ..model.bundled import MODELS, find_model

_CHUNK_BYTES = 2**24


def fingerprint(weights: str) -> str:
    """The SHA-256 of a weights file (of all files of a folder, by name), or the name itself where there is no file.

    Hidden files and what Python compiles do not count: importing the code beside the weights would change them.

    Args:
        weights: a path, a name from `model.bundled.MODELS`, or a repository's name.

    Raises:
        ValueError: for a model that was not downloaded yet.
    """
    path = find_model(weights)[0] if weights in MODELS else Path(weights)
    if not path.exists():
        return weights
    files = [path] if path.is_file() else sorted(file for file in path.rglob("*") if _is_part_of_it(file, path))
    digest = hashlib.sha256()
    for file in files:
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
    digest = hashlib.sha256("\n".join(facts).encode())
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)  # NumPy has no bfloat16
        digest.update(content.numpy())
    return f"sha256:{digest.hexdigest()}"
