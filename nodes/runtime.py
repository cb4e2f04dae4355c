"""A run of DepthFM under ComfyUI's memory management, with its progress bar and cancel button."""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

import comfy.model_management as mm
import comfy.utils
import torch
from comfy.cli_args import LatentPreviewMethod, args
from comfy.model_patcher import ModelPatcher
from PIL import Image
from torch import Tensor

from ..depthfm_core.batching import SHARE_OF_FREE_MEMORY
from ..depthfm_core.depth.controlnet import controlnet_image
from ..depthfm_core.depth.prediction import DepthPrediction
from ..depthfm_core.flow.ode import network_calls
from ..depthfm_core.model.autoencoders import SD_SCALING_FACTORS
from ..depthfm_core.pipeline import DepthFMPipeline
from ..depthfm_core.resize import Placement
from ..depthfm_core.settings import EstimationSettings
from .convert import rgb
from .frames import empty_maps, joined, prediction_of
from .native import Facts, depthfm_of, in_float32
from .out_of_memory import AutoencoderOutOfMemory, is_out_of_memory
from .patches import check_patches
from .vae import EXAMPLE_VAE, VaeCodec, is_same_autoencoder

logger = logging.getLogger(__name__)

_TYPICAL_DOPRI5_CALLS = 40  # for the progress bar; the solver itself cannot tell
_MOST_AT_ONCE = 16  # a GPU is busy by then, and cancel would have to wait for more


def estimate(
    patcher: ModelPatcher,
    image: Tensor,
    settings: EstimationSettings,
    vae: object | None,
    frames_at_once: int = 0,
    progress: "Progress | None" = None,
) -> DepthPrediction:
    """The depth of every frame, on the CPU.

    Results leave the GPU with every group of frames, so that a long batch needs no more memory than one group. When
    memory runs out, half as much goes through the network at a time, down to a single member of a single frame.

    Args:
        patcher: of a DepthFM, from `native.load_model`, possibly patched further.
        image: [B, 3, H, W] of any floating dtype; values outside of [0, 1] are clipped.
        settings: how to estimate; `members_at_once` is chosen here.
        vae: ComfyUI's VAE, in place of the model's own autoencoder where that is of Stable Diffusion too; or None.
        frames_at_once: how many frames may share a network call, if memory allows; 0 = as many as it allows.
        progress: of this many frames with these settings, from which the caller goes on; None = a bar of its own.

    Raises:
        ValueError: for another model, one whose sampling was replaced, a VAE of another kind or other latents, or when
            there is no autoencoder.
        AutoencoderOutOfMemory: when the autoencoder has no room for one frame.
    """
    progress = progress or Progress(len(image), settings)
    pipeline = _pipeline(patcher, vae, progress.advance)
    at_once = 1 if settings.is_adaptive else _pairs_that_fit(pipeline, image, settings)
    fits = max(1, at_once // settings.ensemble_size)
    size = min(frames_at_once or fits, fits)
    settings = replace(settings, members_at_once=min(at_once, size * settings.ensemble_size))
    maps, working = empty_maps(len(image), image.shape[2:], settings.ensemble_size), []
    with _running(patcher):
        for start in range(0, len(image), size):
            group = slice(start, start + size)
            prediction, at_once = _with_less_memory(
                pipeline, rgb(image[group]), settings.from_image(start), lambda s=start: progress.start(s, size)
            )
            settings = replace(settings, members_at_once=at_once)
            for name, values in maps.items():
                values[group] = getattr(prediction, name)
            working.append(prediction.working_log_depth)
            progress.show(prediction)
    return prediction_of(maps, torch.cat(working) if working[0] is not None else None)


class Progress:
    """One bar over all frames, counted in network calls times members, and one more for enlarging each.

    It ends with one more for each frame, for the picture that the node makes of it afterwards.
    """

    def __init__(self, num_frames: int, settings: EstimationSettings) -> None:
        calls = network_calls(settings.solver, settings.num_steps) or _TYPICAL_DOPRI5_CALLS
        self.num_frames, self.per_frame = num_frames, settings.ensemble_size * calls + 1
        self.bar = comfy.utils.ProgressBar(num_frames * (self.per_frame + 1))
        self.start(0, num_frames)

    def start(self, frame: int, size: int) -> None:
        """The group of this size that begins with this frame begins, or begins again."""
        self.done = frame * self.per_frame
        self.end = min(frame + size, self.num_frames) * self.per_frame  # an adaptive solver may call more than counted
        self.bar.update_absolute(self.done)

    def advance(self, units: int) -> None:
        """A network call for so many members is done, or so many frames are enlarged."""
        self.done = min(self.done + units, self.end)
        self.bar.update_absolute(self.done)

    def show(self, prediction: DepthPrediction) -> None:
        """The last frame of a group that is done, for users who have previews of core's samplers too."""
        if args.preview_method != LatentPreviewMethod.NoPreviews:
            last = DepthPrediction(prediction.log_depth[-1:], prediction.uncertainty[-1:])
            gray = (controlnet_image(last)[0, 0] * 255).round().byte()  # [H, W]
            picture = Image.fromarray(gray.numpy())
            self.bar.update_absolute(self.done, preview=("JPEG", picture, args.preview_size))


class ManagedNetwork:
    """The velocity network for one run: cancellable and with progress."""

    def __init__(self, patcher: ModelPatcher, on_call: Callable[[int], None]) -> None:
        self.patcher = patcher
        self.on_call = on_call
        self.hyper = depthfm_of(patcher).facts.source.hyper

    @property
    def device(self) -> torch.device:
        """Where it will be when it is called."""
        return self.patcher.load_device

    @property
    def dtype(self) -> torch.dtype:
        """What the last call was computed in."""
        return self.patcher.model.computed_dtype

    def load(self, shape: torch.Size) -> None:
        """Brings it to its device, with room for calls with latents of this shape."""
        needed = self.patcher.model.memory_required_by(self.patcher, shape)
        mm.load_models_gpu([self.patcher], memory_required=needed)

    def __call__(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """See `DepthFMModel.velocity`; raises ComfyUI's interrupt when the user has cancelled."""
        mm.throw_exception_if_processing_interrupted()
        velocity = self.patcher.model.velocity(self.patcher, x_t, t, image_latent)
        self.on_call(len(x_t))
        return velocity


@dataclass(frozen=True)
class ManagedPipeline(DepthFMPipeline):
    """The pipeline that has ComfyUI bring the network to its device, and that knows a way out of overflow.

    Attributes:
        advance: moves the progress bar by so many units; a frame at its picture's size is one.
    """

    advance: Callable[[int], None] = field(kw_only=True)

    def _solve(self, image_latent: Tensor, noise: Tensor, *rest: object) -> Tensor:
        # Before every solution, because the VAE, or another model, may have pushed the network off since the last one.
        self.network.load(image_latent.shape)
        x_1 = super()._solve(image_latent, noise, *rest)
        if x_1.isfinite().all() or self.network.dtype == torch.float32:  # which would come out the same again
            return x_1
        logger.warning("DepthFM's result is not finite in half precision; going on in float32.")
        self.network.patcher = in_float32(self.network.patcher)
        self.network.load(image_latent.shape)
        return super()._solve(image_latent, noise, *rest)

    def _at_pictures_size(
        self, centre: Tensor, spread: Tensor, placement: Placement, pictures: tuple[Tensor, Tensor] | None
    ) -> DepthPrediction:
        at_pictures_size, batches = super()._at_pictures_size, (centre, spread, *(pictures or ()))

        # One by one: with sharpened edges a large frame takes seconds, and cancel would have to wait for the group.
        def frames() -> Iterator[dict[str, Tensor]]:
            for one_centre, one_spread, *own in zip(*(batch.split(1) for batch in batches), strict=True):
                mm.throw_exception_if_processing_interrupted()
                frame = at_pictures_size(one_centre, one_spread, placement, tuple(own) or None)
                self.advance(1)
                yield {name: values for name, values in vars(frame).items() if values is not None}

        return DepthPrediction(**joined(frames(), len(centre)))


def _pipeline(patcher: ModelPatcher, vae: object | None, advance: Callable[[int], None]) -> ManagedPipeline:
    facts = depthfm_of(patcher).facts
    check_patches(patcher)
    return ManagedPipeline(
        network=ManagedNetwork(patcher, advance),
        advance=advance,
        codec=_codec(facts, vae),
        noising_step=facts.source.noising_step,
        processing_resolution=facts.source.processing_resolution,
        spread_scale=facts.source.spread_scale,
    )


def _codec(facts: Facts, vae: object | None) -> VaeCodec:
    """The VAE on the socket, or the model's own; a model with latents of its own takes no other."""
    name = facts.source.path.name
    if vae is None and facts.vae is None:
        raise ValueError(
            f"{name} brings no autoencoder. Connect a Stable Diffusion 1.5 or 2.x VAE to the 'vae' input, "
            f"for example Load VAE with {EXAMPLE_VAE}."
        )
    if facts.vae is None:
        return VaeCodec(vae)
    if vae is None or is_same_autoencoder(vae, facts.vae):
        return VaeCodec(facts.vae if vae is None else vae, facts.scaling_factor)  # the socket's may be for another GPU
    if facts.scaling_factor not in SD_SCALING_FACTORS:
        raise ValueError(
            f"{name} was trained on the latents of its own autoencoder and cannot read another's. "
            "Disconnect the 'vae' input, or choose the model that this VAE belongs to."
        )
    return VaeCodec(vae)


@contextmanager
def _running(patcher: ModelPatcher) -> Iterator[None]:
    """Core's samplers announce a run to what is patched into a model, and its end."""
    patcher.pre_run()
    try:
        yield
    finally:
        patcher.cleanup()


def _with_less_memory(
    pipeline: DepthFMPipeline, frames: Tensor, settings: EstimationSettings, on_start: Callable[[], None]
) -> tuple[DepthPrediction, int]:
    """The frames' depth, and how many members at once had memory enough."""
    while True:
        on_start()
        try:
            return pipeline(frames, settings), settings.members_at_once
        except Exception as error:
            by_members = is_out_of_memory(error) and not isinstance(error, AutoencoderOutOfMemory)
            if not by_members or settings.members_at_once == 1:
                raise
        # Outside of the except block, where the failed run's tensors are no longer held by the exception.
        settings = replace(settings, members_at_once=settings.members_at_once // 2)
        logger.warning("DepthFM ran out of memory; going on with %d members at once.", settings.members_at_once)
        mm.soft_empty_cache()


def _pairs_that_fit(pipeline: ManagedPipeline, image: Tensor, settings: EstimationSettings) -> int:
    """How many pairs of frame and member go through the network at a time; at least one.

    As many as fit, but no more than fit into what the decoder takes for one of them: so memory does not grow with the
    ensemble, and a GPU is busy by then.
    """
    height, width = pipeline.fit(torch.empty(image[:1].shape, device="meta"), settings)[0].shape[-2:]
    patcher = pipeline.network.patcher
    one = patcher.model.memory_required_by(patcher, [1, 4, height // 8, width // 8])
    budget = min(_memory_for_a_run(patcher) * SHARE_OF_FREE_MEMORY, pipeline.codec.decode_bytes(height, width))
    return max(1, min(_MOST_AT_ONCE, int(budget / one), len(image) * settings.ensemble_size))


def _memory_for_a_run(patcher: ModelPatcher) -> int:
    """Bytes beside the weights; on a GPU those that other models hold count as free, since ComfyUI moves them out."""
    if mm.is_device_cpu(patcher.load_device):
        return mm.get_free_memory(patcher.load_device)
    return mm.get_total_memory(patcher.load_device) - patcher.model_size()
