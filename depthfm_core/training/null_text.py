"""The embedding of the empty prompt, which the network attends to in place of a text: made once, then a file."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..model.layouts import NULL_TEXT
from ..model.reading import CheckpointError
from ..model.writing import save_tensors
from ..replacing import replacing

_REMEDY = "Give the folder of Stable Diffusion 2.1, or one with its text_encoder/ and tokenizer/."


@torch.no_grad()
def embed_empty_prompt(folder: Path) -> Tensor:
    """What a CLIP text encoder makes of "", padded as its tokenizer pads: [1, L, D] float32, L = 77 for CLIP.

    Stable Diffusion 2.1's `text_encoder/` ends at the layer before the last of OpenCLIP-H, which is the one that the
    network knows; padding takes part, as in Stable Diffusion, so there is no attention mask.

    Args:
        folder: has `text_encoder/` and `tokenizer/`, or the files of both; nothing is downloaded.

    Raises:
        CheckpointError: for a folder without them, or an encoder of which tensors are missing.
        ModuleNotFoundError: without the package `transformers`.
    """
    from transformers import CLIPTextModel, CLIPTokenizer  # heavy, and of this one use

    encoder = _subfolder(folder, "text_encoder", "config.json")
    _check_kind(encoder)
    try:
        tokenizer = CLIPTokenizer.from_pretrained(
            _subfolder(folder, "tokenizer", "tokenizer_config.json"), local_files_only=True
        )
        model, report = CLIPTextModel.from_pretrained(encoder, local_files_only=True, output_loading_info=True)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(folder, f"holds no usable text encoder ({error}).", _REMEDY) from error
    missing = sorted(report["missing_keys"])
    if missing:
        raise CheckpointError(encoder, f"lacks {len(missing)} tensors, for example {missing[0]}.", _REMEDY)
    length = model.config.max_position_embeddings
    tokens = tokenizer("", padding="max_length", max_length=length, truncation=True, return_tensors="pt").input_ids
    return model.float().eval()(tokens).last_hidden_state


def check_suffix(path: Path) -> None:
    """Raises ValueError for a file that `save_null_text` does not write: not .npy or .safetensors."""
    if path.suffix not in _WRITERS:
        raise ValueError(f"{path} must end in {' or '.join(_WRITERS)}.")


def save_null_text(embedding: Tensor, path: Path) -> None:
    """Writes the embedding as `read_null_text_file` reads it; makes the folder if it is missing.

    Raises:
        ValueError: for a suffix that is neither .npy nor .safetensors.
    """
    check_suffix(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    _WRITERS[path.suffix](embedding.float(), path)


def _write_npy(embedding: Tensor, path: Path) -> None:
    with replacing(path, durable=True) as temporary, temporary.open("wb") as file:
        np.save(file, embedding.contiguous().numpy())


_WRITERS: dict[str, Callable[[Tensor, Path], None]] = {
    ".npy": _write_npy,
    ".safetensors": lambda embedding, path: save_tensors({NULL_TEXT: embedding}, path),
}


def _subfolder(folder: Path, name: str, file: str) -> Path:
    """The part of a pipeline's folder, or the folder itself where it holds that part's file."""
    for candidate in (folder / name, folder):
        if (candidate / file).is_file():
            return candidate
    raise CheckpointError(folder, f"has no {name}/{file}.", _REMEDY)


def _check_kind(encoder: Path) -> None:
    """Raises for another network than a CLIP text encoder, of which `transformers` would take what fits."""
    try:
        kind = json.loads((encoder / "config.json").read_text(encoding="utf-8")).get("model_type")
    except (OSError, ValueError, AttributeError) as error:
        raise CheckpointError(encoder, f"has an unreadable config.json ({error}).", _REMEDY) from error
    if kind not in ("clip_text_model", "clip"):
        raise CheckpointError(encoder, f"is a {kind}, not a clip_text_model.", _REMEDY)
