"""DepthFM under ComfyUI's memory management, progress bar and cancel button; the only file that imports `comfy`.

The networks are diffusers' modules behind ComfyUI's `ModelPatcher`. Before every call they are brought to their device,
because the VAE on the socket, or another model, may have pushed them off since the last one.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import comfy.model_management as mm
import comfy.model_patcher
import comfy.utils
import torch
from torch import Tensor, nn

from ..depthfm_core.depth.prediction import DepthPrediction
from ..depthfm_core.flow.ode import network_calls
from ..depthfm_core.model.checkpoints import load_checkpoint
from ..depthfm_core.pipeline import (
    DECODER_BYTES_PER_PIXEL,
    DTYPES,
    SHARE_OF_FREE_MEMORY,
    DepthFMPipeline,
    EstimationSettings,
    members_that_fit,
)
from ..depthfm_core.resize import fit
from .vae import VaeCodec

logger = logging.getLogger(__name__)

WEIGHT_DTYPES = {"default": None} | {name: dtype for name, dtype in DTYPES.items() if dtype is not None}
_TYPICAL_DOPRI5_CALLS = 40  # for the progress bar; the solver itself cannot tell


@dataclass(frozen=True, eq=False)
class ManagedModel:
    """What the DEPTHFM_MODEL socket carries.

    Attributes:
        path: where the model came from.
        network: the patcher that holds a `DepthFMUNet`.
        codec: the patcher that holds a `LatentCodec`; None for a model without an autoencoder.
        noising_step, processing_resolution, spread_scale: see `DepthFMPipeline`.
    """

    path: Path
    network: comfy.model_patcher.ModelPatcher
    codec: comfy.model_patcher.ModelPatcher | None
    noising_step: int
    processing_resolution: int
    spread_scale: float

    def get_ram_usage(self) -> int:
        """Bytes, for ComfyUI's cache."""
        return self.network.model_size() + (self.codec.model_size() if self.codec else 0)


def load_model(path: Path, weight_dtype: str, attention: str) -> ManagedModel:
    """Reads a checkpoint in any layout; nothing is on the GPU yet.

    Raises:
        CheckpointError: for an unusable file.
    """
    checkpoint = load_checkpoint(path)
    dtype = WEIGHT_DTYPES[weight_dtype] or _default_dtype(sum(t.numel() for t in checkpoint.state_dict.values()))
    codec = checkpoint.build_codec()
    return ManagedModel(
        path=path,
        network=_patcher(checkpoint.build_unet(attention, dtype)),
        codec=None if codec is None else _patcher(codec),
        noising_step=checkpoint.noising_step,
        processing_resolution=checkpoint.processing_resolution,
        spread_scale=checkpoint.spread_scale,
    )


def estimate(model: ManagedModel, image: Tensor, settings: EstimationSettings, vae: object | None) -> DepthPrediction:
    """The depth of every frame, on the CPU.

    One frame at a time, so that a long batch needs no more memory than one frame. When memory runs out, half as many of
    a frame's ensemble members go through the networks at a time.

    Args:
        model: from `load_model`.
        image: [B, 3, H, W] in [0, 1].
        settings: how to estimate; `members_at_once` is chosen here.
        vae: ComfyUI's VAE in place of the model's own autoencoder, or None.

    Raises:
        ValueError: when there is no autoencoder, or the VAE is of another kind.
    """
    calls = network_calls(settings.solver, settings.num_steps) or _TYPICAL_DOPRI5_CALLS
    progress = Progress(len(image), settings.ensemble_size * calls)
    pipeline = _pipeline(model, vae, progress.advance)
    settings = replace(settings, members_at_once=_members_that_fit(pipeline, image, settings))
    frames = []
    for index, frame in enumerate(image.split(1)):
        prediction, settings = _with_less_memory(pipeline, frame, settings, lambda i=index: progress.start(i))
        frames.append(prediction)
    log_depth, uncertainty = (torch.cat([getattr(f, name) for f in frames]) for name in ("log_depth", "uncertainty"))
    return DepthPrediction.from_log_depth(log_depth, uncertainty)


class Progress:
    """One bar over all frames, counted in network calls times members."""

    def __init__(self, num_frames: int, per_frame: int) -> None:
        self.per_frame = per_frame
        self.bar = comfy.utils.ProgressBar(num_frames * per_frame)
        self.start(0)

    def start(self, frame: int) -> None:
        """A frame begins, or begins again."""
        self.floor, self.done = frame * self.per_frame, 0
        self.bar.update_absolute(self.floor)

    def advance(self, members: int) -> None:
        """A network call for so many members is done."""
        self.done = min(self.done + members, self.per_frame)
        self.bar.update_absolute(self.floor + self.done)


class ManagedNetwork:
    """The velocity network for one run: cancellable, with progress, on its device when it is called."""

    def __init__(self, patcher: comfy.model_patcher.ModelPatcher, on_call: Callable[[int], None]) -> None:
        self.patcher = patcher
        self.on_call = on_call
        self.hyper = patcher.model.hyper

    def __call__(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """See `DepthFMUNet.forward`; raises ComfyUI's interrupt when the user has cancelled."""
        mm.throw_exception_if_processing_interrupted()
        network = _bring(self.patcher, _bytes_of(x_t))
        velocity = network(x_t, t, image_latent)
        self.on_call(len(x_t))
        return velocity


class ManagedCodec:
    """The model's own autoencoder, on its device when it is called."""

    downscale = 8

    def __init__(self, patcher: comfy.model_patcher.ModelPatcher) -> None:
        self.patcher = patcher

    def encode(self, image: Tensor) -> Tensor:
        """See `LatentCodec.encode`."""
        return _bring(self.patcher, image[0, 0].numel() * len(image) * DECODER_BYTES_PER_PIXEL).encode(image)

    def decode(self, latent: Tensor) -> Tensor:
        """See `LatentCodec.decode`."""
        return _bring(self.patcher, _bytes_of(latent)).decode(latent)


@dataclass(frozen=True)
class ManagedPipeline(DepthFMPipeline):
    """The pipeline, whose device is where ComfyUI will bring the networks, not where they are now."""

    load_device: torch.device = torch.device("cpu")

    @property
    def device(self) -> torch.device:
        """Where the networks will be when they are called."""
        return self.load_device


def _pipeline(model: ManagedModel, vae: object | None, on_call: Callable[[int], None]) -> ManagedPipeline:
    if vae is None and model.codec is None:
        raise ValueError(
            f"{model.path.name} brings no autoencoder. Connect a Stable Diffusion 1.5 or 2.x VAE to the 'vae' input, "
            "for example Load VAE with vae-ft-mse-840000-ema-pruned.safetensors."
        )
    return ManagedPipeline(
        network=ManagedNetwork(model.network, on_call),
        codec=ManagedCodec(model.codec) if vae is None else VaeCodec(vae),
        noising_step=model.noising_step,
        processing_resolution=model.processing_resolution,
        spread_scale=model.spread_scale,
        load_device=model.network.load_device,
    )


def _with_less_memory(
    pipeline: DepthFMPipeline, frame: Tensor, settings: EstimationSettings, on_start: Callable[[], None]
) -> tuple[DepthPrediction, EstimationSettings]:
    """The frame's depth, and the settings with the members at once that had memory enough."""
    while True:
        on_start()
        try:
            return pipeline(frame, settings), settings
        except mm.OOM_EXCEPTION:
            if settings.members_at_once == 1:
                raise
        # Outside of the except block, where the failed run's tensors are no longer held by the exception.
        settings = replace(settings, members_at_once=settings.members_at_once // 2)
        logger.warning("DepthFM ran out of memory; going on with %d members at once.", settings.members_at_once)
        mm.soft_empty_cache()


def _members_that_fit(pipeline: DepthFMPipeline, image: Tensor, settings: EstimationSettings) -> int:
    """How many members of one frame fit into the free memory, by the estimate; at least one."""
    resolution = settings.processing_resolution
    resolution = pipeline.processing_resolution if resolution is None else resolution
    shape = fit(torch.empty(image[:1].shape, device="meta"), resolution, pipeline.multiple)[0].shape
    budget = mm.get_free_memory(pipeline.device) * SHARE_OF_FREE_MEMORY
    return min(settings.ensemble_size, members_that_fit(shape[-1] * shape[-2], budget))


def _bytes_of(latent: Tensor) -> int:
    """The estimate for a run of [N, 4, h, w] latents."""
    return len(latent) * 64 * latent.shape[-1] * latent.shape[-2] * DECODER_BYTES_PER_PIXEL


def _bring(patcher: comfy.model_patcher.ModelPatcher, memory_required: int) -> nn.Module:
    """The patcher's module, wholly on its device, with so many bytes left free for the run where possible."""
    mm.load_models_gpu([patcher], memory_required=memory_required, force_full_load=True)
    return patcher.model.to(patcher.load_device)  # --novram leaves parts behind, and these modules cannot run in parts


def _patcher(module: nn.Module) -> comfy.model_patcher.ModelPatcher:
    """The module under management. The class is looked up late: newer ComfyUI binds it at start."""
    patcher = getattr(comfy.model_patcher, "CoreModelPatcher", comfy.model_patcher.ModelPatcher)
    return patcher(module, load_device=mm.get_torch_device(), offload_device=mm.unet_offload_device())


def _default_dtype(num_parameters: int) -> torch.dtype:
    """What ComfyUI stores and computes this network in; its command-line switches are heard."""
    device = mm.get_torch_device()
    stored = mm.unet_dtype(device, num_parameters)
    return mm.unet_manual_cast(stored, device) or stored
