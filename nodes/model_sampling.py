"""The flow as ComfyUI's samplers see it.

ComfyUI's sigma runs from 1, the noised image latent, to 0, the depth latent; the network's time is t = 1 - sigma. So
core's KSampler with euler, simple, cfg 1 and denoise 1 takes the same steps as our own Euler.
"""

import logging

import torch
from torch import Tensor, nn

from ..depthfm_core.flow import noise_source
from ..depthfm_core.model.parameterization import PARAMETERIZATIONS

logger = logging.getLogger(__name__)


class DepthFMSampling(nn.Module):
    """Sigma and time of the flow, as ComfyUI's samplers ask for them, and how to ask the network for the velocity."""

    def __init__(self, noising_step: int, parameterization: str) -> None:
        super().__init__()
        self.noising_step = noising_step
        self.ask = PARAMETERIZATIONS[parameterization]
        self.register_buffer("sigmas", torch.arange(1, 1001) / 1000, persistent=False)

    @property
    def sigma_min(self) -> Tensor:
        """The smallest sigma above 0 of a schedule."""
        return self.sigmas[0]

    @property
    def sigma_max(self) -> Tensor:
        """1: the noised image latent."""
        return self.sigmas[-1]

    def timestep(self, sigma: Tensor) -> Tensor:
        """The time of the flow."""
        return 1 - sigma

    def sigma(self, timestep: Tensor) -> Tensor:
        """The inverse of `timestep`."""
        return 1 - timestep

    def percent_to_sigma(self, percent: float) -> float:
        """Sigma after a share of the path."""
        return min(1.0, max(0.0, 1.0 - percent))

    def calculate_input(self, sigma: Tensor, x_t: Tensor) -> Tensor:
        """What the network sees of x_t."""
        return self.ask.point(x_t, self.timestep(sigma))

    def calculate_denoised(self, sigma: Tensor, output: Tensor, x_t: Tensor) -> Tensor:
        """Where the velocity, of which the network's output tells, would lead until sigma 0."""
        velocity = self.ask.velocity(output, x_t, self.timestep(sigma))
        return x_t + velocity * sigma.reshape(sigma.shape[:1] + (1,) * (x_t.ndim - 1))

    def noise_scaling(
        self, sigma: Tensor, noise: Tensor, latent_image: Tensor, max_denoise: bool | None = None
    ) -> Tensor:
        """The source of the path: the image latent with the model's amount of noise.

        There is none for a start at a smaller sigma, which core's samplers announce by a `max_denoise` of False; where
        it is not a run's start that they ask for, as in inpainting, they leave it out.
        """
        if max_denoise is False:
            logger.warning(
                "The sampler begins in the middle of DepthFM's path (sigma %.3g in place of 1), so the depth will be "
                "wrong; choose the scheduler simple, not ddim_uniform, and denoise 1.",
                sigma.max().item(),
            )
        return noise_source(latent_image, self.noising_step, noise)

    def inverse_noise_scaling(self, sigma: Tensor, latent: Tensor) -> Tensor:  # noqa: ARG002
        """The end of the path is the depth latent itself."""
        return latent
