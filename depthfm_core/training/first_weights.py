"""The velocity network before its first step: random weights, an image prior's, or those of a DepthFM to go on from."""

from collections.abc import Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from ..model.catalog import MODELS, find_model
from ..model.checkpoints import DepthFMCheckpoint, load_checkpoint
from ..model.codec import LatentCodec, load_codec
from ..model.hyperparameters import UNetHyperParameters
from ..model.layouts import NULL_TEXT, read_null_text, read_null_text_file
from ..model.names import ldm_to_diffusers
from ..model.unet import DepthFMUNet
from ..replacing import is_same, write_text
from .latents import encode
from .null_text import embed_empty_prompt, save_null_text
from .prior import read_prior
from .recipe import NetworkSettings
from .velocity import build_network

RESULT = "model.safetensors"  # below the output folder


def first_network(settings: NetworkSettings, output: Path) -> DepthFMUNet:
    """The network that the first flow stage starts from.

    Args:
        settings: of a recipe.
        output: the folder that relative paths start from.

    Raises:
        CheckpointError: for a prior, an embedding or a DepthFM that cannot be read or does not fit.
        ValueError: for a `start` that is not there.
    """
    if settings.start:
        checkpoint, _ = _read_start(settings, output)
        network = _shaped_like(checkpoint)
        weights = ldm_to_diffusers(checkpoint.state_dict, checkpoint.hyper)
        network.unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        return network
    network = untrained_network(settings, output)
    if settings.prior:
        weights = read_prior(output / settings.prior, settings.unet, keep_heads=settings.keep_heads)
        network.unet.load_state_dict(weights)
    return network


def untrained_network(settings: NetworkSettings, output: Path) -> DepthFMUNet:
    """The same with random weights, for those of a flow stage that is done; needs no prior. Errors as above."""
    if settings.start:
        return _shaped_like(_read_start(settings, output)[0])
    null_text = find_null_text(settings, output)
    return build_network(settings.unet, settings.null_text_tokens, settings.seed, null_text, settings.parameterization)


def find_null_text(settings: NetworkSettings, output: Path) -> Tensor | None:
    """The empty prompt's embedding [1, L, D] that a recipe names, or whose encoder; None where it names neither."""
    path = output / (settings.null_text or f"{NULL_TEXT}.npy")
    if settings.text_encoder:
        _embed_once(settings.text_encoder, output, path)
    if not settings.null_text and not settings.text_encoder:
        return None
    return read_null_text(path, read_null_text_file(path), settings.unet)


def _embed_once(encoder: str, output: Path, path: Path) -> None:
    """Makes the embedding, unless it is there already of this encoder: a corrected recipe must not find the old one."""
    note = path.with_suffix(".txt")
    made_by = note.read_text(encoding="utf-8").strip() if note.exists() else encoder
    if not path.exists() or made_by != encoder:
        save_null_text(embed_empty_prompt(output / encoder), path)
        write_text(note, f"{encoder}\n")


def start_codec(settings: NetworkSettings, output: Path) -> LatentCodec:
    """The autoencoder that `settings.start` knows: bundled with it, or downloaded with it.

    Raises:
        ValueError: for a model that brings none.
    """
    checkpoint, own = _read_start(settings, output)
    _check_codec(checkpoint, own)
    return load_codec(own) if own else checkpoint.build_codec()


def latents_apart(settings: NetworkSettings, output: Path, path: Path) -> float:
    """How far the latents of an autoencoder are from those that `settings.start` knows, of a picture of soft spots.

    Args:
        settings, output: as in `first_network`.
        path: the autoencoder, as `load_codec` reads it.

    Returns:
        Root mean square of the difference over that of the latents; 0 where the start brings no autoencoder.
    """
    checkpoint, own = _read_start(settings, output)
    if own is None and not checkpoint.codec_tensors:
        return 0.0
    spots = torch.rand(1, 3, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1
    picture = F.interpolate(spots, scale_factor=8, mode="bilinear")
    known, given = encode(start_codec(settings, output), picture), encode(load_codec(path), picture)
    return float(((given - known).square().mean() / known.square().mean()).sqrt())


def network_shape(settings: NetworkSettings, output: Path) -> UNetHyperParameters:
    """The network's shape: the recipe's, or that of the model that training goes on from. Errors as above."""
    return _read_start(settings, output)[0].hyper if settings.start else settings.unet


def check_start(
    settings: NetworkSettings, output: Path, noising_steps: Mapping[str, int], *, brings_codec: bool
) -> None:
    """Whether `settings.start` is there and fits; known before hours of rendering.

    Args:
        settings, output: as in `first_network`.
        noising_steps: of the source of each flow stage.
        brings_codec: whether its autoencoder is needed.

    Raises:
        CheckpointError: for a file that cannot be read.
        ValueError: for a model that is not there, is to be overwritten or brings no autoencoder, or a source of other
            noise than it was trained with.
    """
    checkpoint, own = _read_start(settings, output)
    if brings_codec:
        _check_codec(checkpoint, own)
    for stage, noising_step in noising_steps.items():
        if noising_step != checkpoint.noising_step:
            raise ValueError(
                f"[flow.{stage}] has noising_step {noising_step}, and {checkpoint.path} was trained with "
                f"{checkpoint.noising_step}; set noising_step = {checkpoint.noising_step}."
            )


def _check_codec(checkpoint: DepthFMCheckpoint, own: Path | None) -> None:
    if own is None and not checkpoint.codec_tensors:
        raise ValueError(
            f"{checkpoint.path} brings no autoencoder; name the one that it was trained with: path in [autoencoder]."
        )


def _shaped_like(checkpoint: DepthFMCheckpoint) -> DepthFMUNet:
    return DepthFMUNet(checkpoint.hyper, checkpoint.null_text, parameterization=checkpoint.parameterization)


def _read_start(settings: NetworkSettings, output: Path) -> tuple[DepthFMCheckpoint, Path | None]:
    path, codec = find_start(settings, output)
    return load_checkpoint(path), codec


def find_start(settings: NetworkSettings, output: Path) -> tuple[Path, Path | None]:
    """Where the model lies that training goes on from, by name or by a path as the recipe's others, and its own codec.

    Raises:
        ValueError: for a model that is not there, or the file that the recipe's own result will be written to.
    """
    path, codec = find_model(settings.start if settings.start in MODELS else output / settings.start)
    if is_same(path, output / RESULT):
        raise ValueError(
            f"[network] starts from {path}, which stage export writes; copy it to another name, or choose another "
            "output folder."
        )
    return path, codec
