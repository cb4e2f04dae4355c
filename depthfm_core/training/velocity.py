"""Trains the velocity network on latents by flow matching, and watches it on held-out frames."""

import math
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from ..flow import cosine_alpha_bar, noise_source, sample_path
from ..model.codec import LatentCodec
from ..model.hyperparameters import UNetHyperParameters
from ..model.parameterization import DEFAULT_PARAMETERIZATION
from ..model.unet import DepthFMUNet
from ..share import this_share
from .latents import LatentSet
from .loop import LoopSettings, train
from .lora import LoraSettings, add_lora, merge_lora
from .losses import masked_velocity_loss
from .normal_loss import decoded_normal_loss
from .objective import Objective, StepRandom
from .state import averaged_weights
from .streamed import StreamedLatents
from .validation import HeldOut, check_estimates
from .watch import Checked

_FEW_TOKENS = 256

# How the times of a batch are drawn: [B] in [0, 1] from a size and a generator.
TIME_SAMPLERS: dict[str, Callable[[int, torch.Generator], Tensor]] = {
    # The published choice.
    "uniform": lambda size, generator: torch.rand(size, generator=generator),
    # The middle of the path more often.
    "logit_normal": lambda size, generator: torch.randn(size, generator=generator).sigmoid(),
    # The source end more often: one or two solver steps ask mostly there.
    "early": lambda size, generator: torch.rand(size, generator=generator) ** 2,
}


@dataclass(frozen=True)
class FlowSettings:
    """One training of the velocity network.

    Attributes:
        latents: the names of the latents to train on.
        loop: how to optimize.
        start: the flow stage whose result to start from; "" = the recipe's prior, or random weights without one.
        noising_step: how noisy the source is, of 1000.
        time_sampling: one of `TIME_SAMPLERS`.
        lora: trains low-rank additions in place of all weights; see `LoraSettings`.
        own_path_share: of a batch, the share that learns where the network's own two steps lead instead of on the
            straight path, so that many steps make it no worse: see `own_points`.
        normals_weight: of the auxiliary loss of the decoded depth map's surface normals, see `normal_loss`; 0 = none of
            it, and then nothing is decoded.

    Raises:
        ValueError: for an unknown time sampling, a noising step outside 0..999, a share outside 0..1, or a negative
            weight.
    """

    latents: tuple[str, ...]
    loop: LoopSettings
    start: str = ""
    noising_step: int = 400
    time_sampling: str = "uniform"
    lora: LoraSettings | None = None
    own_path_share: float = 0.0
    normals_weight: float = 0.0

    def __post_init__(self) -> None:
        if self.time_sampling not in TIME_SAMPLERS:
            choices = ", ".join(TIME_SAMPLERS)
            raise ValueError(f"Unknown time_sampling {self.time_sampling!r}; choose one of {choices}.")
        cosine_alpha_bar(self.noising_step)  # raises for one that there is not
        if not 0 <= self.own_path_share <= 1:
            raise ValueError(f"own_path_share is {self.own_path_share}; choose from 0 (none of a batch) to 1 (all).")
        if not 0 <= self.normals_weight < math.inf:
            raise ValueError(f"normals_weight is {self.normals_weight}; choose 0 (off) or more.")


def build_network(
    hyper: UNetHyperParameters,
    null_text_tokens: int,
    seed: int,
    null_text: Tensor | None = None,
    parameterization: str = DEFAULT_PARAMETERIZATION,
) -> DepthFMUNet:
    """A freshly initialized network.

    Args:
        hyper: its shape.
        null_text_tokens: the length of the constant random embedding that stands for the empty prompt.
        seed: of everything random.
        null_text: [1, L, context_dim] embedding of the empty prompt, in place of a random one.
        parameterization: how it is asked for the velocity, one of `PARAMETERIZATIONS`.
    """
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        drawn = torch.randn(1, null_text_tokens, hyper.context_dim)
        null_text = drawn if null_text is None else null_text
        return DepthFMUNet(hyper, null_text, parameterization=parameterization)


class FlowBatch(NamedTuple):
    """What a step learns from: a `LatentBatch`, noise [B, 4, h, w], times [B] and who is on the own path [B]."""

    image_latent: Tensor
    depth_latent: Tensor
    valid: Tensor
    noise: Tensor
    t: Tensor
    own_path: Tensor


def draw_batch(latents: LatentSet | StreamedLatents, settings: FlowSettings, random: StepRandom) -> FlowBatch:
    """The batch of a step, for all processes together, with standard normal noise and times as the settings say.

    Those on the own path are spread evenly over the batch, so that every part of it has its share of them.
    """
    pairs = latents.draw(settings.loop.batch_size, random.rng)
    device = pairs.image_latent.device
    generator = random.generator
    if device.type != "cpu":  # where a large batch of noise takes no time
        generator = torch.Generator(device).manual_seed(generator.initial_seed())
    noise = torch.randn(pairs.image_latent.shape, generator=generator, device=device)
    t = TIME_SAMPLERS[settings.time_sampling](len(noise), random.generator)
    own_path = (torch.arange(1, len(noise) + 1) * settings.own_path_share).floor().diff(prepend=torch.zeros(1)) > 0
    if settings.own_path_share:
        t = t.where(~own_path, TIME_SAMPLERS["uniform"](len(noise), random.generator))
    return FlowBatch(*pairs, noise, t, own_path)


def flow_losses(network: nn.Module, batch: FlowBatch, settings: FlowSettings, codec: LatentCodec) -> dict[str, Tensor]:
    """The losses of a batch at its noise and times, scalars whose sum is minimized.

    Args:
        network: a `DepthFMUNet`, or what calls one.
        batch: on the network's device.
        settings: of which `noising_step` and `normals_weight` count here.
        codec: for the normals; moves to the network's device if they are asked for.

    Returns:
        "velocity", the masked velocity loss, on the own path of where the velocity leads in a straight line; with a
        weight also "normals", the loss of the depth map there, times its weight.

    Source: Gui et al. 2025 (DepthFM): x_0 is the noised image latent, x_1 the depth latent, the path a straight line.
    """
    x_0 = noise_source(batch.image_latent, settings.noising_step, batch.noise)
    x_t, velocity = sample_path(x_0, batch.depth_latent, batch.t)
    left = (1 - batch.t)[:, None, None, None]
    weight = torch.ones_like(left)
    own = batch.own_path
    if own.any():
        x_t[own] = own_points(network, x_0[own], batch.t[own], batch.image_latent[own])
        # Times 1 - t, where the velocity leads in a straight line is compared with the depth latent.
        velocity[own] = batch.depth_latent[own] - x_t[own]
        weight[own] = left[own]
    predicted = network(x_t, batch.t, batch.image_latent)
    losses = {"velocity": masked_velocity_loss(weight * predicted, velocity, batch.valid)}
    if settings.normals_weight:
        x_1 = x_t + left * predicted
        normals = decoded_normal_loss(codec.to(x_1.device), x_1, batch.depth_latent, batch.valid)
        losses["normals"] = settings.normals_weight * normals
    return losses


@torch.no_grad()
def own_points(network: nn.Module, x_0: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
    """Where two equal Euler steps from x_0 lead by the times t [B], [B, 4, h, w]; nothing is learnt from the steps.

    The straight path is seen in training and not by a solver, whose later steps start where the earlier ones led.
    """
    half = t / 2
    x_t = x_0
    for start in (torch.zeros_like(t), half):
        x_t = x_t + half[:, None, None, None] * network(x_t, start, image_latent)
    # Older versions of PyTorch would hand the casts of weights that were made here, which have no gradient, to the
    # step that learns (https://github.com/pytorch/pytorch/issues/65766).
    torch.clear_autocast_cache()
    return x_t


def flow_objective(latents: LatentSet | StreamedLatents, settings: FlowSettings, codec: LatentCodec) -> Objective:
    """`flow_losses` over batches of `latents`, means over the valid cells of all processes."""
    names = ("velocity", "normals") if settings.normals_weight else ("velocity",)
    return Objective(
        draw=lambda random: draw_batch(latents, settings, random),
        losses=lambda network, batch: flow_losses(network, batch, settings, codec),
        counts=lambda batch: dict.fromkeys(names, float(batch.valid.sum())),
    )


def train_velocity(
    network: DepthFMUNet,
    latents: LatentSet | StreamedLatents,
    settings: FlowSettings,
    held_out: HeldOut | None,
    codec: LatentCodec,
    folder: Path,
    events: Path | None = None,
) -> None:
    """Trains `network` in place (averaged weights at the end); resumes from `folder`, shows scores on `held_out`.

    All processes that were started train together; the first one saves and computes the scores, and it alone needs
    `held_out`.
    """
    if settings.lora:
        add_lora(network.unet, settings.lora, settings.loop.seed)

    def check() -> Checked:
        home, device = codec.autoencoder.device, network.null_text.device
        checked = check_estimates(network, codec.to(device), held_out, settings.noising_step)
        codec.to(home)
        return checked

    objective = flow_objective(latents, settings, codec)
    # Around the backward pass too: gradient checkpointing repeats the forward pass there, by the same formula or fails.
    with sdpa_kernel(attention_backends(network.hyper, latents.tokens)):
        train(network, objective, settings.loop, folder, check, this_share(), events)
    if settings.lora:
        merge_lora(network.unet)
    network.eval()


@torch.no_grad()
def take_averaged(network: DepthFMUNet, settings: FlowSettings, state: Path) -> int:
    """Gives `network` the averaged weights of a training that is not done, in place; its steps so far.

    Args:
        network: as it was before the first step.
        settings: of the training.
        state: its file, which stays as it is. Errors: `read_state`.
    """
    step, averaged = averaged_weights(state, asdict(settings.loop))
    if settings.lora:
        add_lora(network.unet, settings.lora, settings.loop.seed)
    trained = (parameter for parameter in network.parameters() if parameter.requires_grad)
    for mine, saved in zip(trained, averaged, strict=True):
        mine.copy_(saved)
    if settings.lora:
        merge_lora(network.unet)
    return step


def attention_backends(hyper: UNetHyperParameters, tokens: int) -> list[SDPBackend]:
    """PyTorch's attention for latents of so many cells.

    On few tokens the plain formula's backward pass is faster than the blockwise one's; its memory grows with their
    square.
    """
    few = tokens // min(hyper.attention_resolutions) ** 2 <= _FEW_TOKENS
    blockwise = [SDPBackend.FLASH_ATTENTION, SDPBackend.EFFICIENT_ATTENTION, SDPBackend.CUDNN_ATTENTION]
    return [SDPBackend.MATH] if few else [*blockwise, SDPBackend.MATH]
