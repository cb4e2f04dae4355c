"""The yardstick: DepthFM as the authors' script runs it, on the same weights and from the same noise.

Every member's copy of the picture is encoded, and all members are decoded at once, by diffusers' modules as they come:
float32, default memory format, the text projected anew in every call, the decoder's three channels averaged afterwards.
Nothing here calls what `pipeline`, `model.unet` and `model.codec` compute with, so that their gains do not reach it.

Source: CompVis/depth-fm, `inference.py` and `depthfm/dfm.py`.
"""

from dataclasses import dataclass
from pathlib import Path

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, UNet2DConditionModel
from einops import repeat
from torch import Tensor, nn

from ..depth.prediction import DepthPrediction
from ..flow import member_noise, noise_source
from ..model.checkpoints import DepthFMCheckpoint, load_checkpoint
from ..model.codec import load_codec
from ..model.names import ldm_to_diffusers
from ..model.parameterization import PARAMETERIZATIONS
from ..model.unet import DepthFMUNet
from ..resize import fit
from ..settings import EstimationSettings


class NaiveNetwork(nn.Module):
    """The velocity field by a plain `UNet2DConditionModel`; arguments as of `DepthFMUNet`."""

    def __init__(self, unet: UNet2DConditionModel, null_text: Tensor, parameterization: str) -> None:
        super().__init__()
        self.unet = unet
        self.register_buffer("null_text", null_text)
        self._ask = PARAMETERIZATIONS[parameterization]

    def forward(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """The velocity at x_t, [B, 4, h, w]; x_t and image_latent [B, 4, h, w], t [B]."""
        sample = torch.cat([self._ask.point(x_t, t), image_latent], dim=1)  # [B, 8, h, w]
        text = repeat(self.null_text, "1 l d -> b l d", b=len(sample))
        output = self.unet(sample, self._ask.timestep(t), encoder_hidden_states=text).sample
        return self._ask.velocity(output, x_t, t)


class NaiveCodec(nn.Module):
    """A plain diffusers autoencoder and its scaling factor."""

    downscale = 8

    def __init__(self, autoencoder: AutoencoderKL | AutoencoderTiny, scaling_factor: float) -> None:
        super().__init__()
        self.autoencoder = autoencoder
        self.scaling_factor = scaling_factor

    def encode(self, image: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to [B, 4, H/8, W/8], the posterior's mode, scaled."""
        encoded = self.autoencoder.encode(image)
        latent = encoded.latents if isinstance(self.autoencoder, AutoencoderTiny) else encoded.latent_dist.mode()
        return latent * self.scaling_factor

    def decode(self, latent: Tensor) -> Tensor:
        """[B, 4, h, w] to [B, 3, 8h, 8w], about [-1, 1]."""
        return self.autoencoder.decode(latent / self.scaling_factor).sample


@dataclass(frozen=True)
class NaivePipeline:
    """Called as `DepthFMPipeline` is, with Euler steps and the plain mean of the members only.

    Attributes:
        network, codec: as above.
        noising_step: of the source the network was trained on.
        processing_resolution: the short side in pixels that the model works best at.
        multiple: what the sides of the networks' picture are divisible by.
    """

    network: NaiveNetwork
    codec: NaiveCodec
    noising_step: int
    processing_resolution: int
    multiple: int

    @torch.inference_mode()
    def __call__(self, image: Tensor, settings: EstimationSettings) -> DepthPrediction:
        """The depth of one picture, [1, 3, H, W] in [0, 1], at its own size."""
        fitted, frame = fit(image, settings.resolution(self.processing_resolution), self.multiple)
        copies = repeat(fitted, "1 c h w -> e c h w", e=settings.ensemble_size).to(self.device)
        image_latent = self.codec.encode(2 * copies - 1)
        noise = member_noise(settings.seed, settings.ensemble_size, tuple(image_latent.shape[1:]))
        x_t = noise_source(image_latent, self.noising_step, noise.to(self.device))
        for step in range(settings.num_steps):
            t = torch.full((len(x_t),), step / settings.num_steps, device=self.device)
            x_t = x_t + self.network(x_t, t, image_latent) / settings.num_steps
        members = frame.crop(self.codec.decode(x_t).mean(1, keepdim=True).cpu())  # [E, 1, h, w]
        centre, spread = frame.enlarge(members.mean(0, keepdim=True)), frame.enlarge(members.std(0, correction=0)[None])
        return DepthPrediction.from_log_depth(centre, spread.clamp_min(0))

    @property
    def device(self) -> torch.device:
        """Where the networks are."""
        return self.network.null_text.device


def load_naive(model: Path, vae: Path | None = None, device: str | torch.device = "cpu") -> NaivePipeline:
    """The naive pipeline of a model; arguments and errors as of `loading.load_pipeline`."""
    checkpoint = load_checkpoint(model)
    codec = load_codec(vae) if vae else checkpoint.build_codec()
    if codec is None:
        raise ValueError(f"{model} brings no autoencoder; name one (--vae FILE|FOLDER).")
    network = NaiveNetwork(_plain_unet(checkpoint), checkpoint.null_text.float(), checkpoint.parameterization)
    naive_codec = NaiveCodec(codec.autoencoder.float(), codec.scaling_factor)
    return NaivePipeline(
        network=_as_it_comes(network, device),
        codec=_as_it_comes(naive_codec, device),
        noising_step=checkpoint.noising_step,
        processing_resolution=checkpoint.processing_resolution,
        multiple=NaiveCodec.downscale * 2 ** (len(checkpoint.hyper.channel_mult) - 1),
    )


def _plain_unet(checkpoint: DepthFMCheckpoint) -> UNet2DConditionModel:
    """diffusers' network of the checkpoint's configuration, with diffusers' own attention."""
    with torch.device("meta"):
        config = DepthFMUNet(checkpoint.hyper, torch.empty(checkpoint.null_text.shape)).unet.config
        unet = UNet2DConditionModel.from_config(config)
    weights = ldm_to_diffusers(checkpoint.state_dict, checkpoint.hyper)
    unet.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, assign=True)
    return unet


def _as_it_comes(module: nn.Module, device: str | torch.device) -> nn.Module:
    return module.to(device, memory_format=torch.contiguous_format).eval().requires_grad_(False)
