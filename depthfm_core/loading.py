"""A pipeline from the names of its parts: which files, on which device, in which precision.

What builds networks is imported where they are built: it needs diffusers, which takes seconds, and the command line
reads this file for its options before it knows whether there is anything to do.
"""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import nn

from .backends.choice import choose_backend
from .model.autoencoders import are_stable_diffusions
from .model.catalog import find_model
from .model.checkpoints import DepthFMCheckpoint, load_checkpoint
from .model.precision import choose_dtype
from .pipeline import DepthFMPipeline

if TYPE_CHECKING:
    from .model.codec import LatentCodec

_LOGGER = logging.getLogger(__name__)
_DEVICES = "auto, cpu, cuda, cuda:1 or mps"


def load_pipeline(
    model: str | Path = "nano",
    vae: str | Path | None = None,
    device: str | torch.device | None = "cpu",
    dtype: str = "auto",
    attention: str = "plain",
    backend: str = "auto",
    decoder: str | Path | None = None,
    *,
    compile: bool = False,
) -> DepthFMPipeline:
    """The pipeline of a bundled or downloaded model, or of a checkpoint in any layout.

    Args:
        model: a name from `model.catalog.MODELS`, a file or a folder.
        vae: a Stable Diffusion 1.x/2.x autoencoder, file or folder; None takes the model's own.
        device: a torch device, or "auto" or None as `chosen_device` has them.
        dtype: one of `model.precision.DTYPES`, in which network and autoencoder compute; what is sensitive stays
            float32 (see `model.codec`). "auto" takes what the device computes well. The price of bfloat16 is a log
            depth that deviates from float32's by 0.7 % with nano and 1.8 % with random weights of the published size
            (relative root mean square error of one member of two steps at 512 x 512).
        attention: "plain", or "rescaled" for the numbers of the authors' code without xformers.
        backend: one of `backends.choice.BACKENDS`.
        decoder: a tiny decoder (TAESD), file or folder, that decodes in place of the autoencoder, which still encodes:
            faster and less exact.
        compile: compiles the network and the decoder, at the first picture of each shape; meant for GPUs. Pictures are
            padded to few shapes, which changes the depth of those of unusual aspect (docs/approximations.md).

    Raises:
        CheckpointError: for an unusable file.
        ValueError: for an unknown name, dtype, device or backend, a backend that cannot be used or has no `decoder` or
            `compile`, a model without an autoencoder when `vae` is None, a `vae` or `decoder` for a model with latents
            of its own, a `vae` whose configuration names another scale than Stable Diffusion 1.x/2.x (SDXL's does; a
            single file names none), or a device that cannot be compiled for.
        OSError: when there is no room on the disk for what OpenVINO converts, unless PyTorch may take its place.
    """
    path, own_vae = find_model(model)
    device = usable_device(device)
    checkpoint = load_checkpoint(path)
    if vae is None and own_vae is not None and not own_vae.is_dir():
        raise ValueError(f"{model} lacks its autoencoder, {own_vae}; fetch it with `python -m depthfm_core download`.")
    _check_latents(checkpoint, own_vae, {"vae": vae, "decoder": decoder})
    chosen = choose_dtype(dtype, device, checkpoint.num_parameters)
    torch_only = [name for name, given in (("decoder", decoder), ("compile", compile)) if given]
    parts = None
    if choose_backend(backend, device, attention, checkpoint.num_parameters, torch_only) == "openvino":
        parts = _openvino_networks(checkpoint, vae or own_vae, chosen, required=backend == "openvino")
    codec, network = parts or _torch_networks(checkpoint, vae or own_vae, chosen, device, attention, compiled=compile)
    if decoder is not None:
        from .model.tiny_decoder import SplitCodec, load_tiny_decoder

        codec = SplitCodec(codec, load_tiny_decoder(decoder, chosen, device))
    if compile:
        from .model.compiling import compile_networks

        compile_networks(network, codec, device)
    return DepthFMPipeline(
        network=network,
        codec=codec,
        noising_step=checkpoint.noising_step,
        processing_resolution=checkpoint.processing_resolution,
        spread_scale=checkpoint.spread_scale,
        few_shapes=compile,
    )


def takes_another_autoencoder(model: str | Path) -> bool:
    """Whether a model reads Stable Diffusion's latents, so that `load_pipeline` takes a `vae` for it.

    Raises:
        CheckpointError, ValueError: as `load_pipeline`.
    """
    path, own_vae = find_model(model)
    return not _has_latents_of_its_own(load_checkpoint(path), own_vae)


def _check_latents(checkpoint: DepthFMCheckpoint, own_vae: Path | None, given: Mapping[str, str | Path | None]) -> None:
    named = [name for name, value in given.items() if value]
    if named and _has_latents_of_its_own(checkpoint, own_vae):
        raise ValueError(
            f"{checkpoint.path} was trained on the latents of its own autoencoder, which no other encodes or decodes; "
            f"leave out {' and '.join(named)}, or name the model that it is for."
        )
    vae = given["vae"]
    if vae and Path(vae).is_dir() and not are_stable_diffusions(config := _config(vae)):
        raise ValueError(
            f"{vae} scales its latents by {config['scaling_factor']}, which is not Stable Diffusion 1.x/2.x (SDXL has "
            "0.13025); name one of these, for example stabilityai/sd-vae-ft-mse."
        )


def _has_latents_of_its_own(checkpoint: DepthFMCheckpoint, own_vae: Path | None) -> bool:
    """As its property, for an autoencoder that lies beside the checkpoint, too."""
    beside = own_vae is not None and own_vae.is_dir()
    return checkpoint.has_latents_of_its_own or (beside and not are_stable_diffusions(_config(own_vae)))


def _config(vae: str | Path) -> Mapping:
    """The configuration of an autoencoder in a diffusers folder."""
    from .model.codec import find_in_folder

    return find_in_folder(Path(vae))[0]


def _openvino_networks(
    checkpoint: DepthFMCheckpoint, vae: str | Path | None, dtype: torch.dtype, *, required: bool
) -> tuple[nn.Module, nn.Module] | None:
    """Autoencoder and network on OpenVINO; None where it fails, or there is no room, and it is not required."""
    from .model.lean import make_lean

    traced = make_lean(_codec(checkpoint, vae, torch.float32, torch.device("cpu")), fewer_products=False)
    try:
        from .backends.openvino_networks import openvino_codec, openvino_network

        return openvino_codec(traced, dtype), openvino_network(checkpoint, dtype)
    except (OSError, RuntimeError, ImportError) as error:  # its releases change what a conversion imports
        if required:
            raise
        _LOGGER.warning("OpenVINO is not used: %s", error)
        return None


def _torch_networks(
    checkpoint: DepthFMCheckpoint,
    vae: str | Path | None,
    dtype: torch.dtype,
    device: torch.device,
    attention: str,
    *,
    compiled: bool,
) -> tuple["LatentCodec", nn.Module]:
    """Autoencoder and network on PyTorch, lean but for what is better left to a compiler."""
    from .model.lean import make_lean, make_network_lean

    codec = make_lean(_codec(checkpoint, vae, dtype, device), fewer_products=not compiled)
    network = checkpoint.build_unet(attention, dtype, device)
    return codec, network if compiled else make_network_lean(network)


def _codec(
    checkpoint: DepthFMCheckpoint, vae: str | Path | None, dtype: torch.dtype, device: torch.device
) -> "LatentCodec":
    from .model.codec import load_codec

    codec = load_codec(vae, dtype, device) if vae else checkpoint.build_codec(dtype, device)
    if codec is None:
        raise ValueError(
            f"{checkpoint.path} brings no autoencoder; name one (--vae FILE|FOLDER): any of Stable Diffusion 1.x/2.x, "
            "for example stabilityai/sd-vae-ft-mse."
        )
    return codec


def chosen_device(name: str | torch.device | None) -> str | torch.device:
    """The device of that name; of "auto" and None cuda where there is one, else mps, else cpu."""
    if name is not None and name != "auto":
        return name
    if torch.cuda.is_available():
        return "cuda"
    return "mps" if torch.backends.mps.is_available() else "cpu"


def usable_device(name: str | torch.device | None) -> torch.device:
    """The device of `chosen_device`, once it has shown that it holds a tensor's value, with its number if it has one.

    Raises:
        ValueError: for one that is not there.
    """
    try:
        device = torch.device(chosen_device(name))
    except RuntimeError as error:
        raise ValueError(f"There is no device {name!r}; choose {_DEVICES}.") from error
    try:
        tensor = torch.zeros(1, device=device)
        tensor.item()  # "meta" has shapes alone
        return tensor.device
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"Device {str(name)!r} cannot be used ({reason}); choose {_DEVICES}.") from error
