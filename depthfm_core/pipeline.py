"""DepthFM from a picture to its depth map: `DepthFMPipeline.__call__` is the road, `_solve` the method."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import torch
from einops import rearrange, repeat
from torch import Tensor

from .batching import decodes_that_fit, end_of_stage, largest_divisor, members_that_fit
from .checks import check_image, check_noise, check_settings
from .depth.edges import resize_sharply, sharpen_edges
from .depth.prediction import DepthPrediction
from .flow import SolverProgress, combine_latents, combine_members, integrate, noise_source
from .parts import Codec, VelocityNetwork
from .resize import Placement, fit
from .settings import EstimationSettings, sharpens


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

    network: VelocityNetwork = field(repr=False)
    codec: Codec = field(repr=False)
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
            ValueError: for an image or noise of another type, shape or range, settings of another type, or a
                `processing_resolution` of less than `multiple`.
            RuntimeError: when "dopri5" needs more than `max_steps` steps.
        """
        check_image(image)
        check_settings(settings, self.multiple)
        image = image.float()
        fitted, placement = self.fit(image, settings)
        image_latent = torch.cat([self.codec.encode((2 * one - 1).to(self.device)) for one in fitted.split(1)])
        if noise is None:
            noise = settings.noise(image_latent)
        check_noise(noise, image_latent)
        x_1 = self.depth_latents(image_latent, noise.float(), settings, on_step)  # [B, E, 4, h, w]
        # Combined at the working size: an ensemble at the size of the picture would fill the memory.
        centre, spread = self._combined(x_1, settings, placement)
        pictures = (placement.crop(fitted).cpu(), image.cpu()) if self.sharpens(settings) else None
        return self._at_pictures_size(centre, spread * self.spread_scale, placement, pictures)

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

    def depth_latents(
        self,
        image_latent: Tensor,
        noise: Tensor,
        settings: EstimationSettings,
        on_step: Callable[[SolverProgress], None] | None = None,
    ) -> Tensor:
        """The depth latents of each image and member, solved as many at a time as memory allows.

        Args:
            image_latent: [B, 4, h, w] scaled latents.
            noise: [E, 4, h, w] or [B, E, 4, h, w], as in `__call__`.
            settings: how to estimate; the seed, and what combines members, are of no use here.
            on_step: as in `__call__`.

        Returns:
            [B, E, 4, h, w] on the networks' device.
        """
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
        return rearrange(x_1, "(b e) c h w -> b e c h w", b=len(image_latent))

    def log_depths(self, x_1: Tensor) -> Iterator[Tensor]:
        """Log depth of depth latents, decoded only as they are asked for, so that memory does not grow with them.

        Pictures of 512 x 512 pixels and more are decoded one by one.

        Args:
            x_1: [N, 4, h, w] on the networks' device.

        Yields:
            [n, 1, 8h, 8w] there, all n adding up to N.
        """
        for part in x_1.split(self._chunk_size(len(x_1), decodes_that_fit(self._pixels(x_1)))):
            yield self.codec.decode_log_depth(part)
            end_of_stage(self._pixels(x_1))

    def _combined(self, x_1: Tensor, settings: EstimationSettings, placement: Placement) -> tuple[Tensor, Tensor]:
        """[B, E, 4, h, w] to centre and spread of the members, [B, 1, H, W] on the CPU at the working size."""
        how = settings.reduction, settings.align_members
        if settings.average == "latents":  # one decode an image; whole, since the latents are of the padding, too
            whole = combine_latents(x_1.cpu(), lambda one: self.codec.decode_log_depth(one.to(self.device)).cpu(), *how)
            return placement.crop(whole[0]), placement.crop(whole[1])
        decoded = torch.cat([placement.crop(part.cpu()) for part in self.log_depths(x_1.flatten(0, 1))])
        return combine_members(decoded.unflatten(0, x_1.shape[:2]), *how)

    def _at_pictures_size(
        self, centre: Tensor, spread: Tensor, placement: Placement, pictures: tuple[Tensor, Tensor] | None
    ) -> DepthPrediction:
        """See `at_pictures_size`."""
        return at_pictures_size(centre, spread, placement, pictures)

    def fit(self, image: Tensor, settings: EstimationSettings) -> tuple[Tensor, Placement]:
        """A picture [B, 3, H, W] as the networks see it, and what undoes that (see `resize.fit`)."""
        resolution = settings.resolution(self.processing_resolution)
        return fit(image, resolution, self.multiple, few_shapes=self.few_shapes)

    def sharpens(self, settings: EstimationSettings) -> bool:
        """Whether the edges of the depth are moved onto those of the picture: as told, or as suits the model."""
        return sharpens(settings.sharpen_edges, self.processing_resolution)

    def _pixels(self, latent: Tensor) -> int:
        """Of the picture of a latent."""
        return self.codec.downscale**2 * latent.shape[-2] * latent.shape[-1]

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
    centre: Tensor, spread: Tensor, placement: Placement, pictures: tuple[Tensor, Tensor] | None
) -> DepthPrediction:
    """What was decoded, at the size of the pictures.

    Args:
        centre: [B, 1, h, w] log depth at the working size of `placement`.
        spread: [B, 1, h, w] its uncertainty.
        placement: how the pictures were fitted.
        pictures: whose edges the depth gets, RGB in [0, 1], as the networks saw them, [B, 3, h, w], and at their own
            size, [B, 3, H, W]; None leaves edges as they were estimated.
    """
    if pictures is not None:
        seen, image = pictures
        centre = sharpen_edges(centre, seen)
        log_depth = resize_sharply(centre, image)
    else:
        log_depth = placement.enlarge(centre)
    uncertainty = placement.enlarge(spread).clamp_min(0)
    return DepthPrediction.from_log_depth(log_depth, uncertainty, centre if placement.is_enlarged else None)
