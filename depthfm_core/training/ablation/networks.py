"""The arms' network, and the two that arms build on: the image prior and the teacher, both of the same shape."""

from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn.attention import sdpa_kernel

from ...flow import sample_path
from ...model.codec import LatentCodec
from ...model.hyperparameters import UNetHyperParameters
from ...model.unet import DepthFMUNet
from ..latents import LatentBatch, LatentSet, encode
from ..loop import LoopSettings, train
from ..losses import masked_velocity_loss
from ..objective import Objective, StepRandom
from ..prior import PRIOR_CHANNELS, widen
from ..velocity import attention_backends, build_network
from .arms import AblationSettings

_NULL_TEXT_TOKENS = 4
_TEACHER_SEED = 0
_FIRST_CONVOLUTION = "conv_in.weight"


def loop_settings(settings: AblationSettings, num_steps: int, seed: int) -> LoopSettings:
    """How all of the ablations' networks are optimized."""
    return LoopSettings(num_steps, settings.batch_size, settings.learning_rate, seed=seed)


def build_arm_network(settings: AblationSettings, seed: int, prior: Path | None) -> DepthFMUNet:
    """The network of an arm, with the prior's weights in a file or with random ones."""
    network = build_network(_shape(settings), _NULL_TEXT_TOKENS, seed)
    if prior is not None:
        network.unet.load_state_dict(load_file(prior))
    return network


class _PriorBatch(NamedTuple):
    image_latent: Tensor
    noise: Tensor
    t: Tensor


def train_prior(settings: AblationSettings, latents: LatentSet, seed: int, folder: Path) -> dict[str, Tensor]:
    """Weights of an arm's network from a flow-matching image model, noise to picture, trained on these latents.

    The model takes the noisy latent alone; its first convolution is widened and halved, as Stable Diffusion's is.
    """
    network = build_network(replace(_shape(settings), in_channels=PRIOR_CHANNELS), _NULL_TEXT_TOKENS, seed)

    def draw(random: StepRandom) -> _PriorBatch:
        image_latent = latents.draw(settings.batch_size, random.rng).image_latent
        noise = torch.randn(image_latent.shape, generator=random.generator)
        return _PriorBatch(image_latent, noise, torch.rand(len(noise), generator=random.generator))

    def losses(model: nn.Module, batch: _PriorBatch) -> dict[str, Tensor]:
        x_t, velocity = sample_path(batch.noise, batch.image_latent, batch.t)
        text = network.null_text.to(x_t).expand(len(x_t), -1, -1)
        predicted = model(x_t, batch.t, encoder_hidden_states=text).sample
        return {"velocity": (predicted - velocity).square().mean()}

    loop = loop_settings(settings, settings.prior_steps, seed)
    with sdpa_kernel(attention_backends(network.hyper, latents.tokens)):
        train(network.unet, Objective(draw, losses), loop, folder)
    weights = network.unet.state_dict()
    return weights | {_FIRST_CONVOLUTION: widen(weights[_FIRST_CONVOLUTION])}


class Teacher:
    """A discriminative network: one pass from a picture to its log depth.

    Args:
        network: predicts the depth latent where DepthFM's predicts a velocity.
        codec: of its latents.
    """

    def __init__(self, network: DepthFMUNet, codec: LatentCodec) -> None:
        self._network, self._codec = network.eval(), codec

    @torch.no_grad()
    def __call__(self, image: Tensor) -> Tensor:
        """Depth up to scale and power, [1, H, W] > 0, of a picture [3, H, W] in [0, 1]."""
        image_latent = encode(self._codec, image[None] * 2 - 1)
        return self._codec.decode_log_depth(regress(self._network, image_latent))[:, 0].exp()


def train_teacher(settings: AblationSettings, latents: LatentSet, folder: Path) -> DepthFMUNet:
    """A teacher's network, trained by the squared error of the depth latent, as nothing but its input is given it."""
    network = build_network(_shape(settings), _NULL_TEXT_TOKENS, _TEACHER_SEED)

    def draw(random: StepRandom) -> LatentBatch:
        return latents.draw(settings.batch_size, random.rng)

    def losses(model: nn.Module, batch: LatentBatch) -> dict[str, Tensor]:
        predicted = regress(model, batch.image_latent)
        return {"depth": masked_velocity_loss(predicted, batch.depth_latent, batch.valid)}

    loop = loop_settings(settings, settings.teacher_steps, _TEACHER_SEED)
    with sdpa_kernel(attention_backends(network.hyper, latents.tokens)):
        train(network, Objective(draw, losses), loop, folder)
    return network


def regress(network: nn.Module, image_latent: Tensor) -> Tensor:
    """The teacher's depth latent, [B, 4, h, w]: the network at t = 0 with the picture in place of x_t."""
    return network(image_latent, image_latent.new_zeros(len(image_latent)), image_latent)


def _shape(settings: AblationSettings) -> UNetHyperParameters:
    return UNetHyperParameters(
        model_channels=settings.model_channels,
        channel_mult=(1, 2, 2),
        num_res_blocks=1,
        attention_resolutions=(4,),
        context_dim=32,
        num_heads=4,
    )
