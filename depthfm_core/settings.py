"""How to estimate: every setting with its default, which stands here and nowhere else."""

from dataclasses import dataclass, fields, replace
from numbers import Integral, Real

import torch
from torch import Tensor

from .flow import SOLVERS, combine_members, cosine_alpha_bar, integrate, member_noise, time_grid
from .resize import fit

# Where an ensemble's members become one: as depth, each decoded, or as latents, which one decode serves.
AVERAGES = ("depth", "latents")
# Working resolution in pixels below which edges are sharpened unless the settings say otherwise: nano's is 224, that of
# the published model 448.
SHARPENED_BELOW_PX = 256


def sharpens(asked: bool | None, own_resolution: float) -> bool:
    """Whether edges are sharpened: as asked (`EstimationSettings.sharpen_edges`), or as suits a model's resolution."""
    return own_resolution < SHARPENED_BELOW_PX if asked is None else asked


@dataclass(frozen=True)
class EstimationSettings:
    """How to estimate; every default stands here and nowhere else. One that cannot be used is refused at once.

    Attributes:
        num_steps: solver steps; two to four make the depth a little better than one.
        solver: one of `flow.SOLVERS`.
        grid: one of `flow.GRIDS`.
        rho: exponent of the "rho" grid.
        rtol, atol, max_steps: for the adaptive solver.
        ensemble_size: how many runs from different noise.
        reduction: one of `flow.REDUCTIONS`.
        average: one of `AVERAGES`; "latents" is an approximation, see `flow.combine_latents`.
        align_members: fit members to each other by scale and shift before combining them.
        seed: chooses the noise, the same on any device and in any batch, and so the depth but for the precision.
        noise_per_image: image i of a batch gets the noise of `seed` + i. False gives all images the same noise, so
            that neither a batch nor the frames of a video make a difference.
        noising_step: how noisy the source is, of 1000; None = the model's own.
        processing_resolution: short side in pixels that the networks see, or the whole step of theirs that is near (see
            `resize.fit`), at least one such step; 0 = the image's own, None = the model's own.
        sharpen_edges: move the edges of the depth onto those of the picture (see `depth.edges`), at the size that the
            networks see and on the way to the picture's. Not a part of DepthFM. None = for models whose own
            resolution is below `SHARPENED_BELOW_PX`, and whose edges are ramps otherwise.
        members_at_once: how many runs the networks see at a time; 0 = as many as memory allows. "dopri5" takes one at
            a time, so that the depth depends on nothing beside it.

    Raises:
        ValueError: for a setting of another type or outside its range, or a `max_steps` that no path could be followed
            with.
    """

    num_steps: int = 2
    solver: str = "euler"
    grid: str = "uniform"
    rho: float = 2.0
    rtol: float = 1e-3
    atol: float = 1e-4
    max_steps: int = 200
    ensemble_size: int = 1
    reduction: str = "mean"
    average: str = "depth"
    align_members: bool = True
    seed: int = 0
    noise_per_image: bool = False
    noising_step: int | None = None
    processing_resolution: int | None = None
    sharpen_edges: bool | None = None
    members_at_once: int = 0

    def __post_init__(self) -> None:
        for name in _WHOLE_NUMBERS:
            object.__setattr__(self, name, _whole(name, getattr(self, name)))  # of a frozen class
        for field in fields(self):
            _check_type(field.name, field.type, getattr(self, field.name))
        if self.average not in AVERAGES:
            raise ValueError(f"Unknown average {self.average!r}; choose one of {', '.join(AVERAGES)}.")
        if self.sharpen_edges is not None and not isinstance(self.sharpen_edges, bool):
            raise ValueError(
                f"sharpen_edges is {self.sharpen_edges!r}; choose True, False or None for the model's own."
            )
        if self.members_at_once < 0:
            raise ValueError(
                f"members_at_once is {self.members_at_once}; choose at least 1, or 0 for as many as memory allows."
            )
        self._check_ranges()

    def _check_ranges(self) -> None:
        """Puts every setting to the function that will use it, on a single value, so that it refuses now and not later.

        Raises:
            ValueError: for a setting outside its range, or a `max_steps` that no path could be followed with.
        """
        time_grid(self.num_steps, self.grid, self.rho)
        options = self.solver_options
        if not self.is_adaptive:
            options["num_steps"] = 1  # further ones would tell no more
        try:
            integrate(lambda x_t, _t: torch.zeros_like(x_t), torch.zeros(1, device="cpu"), **options)
        except RuntimeError as error:
            raise ValueError(str(error)) from error
        combine_members(torch.zeros(1, 1, 1, 1, 1, device="cpu"), self.reduction, self.align_members)
        member_noise(self.seed, self.ensemble_size, (1,))
        cosine_alpha_bar(self.noising_step or 0)
        fit(torch.empty(1, 3, 1, 1, device="meta"), self.processing_resolution or 0, 1)

    def noise(self, image_latent: Tensor) -> Tensor:
        """The noise for image latents [B, 4, h, w]: [E, 4, h, w], or [B, E, 4, h, w] for noise of each image's own."""
        shape = tuple(image_latent.shape[1:])
        if not self.noise_per_image:
            return member_noise(self.seed, self.ensemble_size, shape)
        seeds = [self.from_image(index).seed for index in range(len(image_latent))]
        return torch.stack([member_noise(seed, self.ensemble_size, shape) for seed in seeds])

    def from_image(self, index: int) -> "EstimationSettings":
        """The settings for the rest of a batch from this image on, with the noise that the whole batch gives it."""
        return replace(self, seed=(self.seed + index) % 2**64) if self.noise_per_image else self

    def resolution(self, own: int) -> int:
        """Short side in pixels that the networks see, with a model whose own is this; 0 = the image's own."""
        return own if self.processing_resolution is None else self.processing_resolution

    @property
    def is_adaptive(self) -> bool:
        """Whether the solver chooses its own steps."""
        return SOLVERS.get(self.solver, 1) is None

    @property
    def solver_options(self) -> dict:
        """The fields that are arguments of `flow.integrate`, by its names."""
        names = ("num_steps", "solver", "grid", "rho", "rtol", "atol", "max_steps")
        return {name: getattr(self, name) for name in names}


_WHOLE_NUMBERS = {field.name: field.default for field in fields(EstimationSettings) if field.type in (int, int | None)}


def _whole(name: str, value: object) -> int | None:
    """A field's value as an int: NumPy's are taken too, a bool is not, and None is where it is the default."""
    if isinstance(value, Integral) and not isinstance(value, bool):
        return int(value)
    none = ", or None for the model's own" if _WHOLE_NUMBERS[name] is None else ""
    if value is None and none:
        return None
    raise ValueError(f"{name} is {value!r}; expected a whole number{none}.")


def _check_type(name: str, kind: object, value: object) -> None:
    """That a number is one and a name is one; `_whole` has those without a fraction."""
    if kind is float and (not isinstance(value, Real) or isinstance(value, bool)):
        raise ValueError(f"{name} is {value!r}; expected a number.")
    if kind is bool and not isinstance(value, bool):
        raise ValueError(f"{name} is {value!r}; expected True or False.")
    if kind is str and not isinstance(value, str):
        raise ValueError(f"{name} is {value!r}; expected a name.")
