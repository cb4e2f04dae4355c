"""The method: where the path starts, how it is followed, how several runs become one answer."""

from .ensemble import REDUCTIONS, combine_members, member_noise
from .latent_ensemble import combine_latents
from .ode import GRIDS, SOLVERS, Solution, SolverProgress, integrate, time_grid
from .path import NUM_NOISING_STEPS, PathSample, cosine_alpha_bar, noise_source, sample_path

__all__ = [
    "GRIDS",
    "NUM_NOISING_STEPS",
    "REDUCTIONS",
    "SOLVERS",
    "PathSample",
    "Solution",
    "SolverProgress",
    "combine_latents",
    "combine_members",
    "cosine_alpha_bar",
    "integrate",
    "member_noise",
    "noise_source",
    "sample_path",
    "time_grid",
]
