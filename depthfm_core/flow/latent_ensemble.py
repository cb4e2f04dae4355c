"""An ensemble whose members are averaged as latents, so that one decode does for all of them.

Decoders are not linear, so the centre is not quite the mean of the decoded members; `docs/approximations.md` has the
difference. The members are never decoded, hence their spread comes from a stand-in for the decoder: the linear map of
3x3 cells of the latent that comes nearest to the decoded centre.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from .ensemble import REDUCTIONS, combine_members

_NEIGHBOURS = 3  # cells a side; a single cell overrates the spread by a quarter, nine by a twentieth
_RIDGE = 0.01  # of the mean square of a cell: small pictures have fewer cells than the map has coefficients


def combine_latents(
    x_1: Tensor, decode: Callable[[Tensor], Tensor], reduction: str = "mean", align: bool = True
) -> tuple[Tensor, Tensor]:
    """[B, E, 4, h, w] latents of the members -> centre and spread in log depth, [B, 1, H, W] each.

    Args:
        x_1: the members' depth latents.
        decode: [1, 4, h, w] -> log depth [1, 1, H, W], H and W multiples of h and w; asked once an image.
        reduction: how latents are averaged, and which spread belongs to it; see `combine_members`.
        align: as in `combine_members`, for the spread; latents are averaged as they are, since scale and shift of log
            depth are none of a latent.

    Returns:
        The decoded average, and the spread of the members' linear log depth, as smooth as cells of the latent. One
        member gives its own decode and 0.

    Raises:
        ValueError: for an unknown reduction.
    """
    if reduction not in REDUCTIONS:
        raise ValueError(f"Unknown reduction {reduction!r}; choose one of {', '.join(REDUCTIONS)}.")
    if x_1.shape[1] == 1:
        centre = torch.cat([decode(one) for one in x_1[:, 0].split(1)])
        return centre, torch.zeros_like(centre)
    average, _ = REDUCTIONS[reduction](x_1)  # [B, 4, h, w]
    centre = torch.cat([decode(one) for one in average.split(1)])
    members = [linear_log_depth(*one) for one in zip(x_1, average, centre, strict=True)]
    _, spread = combine_members(torch.stack(members), reduction, align)  # [B, 1, h, w]
    return centre, F.interpolate(spread, centre.shape[-2:], mode="bilinear", align_corners=False)


def linear_log_depth(x_1: Tensor, average: Tensor, centre: Tensor) -> Tensor:
    """Log depth of an image's members by the linear map that takes their average to the decoded centre.

    Args:
        x_1: [E, 4, h, w] the members' latents.
        average: [4, h, w] their average.
        centre: [1, H, W] its log depth.

    Returns:
        [E, 1, h, w], a value for each cell of the latent.
    """
    cells = F.adaptive_avg_pool2d(centre, average.shape[-2:]).flatten()  # [h w]
    known = _neighbourhoods(average[None])[0]  # [h w, 36]
    mean = known.mean(0)
    known = known - mean
    gram = known.T @ known
    gram = gram + _RIDGE * gram.diagonal().mean().clamp_min(1e-12) * torch.eye(len(gram)).to(gram)
    weights = torch.linalg.solve(gram, known.T @ (cells - cells.mean()))
    log_depth = (_neighbourhoods(x_1) - mean) @ weights + cells.mean()  # [E, h w]
    return log_depth.reshape(len(x_1), 1, *average.shape[-2:])


def _neighbourhoods(latent: Tensor) -> Tensor:
    """[N, 4, h, w] -> [N, h w, 36]: each cell with its neighbours, those beyond the border being the border's own."""
    padded = F.pad(latent, (_NEIGHBOURS // 2,) * 4, mode="replicate")
    return rearrange(F.unfold(padded, _NEIGHBOURS), "n c cells -> n cells c")
