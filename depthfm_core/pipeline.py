"""DepthFM from a picture to its depth map, read from top to bottom in `DepthFMPipeline.__call__`."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING

import torch
from einops import rearrange, repeat
from torch import Tensor

from .batching import decodes_that_fit, end_of_stage, largest_divisor, members_that_fit
from .depth.edges import enlarge_sharply, sharpen_edges
from .depth.prediction import DepthPrediction
from .flow import SolverProgress, combine_latents, combine_members, integrate, member_noise, noise_source
from .resize import Frame, fit
from .settings import SHARPENED_BELOW_PX, EstimationSettings

if TYPE_CHECKING:  # they import diffusers, which ComfyUI's side does without
    from .model.codec import LatentCodec
    from .model.unet import DepthFMUNet


@dataclass(frozen=True)
class DepthFMPipeline:
    """A velocity network and an autoencoder, ready to estimate; make one with `loading.load_pipeline`.

    Attributes:
        network: the velocity field, of either back end.
        codec: image and depth latents, of either back end.
        noising_step: of the source the network was trained on.
        processing_resolution: the short side in pixels that it works best at.
        spread_scale: turns the members' spread into the expected error; 1 when it was never measured.
        few_shapes: pads pictures to few sizes (see `resize.fit`) and gives the networks equal batches, for networks
            that cost time whenever they meet a shape for the first time.
    """

    network: "DepthFMUNet" = field(repr=False)
    codec: "LatentCodec" = field(repr=False)
    noising_step: int
    processing_resolution: int
    spread_scale: float = 1.0
    few_shapes: bool = False

    @torch.inference_mode()
    def __call__(
        self,
        image: Tensor,
        settings: EstimationSettings = EstimationSettings(),  # noqa: B008 (frozen)
        on_step: Callable[[SolverProgress], None] | None = None,
        noise: Tensor | None = None,
    ) -> DepthPrediction:
        """The depth of each image of a batch, at the images' own size, in float32 on the CPU.

        Args:
            image: [B, 3, H, W] RGB in [0, 1], any H and W from 1 to 16,384.
            settings: how to estimate.
            on_step: told of every solver step of every chunk; an exception that it raises ends the estimation.
            noise: [E, 4, h, w] standard normal noise of the members, in place of what the seed would give; or
                [B, E, 4, h, w] for images with noise of their own. E is the number of members then, whatever
                `settings.ensemble_size` says; h and w are those of the latent that the networks see.

        Returns:
            Tensors of `torch.inference_mode`: clone what a gradient shall go through, or what is changed in place.
            Within `torch.autocast` the networks round as it says, whatever precision the pipeline was loaded in.

        Raises:
            ValueError: for an image or noise of another type, shape or range, or settings of another type.
            RuntimeError: when "dopri5" needs more than `max_steps` steps.
        """
        _check_image(image)
        _check_settings(settings)
        image = image.float()
        resolution = settings.processing_resolution
        fitted, frame = fit(
            image,
            self.processing_resolution if resolution is None else resolution,
            self.multiple,
            few_shapes=self.few_shapes,
        )
        image_latent = torch.cat([self.codec.encode((2 * one - 1).to(self.device)) for one in fitted.split(1)])
        if noise is None:
            noise = _noise(settings, image_latent)
        _check_noise(noise, image_latent)
        # Combined at the working size: an ensemble at the size of the picture would fill the memory.
        centre, spread = self._combined(image_latent, noise, settings, on_step, frame)
        spread = spread * self.spread_scale
        seen = frame.crop(fitted).cpu()
        return at_pictures_size(centre, spread, frame, seen, image.cpu(), sharpen=self.sharpens(settings))

    def log_depths(
        self,
        image_latent: Tensor,
        noise: Tensor,
        settings: EstimationSettings,
        on_step: Callable[[SolverProgress], None] | None = None,
    ) -> Iterator[Tensor]:
        """Log depth of each image and member, image by image.

        The network sees as many at a time as memory allows, and goes first with all of them. They are decoded only as
        they are asked for, pictures of 512 x 512 pixels and more one by one, so that memory does not grow with the
        ensemble.

        Args:
            image_latent: [B, 4, h, w] scaled latents.
            noise: [E, 4, h, w] or [B, E, 4, h, w], as in `__call__`.
            settings: how to estimate; the seed, and what combines members, are of no use here.
            on_step: as in `__call__`.

        Yields:
            [N, 1, 8h, 8w] on the networks' device, all N adding up to B * E.
        """
        x_1 = self._depth_latents(image_latent, noise, settings, on_step)
        for part in x_1.split(self._chunk_size(len(x_1), decodes_that_fit(self._pixels(image_latent)))):
            yield self.codec.decode_log_depth(part)
            end_of_stage(self._pixels(image_latent))

    def sharpens(self, settings: EstimationSettings) -> bool:
        """Whether the edges of the depth are moved onto those of the picture: as told, or as suits the model."""
        if settings.sharpen_edges is None:
            return self.processing_resolution < SHARPENED_BELOW_PX
        return settings.sharpen_edges

    def _combined(
        self,
        image_latent: Tensor,
        noise: Tensor,
        settings: EstimationSettings,
        on_step: Callable | None,
        frame: Frame,
    ) -> tuple[Tensor, Tensor]:
        """Centre and spread of the members, [B, 1, H, W] each on the CPU at the frame's working size."""
        how = settings.reduction, settings.align_members
        by_image = partial(rearrange, pattern="(b e) c h w -> b e c h w", b=len(image_latent))
        if settings.average == "latents":  # one decode an image
            x_1 = self._depth_latents(image_latent, noise, settings, on_step).cpu()

            def decode(latent: Tensor) -> Tensor:
                return frame.crop(self.codec.decode_log_depth(latent.to(self.device)).cpu())

            return combine_latents(by_image(x_1), decode, *how)
        decoded = [frame.crop(part.cpu()) for part in self.log_depths(image_latent, noise, settings, on_step)]
        return combine_members(by_image(torch.cat(decoded)), *how)

    def _depth_latents(
        self, image_latent: Tensor, noise: Tensor, settings: EstimationSettings, on_step: Callable | None
    ) -> Tensor:
        """[(B E), 4, h, w] depth latents of each image and member, as many at a time as memory allows."""
        most = settings.members_at_once or self._members_that_fit(image_latent)
        if settings.is_adaptive:
            most = 1  # an adaptive solver's steps, and so its result, would depend on which members share them
        noise = noise.expand(len(image_latent), *noise.shape[-4:])  # [B, E, 4, h, w]
        latents = repeat(image_latent, "b c h w -> (b e) c h w", e=noise.shape[1])
        noises = rearrange(noise, "b e c h w -> (b e) c h w")
        at_once = self._chunk_size(len(latents), most)
        pairs = zip(latents.split(at_once), noises.split(at_once), strict=True)
        end_of_stage(self._pixels(image_latent))  # of encoding
        x_1 = torch.cat([self._solve(*(of.to(self.device) for of in pair), settings, on_step) for pair in pairs])
        end_of_stage(self._pixels(image_latent))
        return x_1

    def _pixels(self, latent: Tensor) -> int:
        """Of the picture of a latent."""
        return self.codec.downscale**2 * latent.shape[-2] * latent.shape[-1]

    def _solve(
        self, image_latent: Tensor, noise: Tensor, settings: EstimationSettings, on_step: Callable | None
    ) -> Tensor:
        """[N, 4, h, w] image latents and noise to depth latents: the method itself."""
        noising_step = self.noising_step if settings.noising_step is None else settings.noising_step
        x_0 = noise_source(image_latent, noising_step, noise)
        x_1, _ = integrate(
            lambda x_t, t: self.network(x_t, x_t.new_full((len(x_t),), t), image_latent),
            x_0,
            **settings.solver_options,
            on_step=on_step,
        )
        return x_1

    def _members_that_fit(self, latent: Tensor) -> int:
        cells, channels = latent[0, 0].numel(), self.network.hyper.channels[0]
        return members_that_fit(cells, channels, self.network.dtype, self.device)

    def _chunk_size(self, total: int, most: int) -> int:
        """How many of so many to take at a time: the most that is allowed, or that divides them, for equal chunks."""
        return largest_divisor(total, most) if self.few_shapes else most

    @property
    def multiple(self) -> int:
        """What the sides of the networks' picture are divisible by: one cell of the deepest level."""
        return self.codec.downscale * 2 ** (len(self.network.hyper.channel_mult) - 1)

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.network.device


def at_pictures_size(
    centre: Tensor, spread: Tensor, frame: Frame, seen: Tensor, image: Tensor, *, sharpen: bool
) -> DepthPrediction:
    """What was decoded, at the size of the pictures.

    Args:
        centre: [B, 1, h, w] log depth at the frame's working size.
        spread: [B, 1, h, w] its uncertainty.
        frame: how the pictures were fitted.
        seen: [B, 3, h, w] the pictures as the networks saw them, RGB in [0, 1].
        image: [B, 3, H, W] the pictures, RGB in [0, 1].
        sharpen: move the edges of the depth onto those of the pictures.
    """
    if sharpen:
        centre = sharpen_edges(centre, seen)
        log_depth = enlarge_sharply(centre, image)
    else:
        log_depth = frame.enlarge(centre)
    uncertainty = frame.enlarge(spread).clamp_min(0)
    return DepthPrediction.from_log_depth(log_depth, uncertainty, centre if frame.is_enlarged else None)


def _noise(settings: EstimationSettings, image_latent: Tensor) -> Tensor:
    """[E, 4, h, w], or [B, E, 4, h, w] for noise of each image's own."""
    shape = tuple(image_latent.shape[1:])
    if not settings.noise_per_image:
        return member_noise(settings.seed, settings.ensemble_size, shape)
    seeds = [settings.from_image(index).seed for index in range(len(image_latent))]
    return torch.stack([member_noise(seed, settings.ensemble_size, shape) for seed in seeds])


def _check_image(image: Tensor) -> None:
    if not isinstance(image, Tensor):
        raise ValueError(
            f"The image is a {type(image).__name__}; expected a tensor [B, 3, H, W] in [0, 1], as "
            "depth.files.read_image(path) gives for a file."
        )
    if image.ndim != 4 or image.shape[1] != 3 or image.numel() == 0:
        raise ValueError(f"The image has shape {list(image.shape)}; expected [B, 3, H, W], all at least 1.")
    if not image.is_floating_point():
        raise ValueError(f"The image holds {image.dtype}; expected floating point in [0, 1].")
    low, high = image.aminmax()
    if not (low >= -1e-3 and high <= 1 + 1e-3):  # NaN fails both
        raise ValueError(f"The image's values go from {low:.4g} to {high:.4g}; expected [0, 1] without NaN.")


def _check_settings(settings: EstimationSettings) -> None:
    if not isinstance(settings, EstimationSettings):  # their values were checked when they were made
        raise ValueError(f"The settings came as {type(settings).__name__}; expected EstimationSettings(...).")


def _check_noise(noise: Tensor, image_latent: Tensor) -> None:
    if not isinstance(noise, Tensor) or not noise.is_floating_point():
        kind = noise.dtype if isinstance(noise, Tensor) else type(noise).__name__
        raise ValueError(f"The noise came as {kind}; expected a tensor of floating point.")
    num_images, *latent = image_latent.shape
    before = list(noise.shape[:-3])  # [E] or [B, E]
    fits = list(noise.shape[-3:]) == latent and (len(before) == 1 or (len(before) == 2 and before[0] == num_images))
    if not fits or noise.numel() == 0:
        raise ValueError(
            f"The noise has shape {list(noise.shape)}; expected [E, {', '.join(map(str, latent))}] for E members, "
            f"or {num_images} of these, one for each image."
        )
    if not noise.isfinite().all():
        raise ValueError("The noise holds NaN or infinity; expected standard normal numbers.")
