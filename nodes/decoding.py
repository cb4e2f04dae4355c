"""The depth of latents that core's samplers have sampled, with progress bar and cancel button."""

import comfy.utils
import torch
from torch import Tensor

from ..depthfm_core.depth.prediction import DepthPrediction
from ..depthfm_core.flow import combine_members
from .frames import empty_maps, prediction_of
from .vae import VaeCodec


def decode(latent: Tensor, vae: object, ensemble_size: int, reduction: str) -> DepthPrediction:
    """The depth of sampled latents, on the CPU.

    Frame by frame, so that the memory beside the result is that of one frame's members, whatever the number of frames.

    Args:
        latent: [(E B), 4, h, w] as ComfyUI's samplers return them: the whole batch of images once for each member, as
            Repeat Latent Batch repeats it.
        vae: ComfyUI's VAE.
        ensemble_size: E.
        reduction: see `flow.combine_members`.

    Raises:
        ValueError: for a VAE of another kind, latents of another shape, or a number that E does not divide.
        AutoencoderOutOfMemory: when the autoencoder has no room for one latent.
    """
    codec = VaeCodec(vae, scaling_factor=1.0)
    _check_latent(latent, ensemble_size)
    num_frames = len(latent) // ensemble_size
    size = [side * codec.downscale for side in latent.shape[-2:]]
    maps, members = empty_maps(num_frames, size, ensemble_size), torch.empty(1, ensemble_size, 1, *size)
    progress = comfy.utils.ProgressBar(len(latent))
    for frame in range(num_frames):
        for member, one in enumerate(latent[frame::num_frames].split(1)):
            members[:, member] = codec.decode_log_depth(one.float())
            progress.update(1)
        prediction = DepthPrediction.from_log_depth(*combine_members(members, reduction))
        for name, values in maps.items():
            values[frame] = getattr(prediction, name)[0]
    return prediction_of(maps)


def _check_latent(latent: Tensor, ensemble_size: int) -> None:
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(f"The latent has shape {list(latent.shape)}; expected [B, 4, h, w], from a DepthFM MODEL.")
    if len(latent) % ensemble_size:
        raise ValueError(
            f"{len(latent)} latents do not divide into ensembles of {ensemble_size}; set ensemble_size to the number "
            "of latents that were sampled for each image (1 if there was no ensemble)."
        )
