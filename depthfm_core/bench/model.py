"""What is measured: a model with random weights of a chosen size, which costs what a trained one costs, or any model.

Weights are drawn as PyTorch draws them for a new network, uniform within 1 / sqrt(inputs of a neuron), so that values
keep about unit scale through the layers.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL
from torch import Tensor

from ..model.catalog import MODELS, find_model
from ..model.checkpoints import DepthFMCheckpoint, save_checkpoint
from ..model.hyperparameters import UNetHyperParameters
from ..model.names import diffusers_to_ldm
from ..model.unet import DepthFMUNet
from ..model.writing import save_tensors

_TEXT_TOKENS = 77
_ABOUT = 0.02  # how far the norms' scales and the biases are from 1 and 0


@dataclass(frozen=True)
class RandomModel:
    """The shape of a DepthFM and of the KL autoencoder that it uses.

    Attributes:
        hyper: the UNet's.
        codec_channels: channels on each of the autoencoder's levels, full resolution first.
        codec_layers: residual blocks on each of its levels.
    """

    hyper: UNetHyperParameters
    codec_channels: tuple[int, int, int, int]
    codec_layers: int


RANDOM_MODELS = {
    # The published model's shape, and that of Stable Diffusion 2.1's autoencoder.
    "full": RandomModel(UNetHyperParameters(320, (1, 2, 4, 4), 2, (1, 2, 4), 1024), (128, 256, 512, 512), 2),
    "tiny": RandomModel(UNetHyperParameters(32, (1, 1), 1, (1, 2), 32), (32, 32, 32, 32), 1),
}


@dataclass(frozen=True)
class ModelFiles:
    """A model's file or folder, and its autoencoder's where that is separate."""

    model: Path
    vae: Path | None = None

    @property
    def paths(self) -> list[Path]:
        """Every file that belongs to the model."""
        given = [path for path in (self.model, self.vae) if path is not None]
        found = [file for path in given for file in (sorted(path.rglob("*")) if path.is_dir() else [path])]
        return list(dict.fromkeys(found))  # an autoencoder may lie in the model's folder


def model_files(model: str, vae: str | None, folder: Path, device: str = "cpu") -> ModelFiles:
    """The files of a model given by name or path; those of a random one are written into `folder`, once.

    Args:
        model: one of `RANDOM_MODELS`, one of `model.catalog.MODELS`, a file or a folder.
        vae: a separate autoencoder, file or folder; None takes the model's own.
        folder: for random weights; made if missing.
        device: where random weights are drawn.

    Raises:
        ValueError: for a name that is none of these, or an autoencoder that does not exist.
    """
    if vae is not None and not Path(vae).exists():
        raise ValueError(f"There is no autoencoder {vae}; give a file or a folder, or leave --vae out.")
    if model in RANDOM_MODELS:
        files = _random_files(model, folder, device)
        return ModelFiles(files.model, Path(vae)) if vae else files
    if model not in MODELS and not Path(model).exists():
        known = ", ".join((*RANDOM_MODELS, *MODELS))
        raise ValueError(f"There is no model {model!r}; give a file, a folder, or one of {known}.")
    path, own_vae = find_model(model)
    return ModelFiles(path, Path(vae) if vae else own_vae)


def _random_files(name: str, folder: Path, device: str) -> ModelFiles:
    files = ModelFiles(folder / f"{name}.safetensors", folder / f"{name}-vae.safetensors")
    folder.mkdir(parents=True, exist_ok=True)
    shape = RANDOM_MODELS[name]
    network, autoencoder = without_weights(shape)
    if not files.vae.exists():
        save_tensors(_draw(autoencoder.state_dict(), device), files.vae)
    if not files.model.exists():
        weights = diffusers_to_ldm(_draw(network.unet.state_dict(), device), shape.hyper)
        null_text = torch.randn(network.null_text.shape, generator=_generator("cpu"))
        save_checkpoint(DepthFMCheckpoint(files.model, weights, shape.hyper, null_text), files.model, "float32")
    return files


def without_weights(shape: RandomModel) -> tuple[DepthFMUNet, AutoencoderKL]:
    """The network and the autoencoder of a shape, on the meta device."""
    levels = len(shape.codec_channels)
    with torch.device("meta"):
        network = DepthFMUNet(shape.hyper, torch.empty(1, _TEXT_TOKENS, shape.hyper.context_dim))
        autoencoder = AutoencoderKL(
            block_out_channels=shape.codec_channels,
            layers_per_block=shape.codec_layers,
            down_block_types=["DownEncoderBlock2D"] * levels,
            up_block_types=["UpDecoderBlock2D"] * levels,
            latent_channels=4,
        )
    return network, autoencoder


def _draw(shapes: Mapping[str, Tensor], device: str) -> dict[str, Tensor]:
    """Matrices and kernels at random, the norms' scales about 1, everything else about 0.

    Not 1 and 0 themselves, which compilers fold away: no trained model is so simple, and OpenVINO 2026.4 crashes on it.
    """
    generator, drawn = _generator(device), {}
    for name, like in shapes.items():
        is_matrix = like.ndim > 1
        bound = 1 / math.sqrt(like[0].numel()) if is_matrix else _ABOUT
        centre = float(name.endswith("weight") and not is_matrix)
        values = torch.empty(like.shape, device=device)
        drawn[name] = values.uniform_(centre - bound, centre + bound, generator=generator)
    return drawn


def _generator(device: str) -> torch.Generator:
    return torch.Generator(device).manual_seed(0)
