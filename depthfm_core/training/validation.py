"""How good a velocity network is on frames that it never trained on."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..depth.align import align
from ..evaluation.boundaries import boundary_scores
from ..evaluation.metrics import measure
from ..evaluation.pictures import error_picture
from ..evaluation.protocol import LOWEST_DEPTH_M
from ..model.codec import LatentCodec
from ..model.unet import DepthFMUNet
from ..pipeline import DepthFMPipeline
from ..settings import EstimationSettings
from .augment import ViewSettings, draw_view
from .latents import encode
from .sources import Frame
from .watch import Checked, titled

_CHECK_STEPS = 2
_CHECK_AT_ONCE = 25
_SHOWN = 4  # frames in a picture
_TITLES = ("picture", "depth", "estimate", "relative error, 0 to 0.5")


class HeldOut(NamedTuple):
    """Frames that are never trained on.

    Latents [N, 4, h, w], depth in metres and its mask [N, 1, H, W], the pictures [N, 3, H, W] in [0, 1], and the labels
    of the data sets that they are of, N or none.
    """

    image_latent: Tensor
    depth_m: Tensor
    valid: Tensor
    image: Tensor
    data_sets: tuple[str, ...] = ()


def encode_held_out(frames: Sequence[Frame], view: ViewSettings, codec: LatentCodec) -> HeldOut:
    """The largest crop in the canvas's shape of each frame, pictures unchanged.

    Raises:
        ValueError: when no frame has depth to compare with.
    """
    whole = ViewSettings(view.height_px, view.width_px, min_scale=1.0, aspect_jitter=0.0, flip_probability=0.0)
    samples = [draw_view(frame.read(), whole, np.random.default_rng(0)) for frame in frames]
    image, depth_m, valid = (
        torch.stack([getattr(sample, name) for sample in samples]) for name in ("image", "depth_m", "valid")
    )
    if not valid.any():
        raise ValueError(f"None of the {len(frames)} held-out frames has depth within its crop; hold out others.")
    data_sets = tuple(frame.data_set for frame in frames)
    return HeldOut(encode(codec, image * 2 - 1), depth_m, valid, image, data_sets)


def check_estimates(network: DepthFMUNet, codec: LatentCodec, held_out: HeldOut, noising_step: int) -> Checked:
    """The project's metrics and F1 of boundaries over held-out frames, and a picture of some of them.

    Two Euler steps, aligned by least squares in log depth, means over the frames with depth; of several data sets also
    over each one's, as "NAME/delta1". The picture's columns are picture, depth, estimate and relative error.
    """
    depth_m = _aligned(network, codec, held_out, noising_step)
    measured = [measure, boundary_scores]
    rows = {name: row for f in measured for name, row in f(depth_m, held_out.depth_m, held_out.valid).items()}
    scores = {name: float(row.nanmean()) for name, row in rows.items()}
    labels = sorted(set(held_out.data_sets))
    for label in labels if len(labels) > 1 else ():
        own = torch.tensor([data_set == label for data_set in held_out.data_sets])
        scores |= {f"{label}/{name}": float(row[own].nanmean()) for name, row in rows.items()}
    return Checked(scores, _picture(held_out, depth_m))


def _aligned(network: DepthFMUNet, codec: LatentCodec, held_out: HeldOut, noising_step: int) -> Tensor:
    """Estimated depth in metres, [N, 1, H, W]."""
    noise = torch.randn(held_out.image_latent.shape, generator=torch.Generator().manual_seed(0))
    tensors = (held_out.image_latent, held_out.depth_m, held_out.valid, noise)
    parts = zip(*(tensor.split(_CHECK_AT_ONCE) for tensor in tensors), strict=True)
    aligned = [
        align(estimate(network, codec, image_latent, part_noise, noising_step), depth_m, valid, "log")
        for image_latent, depth_m, valid, part_noise in parts
    ]
    return torch.cat(aligned).clamp_min(LOWEST_DEPTH_M)  # as in the benchmarks, so that ratios exist


def _picture(held_out: HeldOut, depth_m: Tensor) -> Tensor:
    """Some frames below each other, evenly from all that have depth."""
    usable = held_out.valid.flatten(1).any(1).nonzero()[:, 0]
    shown = usable[:: max(1, len(usable) // _SHOWN)][:_SHOWN]
    maps = (held_out.image, held_out.depth_m, held_out.valid, depth_m)
    return titled([error_picture(*(values[index] for values in maps)) for index in shown], _TITLES)


@torch.no_grad()
def estimate(
    network: DepthFMUNet,
    codec: LatentCodec,
    image_latent: Tensor,
    noise: Tensor,
    noising_step: int,
    num_steps: int = _CHECK_STEPS,
) -> Tensor:
    """Log depth [N, 1, H, W] on the CPU of latents and noise [N, 4, h, w], by Euler steps."""
    pipeline = DepthFMPipeline(network, codec, noising_step, processing_resolution=0)
    settings = EstimationSettings(num_steps=num_steps, members_at_once=max(1, len(image_latent)))
    x_1 = pipeline.depth_latents(image_latent, noise[:, None], settings)
    return torch.cat([part.cpu() for part in pipeline.log_depths(x_1.flatten(0, 1))])
