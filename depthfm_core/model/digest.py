"""What tells two sets of weights apart, in whatever file they came."""

import hashlib
from collections.abc import Mapping

import torch
from torch import Tensor


def tensor_digest(tensors: Mapping[str, Tensor], *facts: str) -> str:
    """SHA-256 over names, dtypes, shapes and every byte of the tensors, and what else decides what they compute."""
    total = hashlib.sha256("\n".join(facts).encode())
    for name, tensor in sorted(tensors.items()):
        total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
        content = tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8)  # NumPy has no bfloat16
        total.update(content.numpy())
    return total.hexdigest()
