"""DepthFM checkpoints: any published layout in, our one layout out.

Whatever the layout, the result is the same `DepthFMCheckpoint`: UNet tensors under LDM's names, the network's shape,
the empty prompt's embedding and the amount of noise. Our own layout is one safetensors file with the same tensor names,
`empty_text_embedding`, the hyper-parameters as JSON metadata and, for a small model, the autoencoder under `vae.`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..replacing import is_same
from .autoencoders import are_stable_diffusions
from .hyperparameters import UNetHyperParameters, from_ldm, from_state_dict
from .layouts import (
    FACTS,
    FIRST_CONVOLUTION,
    NULL_TEXT,
    REMEDY,
    facts_tensor,
    flatten,
    read_diffusers_folder,
    read_null_text,
    read_settings,
    strip_prefix,
)
from .names import ldm_to_diffusers
from .pages import convert_tensors
from .parameterization import DEFAULT_PARAMETERIZATION
from .precision import network_layout
from .reading import CheckpointError, read_tensor_file
from .shapes import unet_mismatch
from .writing import save_tensors

if TYPE_CHECKING:  # what builds networks imports diffusers, which takes seconds and which ComfyUI's side does without
    from .codec import LatentCodec
    from .unet import DepthFMUNet

PUBLISHED_NOISING_STEP = 400
PUBLISHED_RESOLUTION = 448  # short side in pixels; trained at 384x512, and the authors advise "around 384 to 512"
SAVE_DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class DepthFMCheckpoint:
    """All that a DepthFM needs besides an autoencoder of its own.

    Attributes:
        path: where it came from, for messages.
        state_dict: the UNet's tensors under LDM's names, possibly mapped from disk.
        hyper: the UNet's shape.
        null_text: [1, L, D] float32 embedding of the empty prompt.
        noising_step: how noisy the source is, of 1000.
        processing_resolution: the short side in pixels that the model works best at.
        spread_scale: the factor that makes the ensemble's spread the expected error; 1 when it was never measured.
        parameterization: how the network is asked for the velocity, one of `PARAMETERIZATIONS`.
        codec_tensors: a bundled autoencoder's tensors; empty when there is none.
        codec_config: that autoencoder's diffusers configuration.
        training: the "version" of this project and the "recipe" that made it, and the fingerprint of the "network" that
            a training left, or the last "step" of one that is not done; None where a file does not say.
    """

    path: Path
    state_dict: Mapping[str, Tensor] = field(repr=False)
    hyper: UNetHyperParameters
    null_text: Tensor = field(repr=False)
    noising_step: int = PUBLISHED_NOISING_STEP
    processing_resolution: int = PUBLISHED_RESOLUTION
    spread_scale: float = 1.0
    parameterization: str = DEFAULT_PARAMETERIZATION
    codec_tensors: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    codec_config: Mapping | None = None
    training: Mapping | None = None

    @property
    def num_parameters(self) -> int:
        """Of the UNet, with the text projections that inference does without."""
        return sum(tensor.numel() for tensor in self.state_dict.values())

    def build_unet(
        self, attention: str = "plain", dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> "DepthFMUNet":
        """The velocity network for inference, with the text's keys and values computed once.

        Weights that are right as they are in the file stay mapped from it; the others are converted one at a time.
        """
        from .unet import DepthFMUNet

        with torch.device("meta"):
            null_text = torch.empty(self.null_text.shape)
            network = DepthFMUNet(self.hyper, null_text, attention, self.parameterization)
        layout = network_layout(torch.device(device), dtype)
        weights = convert_tensors(
            ldm_to_diffusers(self.state_dict, self.hyper),
            self.path,
            lambda _, t: t.to(device, dtype, memory_format=layout if t.ndim == 4 else torch.preserve_format),
        )
        network.unet.load_state_dict(weights, assign=True)
        network.null_text = self.null_text.to(device)
        network.fix_null_text()
        return network.eval().requires_grad_(False)

    @property
    def has_latents_of_its_own(self) -> bool:
        """Whether it was trained on its own autoencoder's latents and not on Stable Diffusion's; by their scale."""
        return bool(self.codec_tensors) and not are_stable_diffusions(self.codec_config)

    def build_codec(
        self, dtype: torch.dtype = torch.float32, device: str | torch.device = "cpu"
    ) -> "LatentCodec | None":
        """The bundled autoencoder, or None when the file holds none; precision as in `codec.build_codec`."""
        if not self.codec_tensors:
            return None
        from .codec import build_codec

        return build_codec(self.codec_tensors, self.codec_config, source=self.path, dtype=dtype, device=device)


def load_checkpoint(path: str | Path, null_text: Tensor | None = None) -> DepthFMCheckpoint:
    """Reads a DepthFM in any layout: published .ckpt, safetensors with LDM's names, a diffusers folder, or ours.

    The first bytes decide what a file is, not its suffix. Hyper-parameters that a file does not state are read off its
    shapes, with 8 attention heads on every level. An embedding that is not inside may lie beside the file as
    `empty_text_embedding.npy` or `.safetensors`.

    Args:
        path: the file or folder.
        null_text: [1, L, D] embedding of the empty prompt, for a file that holds none; it goes before one that lies
            beside the file.

    Raises:
        CheckpointError: for a file that is missing, damaged, hostile, of another model, or incomplete.
    """
    path = Path(path)
    content, metadata = read_diffusers_folder(path) if path.is_dir() else read_tensor_file(path)
    values = read_settings(path, content, metadata)
    tensors = flatten(content)
    codec_tensors = {name[4:]: tensors.pop(name) for name in list(tensors) if name.startswith("vae.")}
    own_null_text = tensors.pop(NULL_TEXT, None)
    state_dict = strip_prefix(path, tensors)
    hyper = _hyper_parameters(path, state_dict, values.pop("ldm_hparams", None))
    _check_unet(path, state_dict, hyper)
    return DepthFMCheckpoint(
        path=path,
        state_dict=state_dict,
        hyper=hyper,
        null_text=read_null_text(path, own_null_text, hyper, null_text),
        codec_tensors=codec_tensors,
        **values,
    )


def save_checkpoint(checkpoint: DepthFMCheckpoint, path: str | Path, dtype: str = "float16") -> None:
    """Writes our layout: one safetensors with everything inside. Nothing is left behind when it fails.

    Args:
        checkpoint: what to write.
        path: ends in .safetensors.
        dtype: one of `SAVE_DTYPES`, for the network and the bundled autoencoder; the embedding stays float32.

    Raises:
        ValueError: for an unknown dtype, a folder or another suffix, or a weight that is too large for the dtype.
        OSError: when the disk refuses.
    """
    path = Path(path)
    _check_target(path, dtype)
    codec = {f"vae.{name}": tensor for name, tensor in checkpoint.codec_tensors.items()}
    tensors = {name: _rounded(name, t, dtype) for name, t in (dict(checkpoint.state_dict) | codec).items()}
    tensors[NULL_TEXT] = checkpoint.null_text.float()
    save_tensors(tensors, path, _metadata(checkpoint))


def _rounded(name: str, tensor: Tensor, dtype: str) -> Tensor:
    rounded = tensor.to(SAVE_DTYPES[dtype])
    if not rounded.isfinite().all() and tensor.float().isfinite().all():
        largest = tensor.abs().max()
        raise ValueError(f"{name} has {largest:.3g}, which {dtype} does not hold; take the dtype bfloat16 or float32.")
    return rounded


def tensors_beside_network(checkpoint: DepthFMCheckpoint) -> dict[str, Tensor]:
    """What a file that somebody else writes needs beside the network's tensors to be read as this checkpoint."""
    codec = {f"vae.{name}": tensor for name, tensor in checkpoint.codec_tensors.items()}
    return codec | {NULL_TEXT: checkpoint.null_text, FACTS: facts_tensor(_metadata(checkpoint))}


def convert(source: str | Path, target: str | Path, dtype: str = "float16") -> DepthFMCheckpoint:
    """Reads any layout and writes ours; returns what was read.

    Raises:
        CheckpointError: for an unusable source.
        ValueError: when the target is the source, or for what `save_checkpoint` refuses.
    """
    if is_same(Path(source), Path(target)):
        raise ValueError(f"{target} is the file to convert; choose another name for the result.")
    _check_target(Path(target), dtype)  # before gigabytes are read
    checkpoint = load_checkpoint(source)
    save_checkpoint(checkpoint, target, dtype)
    return checkpoint


def _check_target(path: Path, dtype: str) -> None:
    if dtype not in SAVE_DTYPES:
        raise ValueError(f"Unknown dtype {dtype!r}; choose one of {', '.join(SAVE_DTYPES)}.")
    if path.is_dir():
        raise ValueError(f"{path} is a folder; name a file in it, {path / 'NAME.safetensors'}.")
    if path.suffix != ".safetensors":
        raise ValueError(f"{path} must end in .safetensors.")


def _metadata(checkpoint: DepthFMCheckpoint) -> dict[str, str]:
    values = {
        "format": "depthfm",
        "noising_step": str(checkpoint.noising_step),
        "processing_resolution": str(checkpoint.processing_resolution),
        "spread_scale": repr(checkpoint.spread_scale),
        "parameterization": checkpoint.parameterization,
        "ldm_hparams": json.dumps(checkpoint.hyper.to_ldm()),
    }
    if checkpoint.codec_tensors and checkpoint.codec_config:
        values["codec_config"] = json.dumps({k: v for k, v in checkpoint.codec_config.items() if v is not None})
    if checkpoint.training:
        values["training"] = json.dumps(checkpoint.training)
    return values


def _hyper_parameters(path: Path, state_dict: Mapping[str, Tensor], stated: dict | None) -> UNetHyperParameters:
    channels = state_dict[FIRST_CONVOLUTION].shape[1]
    if channels != 8:
        raise CheckpointError(
            path, f"is a UNet for {channels} input channels; DepthFM has 8 (x_t and image latent).", REMEDY
        )
    try:
        return from_ldm(stated) if stated else from_state_dict(state_dict)
    except (KeyError, IndexError) as error:
        raise CheckpointError(path, f"is incomplete: it has no {error}.", REMEDY) from error
    except (ValueError, TypeError, RuntimeError) as error:
        raise CheckpointError(path, f"has hyper-parameters that fit no DepthFM: {error}", REMEDY) from error


def _check_unet(path: Path, state_dict: Mapping[str, Tensor], hyper: UNetHyperParameters) -> None:
    problem = unet_mismatch(state_dict, hyper)
    if problem:
        raise CheckpointError(path, f"does not fit a DepthFM of its hyper-parameters: {problem}", REMEDY)
