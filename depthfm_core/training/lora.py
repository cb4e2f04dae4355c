"""Low-rank adaptation: a flow stage trains small additions to some layers, and they are merged into its result.

So whatever comes after, later stages and the exported file, knows an ordinary network.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from diffusers import UNet2DConditionModel

from ..model.hyperparameters import UNetHyperParameters
from ..model.unet import DepthFMUNet


@dataclass(frozen=True)
class LoraSettings:
    """What is added to which layers.

    Attributes:
        rank: of the additions, at least 1.
        alpha: their scale is alpha / rank.
        layers: the last parts of the layers' names in diffusers. By default the first convolution, which a prior's
            widening leaves the same for both inputs, and the projections of all attentions.

    Raises:
        ValueError: for a rank or scale that is not positive, or no layers.
    """

    rank: int = 8
    alpha: float = 8.0
    layers: tuple[str, ...] = ("conv_in", "to_q", "to_k", "to_v", "to_out.0")

    def __post_init__(self) -> None:
        for name in ("rank", "alpha"):
            if not 0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive and finite.")
        if not self.layers:
            raise ValueError("layers is empty; name at least one kind of layer, for example to_q.")


def add_lora(unet: UNet2DConditionModel, settings: LoraSettings, seed: int) -> None:
    """Puts additions, zero at first, into the network, and makes them (as `peft` does) all that is trained of it.

    Raises:
        ValueError: for a layer that the network does not have.
        ModuleNotFoundError: without the package `peft`.

    Source: Hu et al. 2021, https://arxiv.org/abs/2106.09685.
    """
    from peft import LoraConfig  # optional, and of this one use

    _check_layers(unet, settings.layers)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, target_modules=list(settings.layers))
    with torch.random.fork_rng(devices=[]):
        torch.random.default_generator.manual_seed(seed)
        unet.add_adapter(config)


def check_lora(settings: LoraSettings, hyper: UNetHyperParameters) -> None:
    """Whether `add_lora` would work on a network of this shape; errors as there."""
    import peft  # noqa: F401 (as above)

    with torch.device("meta"):
        network = DepthFMUNet(hyper, torch.empty(1, 1, hyper.context_dim))
    _check_layers(network.unet, settings.layers)


def merge_lora(unet: UNet2DConditionModel) -> None:
    """Adds the additions to the layers' own weights and takes them out, so that the tensors' names are the old ones."""
    unet.fuse_lora()
    unet.unload_lora()


def _check_layers(unet: UNet2DConditionModel, layers: Sequence[str]) -> None:
    names = [name for name, _ in unet.named_modules()]
    for layer in layers:
        if not any(f".{name}".endswith(f".{layer}") for name in names):
            raise ValueError(
                f"The network has no layer {layer!r} for LoRA; it has conv_in, to_q, to_k, to_v and others."
            )
