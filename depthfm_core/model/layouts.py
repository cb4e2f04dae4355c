"""From what a file of any layout holds to the parts of a checkpoint: settings, flat tensors, bare LDM names."""

import json
import logging
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..flow import NUM_NOISING_STEPS
from .autoencoders import check_scale
from .hyperparameters import UNetHyperParameters, from_ldm
from .names import diffusers_to_ldm
from .parameterization import DEFAULT_PARAMETERIZATION, check_parameterization
from .reading import CheckpointError, not_plain, read_tensor_file, weight_files

_LOGGER = logging.getLogger(__name__)

NULL_TEXT = "empty_text_embedding"
FACTS = "depthfm_facts"  # the metadata as JSON in a tensor of bytes, in files whose metadata somebody else wrote
FIRST_CONVOLUTION = "input_blocks.0.0.weight"
_PARTS_OF_A_WHOLE = ("first_stage_model.", "cond_stage_model.", "conditioner.")  # of Stable Diffusion, beside its UNet
REMEDY = "Take depthfm-v1.ckpt (`python -m depthfm_core download depthfm-v1`), or the bundled model nano."


def read_settings(path: Path, content: Mapping, metadata: Mapping[str, str]) -> dict:
    """What a file says about itself, as arguments of `DepthFMCheckpoint`; metadata are JSON values in strings.

    A file that core's Save Model wrote says it in the tensor `FACTS`.
    """
    readers = {
        "noising_step": int,
        "processing_resolution": int,
        "spread_scale": float,
        "parameterization": str,
        "ldm_hparams": _mapping,
        "codec_config": _mapping,
        "training": _mapping,
    }
    try:
        stated = dict(metadata) | _facts_in(content) | dict(content)
        values = {name: read(stated[name]) for name, read in readers.items() if name in stated}
        if not 0 <= values.get("noising_step", 0) < NUM_NOISING_STEPS:
            raise ValueError(f"noising_step is {values['noising_step']}, not 0 to {NUM_NOISING_STEPS - 1}")
        if not 1 <= values.get("processing_resolution", 1) or not 0 < values.get("spread_scale", 1.0) < math.inf:
            raise ValueError("processing_resolution and spread_scale must be positive and finite")
        check_parameterization(values.get("parameterization", DEFAULT_PARAMETERIZATION))
        check_scale(values.get("codec_config", {}).get("scaling_factor", 1.0))
    except (ValueError, TypeError, ArithmeticError, RuntimeError) as error:
        raise CheckpointError(path, f"describes itself wrongly ({error}).", REMEDY) from error
    return values


def facts_tensor(facts: Mapping[str, str]) -> Tensor:
    """uint8 [N], what stands under `FACTS` for these metadata."""
    return torch.frombuffer(bytearray(json.dumps(facts), "utf-8"), dtype=torch.uint8)


def _facts_in(content: Mapping) -> dict:
    facts = content.get(FACTS)
    return json.loads(facts.numpy().tobytes()) if isinstance(facts, Tensor) else {}


def _mapping(value: object) -> dict:
    """A dictionary from a dictionary, an argparse namespace or JSON."""
    value = json.loads(value) if isinstance(value, str) else value
    return dict(value) if isinstance(value, Mapping) else dict(vars(value))


def flatten(content: Mapping) -> dict[str, Tensor]:
    """All tensors of a nested dictionary under dotted names; NumPy arrays become tensors."""
    tensors = {}
    for name, value in content.items():
        if isinstance(value, np.ndarray):
            tensors[str(name)] = torch.from_numpy(value)
        elif isinstance(value, Tensor):
            tensors[str(name)] = value
        elif isinstance(value, Mapping) and name != "ldm_hparams":
            tensors |= {f"{name}.{inner}": t for inner, t in flatten(value).items()}
    for settings in ("noising_step", FACTS):
        tensors.pop(settings, None)
    return tensors


def flatten_settings(table: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """The values of nested tables, as a file's `training` holds them, under dotted names."""
    flat = {}
    for name, value in table.items():
        inner = isinstance(value, dict) and value
        flat |= flatten_settings(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return flat


def find_prefix(path: Path, tensors: Mapping[str, Tensor], kind: str, remedy: str) -> str:
    """What stands before the UNet's LDM names in a file: nothing, or `model.diffusion_model.` and the like.

    Raises:
        CheckpointError: for a file without a UNet, which is then no `kind`.
    """
    first = next((name for name in tensors if name.endswith(FIRST_CONVOLUTION)), None)
    if first is None:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise CheckpointError(path, f"is not {kind}: it has no {FIRST_CONVOLUTION} (it has {some}).", remedy)
    return first.removesuffix(FIRST_CONVOLUTION)


def strip_prefix(path: Path, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The UNet's tensors under bare LDM names; `state_dict.`, `model.`, `model.diffusion_model.` and so on go."""
    prefix = find_prefix(path, tensors, "a DepthFM checkpoint", REMEDY)
    foreign = [name for name in tensors if not name.startswith(prefix)]
    if foreign:
        others = [name for name in foreign if any(part in name for part in _PARTS_OF_A_WHOLE)]
        if others and tensors[f"{prefix}{FIRST_CONVOLUTION}"].shape[1:2] != (8,):  # or a DepthFM, saved with them
            raise CheckpointError(
                path,
                f"is not a DepthFM checkpoint: it is a whole Stable Diffusion checkpoint, with {others[0]}.",
                REMEDY,
            )
        raise CheckpointError(
            path, f"has unexpected tensors: {', '.join(foreign[:3])} ({len(foreign)} in all).", REMEDY
        )
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items()}


def read_null_text(
    path: Path, inside: Tensor | None, hyper: UNetHyperParameters, given: Tensor | None = None
) -> Tensor:
    """The empty prompt's embedding [1, L, D] float32: from inside the file, else as given, else from beside it.

    Raises:
        CheckpointError: when there is none, or one that does not fit the network.
    """
    if inside is not None and given is not None:
        _LOGGER.warning("%s: the embedding of the empty prompt in the file is used, not the one given.", path)
    embedding = inside if inside is not None else given
    if embedding is None:
        embedding = _null_text_beside(path)
    if embedding.ndim == 2:
        embedding = embedding[None]  # [1, L, D]
    problem = None
    if embedding.ndim != 3 or embedding.shape[0] != 1 or embedding.shape[2] != hyper.context_dim:
        problem = f"of shape {list(embedding.shape)}; expected [1, L, {hyper.context_dim}]."
    elif not_plain({NULL_TEXT: embedding}) or not embedding.float().isfinite().all():
        problem = "of values that are no finite floating-point numbers."
    if problem:
        raise CheckpointError(
            path,
            f"has an empty-prompt embedding {problem}",
            "Give the one that belongs to this network; that of the published one is made by the text encoder of "
            "Stable Diffusion 2.1.",
        )
    return embedding.float()


def _null_text_beside(path: Path) -> Tensor:
    folder = path if path.is_dir() else path.parent
    for file in (folder / f"{NULL_TEXT}.npy", folder / f"{NULL_TEXT}.safetensors"):
        if file.is_file():
            return read_null_text_file(file)
    raise CheckpointError(
        path,
        "holds no embedding of the empty prompt.",
        "In ComfyUI connect CLIP Text Encode, with an empty text and Stable Diffusion 2.1's text encoder, to "
        f"empty_prompt of Load DepthFM Model; elsewhere put {NULL_TEXT}.npy beside it (the array of that name in "
        "depthfm-v1.ckpt, [1, 77, 1024]).",
    )


def read_null_text_file(path: Path) -> Tensor:
    """The empty prompt's embedding as it is in a file: the array of an .npy, or the tensor of that name in another.

    Raises:
        CheckpointError: for a file that cannot be read, or that holds no such tensor.
    """
    remedy = "Make it again with `python -m depthfm_core embed-empty-prompt`."
    if path.suffix == ".npy":
        try:
            return torch.from_numpy(np.load(path, allow_pickle=False))
        except (OSError, ValueError, TypeError, EOFError) as error:
            raise CheckpointError(path, f"is unreadable ({error}).", remedy) from error
    tensors = flatten(read_tensor_file(path)[0])
    if NULL_TEXT not in tensors:
        some = ", ".join(list(tensors)[:3]) or "no tensors"
        raise CheckpointError(path, f"holds no {NULL_TEXT} (it has {some}).", remedy)
    return tensors[NULL_TEXT]


def read_diffusers_folder(folder: Path, remedy: str = REMEDY) -> tuple[dict, dict[str, str]]:
    """A diffusers pipeline's `unet/`, or a folder that is one, as a checkpoint with LDM's names.

    Raises:
        CheckpointError: with `remedy` as its advice, for a folder without a UNet of this family.
    """
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    weights = [file for file in weight_files(unet) if file.stem != NULL_TEXT]
    if not (unet / "config.json").is_file() or not weights:
        raise CheckpointError(folder, "is a folder without unet/config.json and unet/*.safetensors.", remedy)
    try:
        hyper = _from_diffusers(json.loads((unet / "config.json").read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, LookupError, ArithmeticError, RecursionError) as error:
        raise CheckpointError(folder, f"has a unet/config.json that fits no DepthFM ({error}).", remedy) from error
    tensors, metadata = read_tensor_file(weights[0])
    return diffusers_to_ldm(tensors, hyper) | {"ldm_hparams": hyper.to_ldm()}, metadata


def _from_diffusers(config: Mapping) -> UNetHyperParameters:
    """LDM's hyper-parameters of a diffusers configuration, where `attention_head_dim` is the number of heads."""
    channels = config["block_out_channels"]
    heads = config.get("num_attention_heads") or config.get("attention_head_dim", 8)
    heads = [heads] * len(channels) if isinstance(heads, int) else list(heads)
    values = {"num_heads": heads[0]}
    if len(set(heads)) > 1:
        values = {"num_head_channels": channels[0] // heads[0]}
    return from_ldm(
        values
        | {
            "model_channels": channels[0],
            "channel_mult": [c // channels[0] for c in channels],
            "num_res_blocks": config.get("layers_per_block", 2),
            "attention_resolutions": [2**i for i, kind in enumerate(config["down_block_types"]) if "CrossAttn" in kind],
            "context_dim": config["cross_attention_dim"],
            "in_channels": config.get("in_channels", 4),
            "out_channels": config.get("out_channels", 4),
            "transformer_depth": config.get("transformer_layers_per_block", 1),
            "use_linear_in_transformer": config.get("use_linear_projection", False),
        }
    )
