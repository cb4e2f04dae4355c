"""What the network is fed for a point of the path, and how its output becomes the velocity.

DepthFM feeds the point and the raw time, and its output is the velocity. Stable Diffusion 2.1's UNet learned something
else: points of the circle alpha^2 + sigma^2 = 1, timesteps from 0 to 999, and v = alpha noise - sigma data. Diff2Flow
asks it that, and turns the answer into the velocity, so that the prior predicts sensibly from the first step on.

Diff2Flow's code (CompVis/diff2flow, `FlowModelObj`) takes alpha and sigma from a table that begins with the data, and
whose noisiest step is by default made pure noise. Here both follow from the time in closed form, exact up to the ends.
The table, as Stable Diffusion was trained with it, gives the timestep alone; beyond what it covers, t < 0.064 and
t > 0.971, that stays at 999 and 0.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

DEFAULT_PARAMETERIZATION = "depthfm"
_NUM_TIMESTEPS = 1000
_FIRST_BETA, _LAST_BETA = 0.00085, 0.012


@dataclass(frozen=True)
class Parameterization:
    """A way to ask the network.

    Attributes:
        point: from x_t [B, 4, h, w] and t [B] to what the network sees of x_t.
        timestep: from t [B] to the network's time [B].
        velocity: from the network's output [B, 4, h, w], x_t and t to the velocity.
    """

    point: Callable[[Tensor, Tensor], Tensor]
    timestep: Callable[[Tensor], Tensor]
    velocity: Callable[[Tensor, Tensor, Tensor], Tensor]


def diffusion_timestep(t: Tensor) -> Tensor:
    """Stable Diffusion's timestep, [B] from 999 (noise) to 0, whose share of data alpha / (alpha + sigma) is t.

    Linear between whole timesteps; 999 and 0 beyond the shares that these have.

    Args:
        t: [B] in [0, 1].

    Source: Schusterbauer et al. 2025 (Diff2Flow), https://arxiv.org/abs/2506.02221; the schedule is CompVis/
    stable-diffusion's, square roots of beta evenly from 0.00085 to 0.012.
    """
    shares = _data_shares().to(t)  # [1000], rising
    right = torch.searchsorted(shares, t).clamp(1, _NUM_TIMESTEPS - 1)
    left_share, right_share = shares[right - 1], shares[right]
    between = ((t - left_share) / (right_share - left_share)).clamp(0, 1)
    return _NUM_TIMESTEPS - right - between


@cache
def _data_shares() -> Tensor:
    """[1000] alpha / (alpha + sigma) of Stable Diffusion's timesteps, from the last, noisiest one to the first."""
    options = {"dtype": torch.float64, "device": "cpu"}  # also where a network is built without memory
    betas = torch.linspace(_FIRST_BETA**0.5, _LAST_BETA**0.5, _NUM_TIMESTEPS, **options) ** 2
    alpha_bar = (1 - betas).cumprod(0)
    alpha, sigma = alpha_bar.sqrt(), (1 - alpha_bar).sqrt()
    return (alpha / (alpha + sigma)).flip(0).float()


def _circle_radius(x_t: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    """t as [B, 1, 1, 1], and the length of (t, 1 - t): over it, these are alpha and sigma, and x_t is on the circle."""
    t = t.reshape(-1, *(1,) * (x_t.ndim - 1))
    return t, (t**2 + (1 - t) ** 2).sqrt()


def _diffusion_point(x_t: Tensor, t: Tensor) -> Tensor:
    """alpha x_1 + sigma x_0, that is x_t (alpha + sigma)."""
    _, radius = _circle_radius(x_t, t)
    return x_t / radius


def _velocity_from_v(v: Tensor, x_t: Tensor, t: Tensor) -> Tensor:
    """Estimated data minus estimated noise, (alpha x - sigma v) - (sigma x + alpha v) with x on the circle."""
    t, radius = _circle_radius(x_t, t)
    return (2 * t - 1) / radius**2 * x_t - v / radius


PARAMETERIZATIONS: dict[str, Parameterization] = {
    # The published way.
    "depthfm": Parameterization(lambda x_t, _t: x_t, lambda t: t, lambda output, _x_t, _t: output),
    # Stable Diffusion 2.1's own; takes the source for standard normal noise, which a noised image latent is not quite.
    "diff2flow": Parameterization(_diffusion_point, diffusion_timestep, _velocity_from_v),
}


def check_parameterization(name: str) -> None:
    """Raises ValueError for a name that is not in `PARAMETERIZATIONS`."""
    if name not in PARAMETERIZATIONS:
        raise ValueError(f"Unknown parameterization {name!r}; choose one of {', '.join(PARAMETERIZATIONS)}.")
