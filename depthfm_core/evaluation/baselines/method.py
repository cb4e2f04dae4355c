"""What a compared method looks like from outside, whichever library runs it, and what a loader is asked for.

A loader fetches nothing: weights come from a path or from what the user put into a library's cache. What is missing is
a ValueError with the command that fetches it.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TypeVar

import torch
from torch import Tensor, nn

from ...optional import describe_missing
from ...settings import EstimationSettings

INSTALL = 'pip install -e ".[baselines]"'
NEEDS = {"transformers": INSTALL}  # of most methods
DEFAULT_SEED = 1234  # of diffusion models' noise
DTYPE = "float32"  # of published numbers, and of every network that `in_float32` readies; told in `made_with`
GIVES = {
    "depth": "depth up to scale and shift, larger = farther",
    "relative_depth": "depth up to scale, larger = farther",
    "log_depth": "log depth up to scale and shift, larger = farther",
    "disparity": "inverse depth up to scale and shift, larger = nearer",
    "depth_m": "depth in meters",
}
Value = TypeVar("Value")


@dataclass(frozen=True)
class MethodOptions:
    """What a caller may choose; each method says in `MethodCard.options` which it takes. None = the method's own.

    Attributes:
        device: a torch device; every method takes it.
        settings: of a DepthFM.
        vae: the autoencoder of a DepthFM that brings none.
        attention: of a DepthFM; see `loading.load_pipeline`.
        dtype: of a DepthFM; see `loading.load_pipeline`.
        backend: of a DepthFM; see `loading.load_pipeline`.
        decoder: a tiny decoder for a DepthFM; see `loading.load_pipeline`.
        num_steps: denoising steps of a diffusion model.
        ensemble_size: runs from different noise of a diffusion model.
        seed: of a diffusion model's noise; every image gets the same.
        processing_resolution: long side in pixels that a diffusion model sees; 0 = the image's own.
        domain: "indoor", "outdoor" or "object", which GeoWizard is told of every image, whatever it shows.
        focal_px: focal length in pixels of the picture that the method is handed, which makes Metric3D's depth metric.
    """

    device: str = "cpu"
    settings: EstimationSettings | None = None
    vae: str | None = None
    attention: str | None = None
    dtype: str | None = None
    backend: str | None = None
    decoder: str | None = None
    num_steps: int | None = None
    ensemble_size: int | None = None
    seed: int | None = None
    processing_resolution: int | None = None
    domain: str | None = None
    focal_px: float | None = None


@dataclass(frozen=True)
class MethodCard:
    """A row of `METHODS`.

    Attributes:
        load: from a `Request` to a `Method`.
        gives: a key of `GIVES`.
        weights: where the default weights are: a repository's name, or "" where a path must be given.
        fetch: the command that fetches them, or what to do where there is none.
        licence: of the weights.
        size: parameters.
        source: where its protocol (sizes, steps, meaning of the output) is laid down.
        options: fields of `MethodOptions` that it takes, beside `device`.
        published: its name in `published.TABLES`, "" where no table has it.
        needs: library -> the command that installs it, where its loader imports one that this package can do without.
    """

    load: Callable[[Request], Method]
    gives: str
    weights: str
    fetch: str
    licence: str
    size: str
    source: str
    options: tuple[str, ...] = ()
    published: str = ""
    needs: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Request:
    """What a loader gets: the method's name and card, the weights' place, and the options."""

    name: str
    card: MethodCard
    weights: str
    options: MethodOptions = field(default_factory=MethodOptions)

    def method(self, estimate: Callable[..., tuple], gives: str = "", **made_with: object) -> Method:
        """The method that `estimate` makes; see `Method`. The map may have any leading shape of size 1."""
        asks_domain = "domain" in self.card.options
        return Method(self.name, gives or self.card.gives, estimate, made_with=made_with, asks_domain=asks_domain)

    def choice(self, option: str, default: Value) -> Value:
        """An option's value, or the method's own where it was not chosen."""
        chosen = getattr(self.options, option)
        return default if chosen is None else chosen

    @contextmanager
    def complaining(self, *errors: type[Exception]) -> Iterator[None]:
        """Turns errors of loading into a ValueError with the command that fetches what may be missing."""
        try:
            yield
        except ModuleNotFoundError as error:
            raise ValueError(f"{self.name} needs the package {error.name}; pip install {error.name}.") from error
        except (OSError, *errors) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise ValueError(
                f"{self.name} cannot be loaded from {self.weights} ({reason}). Fetch it: {self.card.fetch}"
            ) from error


@dataclass
class Method:
    """A loaded method: one function, whose image and map are checked.

    Attributes:
        name: as in `METHODS`.
        gives: a key of `GIVES`: what the numbers of its map mean.
        estimate: from an image, and its domain where it asks for that, to a map, the number of network calls and, where
            it has one, an uncertainty.
        num_calls: how often the last image went through the network; a run of the network on a batch of n (members,
            or depth and normals) counts n. Encoders and decoders of latents do not count.
        uncertainty: [1, 1, h, w] spread of log depth of the last image's ensemble; None for a method that has none.
        made_with: name -> value of what decides its maps beside its weights, chosen or its own: steps, members, seed,
            size.
        asks_domain: whether `estimate` is told what kind of scene it is.
    """

    name: str
    gives: str
    estimate: Callable[..., tuple[Tensor, int] | tuple[Tensor, int, Tensor | None]]
    num_calls: int = 0
    uncertainty: Tensor | None = None
    made_with: Mapping[str, object] = field(default_factory=dict)
    asks_domain: bool = False

    @torch.no_grad()
    def __call__(self, image: Tensor, domain: str | None = None) -> Tensor:
        """[1, 3, H, W] RGB in [0, 1] to a [1, 1, h, w] map, float32 on the CPU, at the method's or the image's size.

        `domain`, "indoor" or "outdoor", is for methods that are told what kind of scene it is; None where nobody knows.

        Raises:
            ValueError: for an image of another shape, type or range, or a map that is not one finite number a pixel.
        """
        _check_image(image)
        found, self.num_calls, *uncertainty = self.estimate(image, domain) if self.asks_domain else self.estimate(image)
        self.uncertainty = uncertainty[0] if uncertainty else None
        found = found.detach().float().cpu()
        if found.ndim < 2 or found.shape[:-2].numel() != 1 or not found.isfinite().all():
            raise ValueError(f"{self.name} gave a map of shape {list(found.shape)}; expected one finite map.")
        return found.reshape(1, 1, *found.shape[-2:])


def in_float32(network: nn.Module, device: str) -> nn.Module:
    """A library's network ready on a device, in the precision of the protocol whatever its file holds.

    `transformers` takes the file's from version 5 on. With half precision, which Apple's Depth Pro was published in,
    networks then either fail at a picture in float32 or compute in half precision without a word.
    """
    return network.to(device).float().eval()


def check_libraries(card: MethodCard, name: str) -> None:
    """Looks, without importing anything, whether what a method's loader imports is installed; `name` is the method's.

    Raises:
        ValueError: where it is not, with the command that installs it.
    """
    for library, install in card.needs.items():
        if importlib.util.find_spec(library) is None:
            raise ValueError(describe_missing(library, name, install))


@contextmanager
def counted_calls(network: nn.Module) -> Iterator[list[int]]:
    """A list that, afterwards, holds the batch size of every run of a network whose first argument is its batch."""
    sizes: list[int] = []
    hook = network.register_forward_pre_hook(lambda _module, arguments: sizes.append(len(arguments[0])))
    try:
        yield sizes
    finally:
        hook.remove()


def _check_image(image: Tensor) -> None:
    if image.ndim != 4 or image.shape[:2] != (1, 3) or image.numel() == 0 or not image.is_floating_point():
        raise ValueError(f"The image is {list(image.shape)} {image.dtype}; expected [1, 3, H, W] floating point.")
    low, high = image.aminmax()
    if not (low >= 0 and high <= 1):  # NaN fails both
        raise ValueError(f"The image's values go from {low:.4g} to {high:.4g}; expected [0, 1] without NaN.")
