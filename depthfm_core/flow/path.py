"""The probability path from a picture's latent to its depth map's latent.

The source x_0 is the image latent with a fixed amount of Gaussian noise mixed in; the path to the depth latent x_1 is a
straight line. Training and inference use the one noising formula below (the authors' training code reads a table that
differs from it by 0.05 %).
"""

import math
from typing import NamedTuple

from torch import Tensor

NUM_NOISING_STEPS = 1000


class PathSample(NamedTuple):
    """A point of the path and the velocity there, in the shape of x_0."""

    x_t: Tensor
    velocity: Tensor


def cosine_alpha_bar(noising_step: int) -> float:
    """The share of the image latent's variance that survives `noising_step` of 1000 steps, in (0, 1].

    Step 0 is no noise. The cosine schedule in log-SNR form: sigmoid(-2 log(tan(pi t / 2) + 1e-5)) at t = step / 1000.

    Raises:
        ValueError: for a step outside 0..999.

    Source: Nichol and Dhariwal 2021, https://arxiv.org/abs/2102.09672; CompVis/depth-fm, `depthfm/dfm.py`.
    """
    if not 0 <= noising_step < NUM_NOISING_STEPS:
        raise ValueError(f"noising_step is {noising_step}; choose 0 (no noise) to {NUM_NOISING_STEPS - 1}.")
    if noising_step == 0:
        return 1.0
    log_snr = -2 * math.log(math.tan(math.pi / 2 * noising_step / NUM_NOISING_STEPS) + 1e-5)
    return 1 / (1 + math.exp(-log_snr))


def noise_source(image_latent: Tensor, noising_step: int, noise: Tensor) -> Tensor:
    """The source of the path, x_0 = sqrt(abar) image_latent + sqrt(1 - abar) noise.

    Args:
        image_latent: [B, 4, h, w] scaled latent.
        noising_step: 0 (x_0 is the image latent itself) to 999; 400 in the published model.
        noise: standard normal, in a shape that broadcasts with `image_latent`.

    Source: Gui et al. 2025 (DepthFM), noise augmentation; CompVis/depth-fm, `depthfm/dfm.py`.
    """
    alpha_bar = cosine_alpha_bar(noising_step)
    return math.sqrt(alpha_bar) * image_latent + math.sqrt(1 - alpha_bar) * noise


def sample_path(x_0: Tensor, x_1: Tensor, t: Tensor) -> PathSample:
    """The point x_t = (1 - t) x_0 + t x_1 and its velocity x_1 - x_0 (flow matching with sigma_min = 0).

    Args:
        x_0: [B, 4, h, w] source latent.
        x_1: [B, 4, h, w] depth latent.
        t: [B] float32 in [0, 1]; 0 = source, 1 = depth.

    Source: Lipman et al. 2023, https://arxiv.org/abs/2210.02747, equations 22 and 23.
    """
    t = t.reshape(-1, *(1,) * (x_0.ndim - 1))  # [B, 1, 1, 1]
    return PathSample(x_t=(1 - t) * x_0 + t * x_1, velocity=x_1 - x_0)
