"""The depth of latents that core's samplers have sampled, with progress bar and cancel button."""

import comfy.utils
import torch
from torch import Tensor

from ..depthfm_core.depth.prediction import DepthPrediction
from ..depthfm_core.flow import combine_members
from ..depthfm_core.settings import sharpens
from .encoded import EncodedPictures, encoded_pictures
from .frames import empty_maps, prediction_of
from .vae import VaeCodec, resolution_of_its_model


def decode(
    latent: Tensor,
    vae: object,
    ensemble_size: int,
    reduction: str,
    image: Tensor | None = None,
    sharpen: bool | None = None,
    bar: comfy.utils.ProgressBar | None = None,
) -> DepthPrediction:
    """The depth of sampled latents, on the CPU.

    Frame by frame, so that the memory beside the result is that of one frame's members, whatever the number of frames.

    Args:
        latent: [(E B), 4, h, w] as ComfyUI's samplers return them: the whole batch of images once for each member, as
            Repeat Latent Batch repeats it.
        vae: ComfyUI's VAE.
        ensemble_size: E.
        reduction: see `flow.combine_members`.
        image: [B, 3, H, W] of any floating dtype, the pictures that were encoded, or one for all: the depth comes at
            their size. Without them it comes at the size that the latents show.
        sharpen: move the edges of the depth onto those of the pictures. None = as the DepthFM Sampler does for the
            model that the VAE came with.
        bar: the node's, where it has one already; it goes on by one for each latent.

    Raises:
        ValueError: for a VAE of another kind, latents of another shape, a number that E does not divide, pictures of
            another number or aspect, or none where edges are to be sharpened.
        AutoencoderOutOfMemory: when the autoencoder has no room for one latent.
    """
    codec = VaeCodec(vae, scaling_factor=1.0)
    _check_latent(latent, ensemble_size)
    num_frames = len(latent) // ensemble_size
    shown = tuple(side * codec.downscale for side in latent.shape[-2:])
    pictures = _pictures(image, num_frames, shown, vae, sharpen)
    size = pictures.placement.size if pictures else shown
    maps, members = empty_maps(num_frames, size, ensemble_size), torch.empty(1, ensemble_size, 1, *shown)
    working, progress = [], bar or comfy.utils.ProgressBar(len(latent))
    for frame in range(num_frames):
        for member, one in enumerate(latent[frame::num_frames].split(1)):
            members[:, member] = codec.decode_log_depth(one.float())
            progress.update(1)
        combined = combine_members(members, reduction)
        prediction = pictures.prediction(frame, *combined) if pictures else DepthPrediction.from_log_depth(*combined)
        for name, values in maps.items():
            values[frame] = getattr(prediction, name)[0]
        working.append(prediction.working_log_depth)
    return prediction_of(maps, torch.cat(working) if working[0] is not None else None)


def _pictures(
    image: Tensor | None, num_frames: int, shown: tuple[int, int], vae: object, sharpen: bool | None
) -> EncodedPictures | None:
    if image is None and sharpen:
        raise ValueError(
            "Edges are sharpened by those of the image, and none is connected. Connect the image that went into VAE "
            "Encode, or choose 'auto' for 'edges'."
        )
    if image is None:
        return None
    return encoded_pictures(image, num_frames, shown, sharpens(sharpen, resolution_of_its_model(vae)))


def _check_latent(latent: Tensor, ensemble_size: int) -> None:
    if latent.ndim != 4 or latent.shape[1] != 4:
        raise ValueError(f"The latent has shape {list(latent.shape)}; expected [B, 4, h, w], from a DepthFM MODEL.")
    if len(latent) % ensemble_size:
        raise ValueError(
            f"{len(latent)} latents do not divide into ensembles of {ensemble_size}; set ensemble_size to the number "
            "of latents that were sampled for each image (1 if there was no ensemble)."
        )
