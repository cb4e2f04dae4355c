"""The image prior: training starts from Stable Diffusion's UNet instead of from random weights.

The prior takes four channels, a noisy latent; DepthFM takes eight, x_t and the image latent. Both halves of the widened
first convolution are half of the prior's, so that at first the network does to the mean of x_t and image latent what
the prior does to its one input.

The weights do not tell the number of attention heads. Stable Diffusion 2.1 has heads of 64 channels (5, 10, 20 and 20
on its levels); the published DepthFM, made from it, has 8 on every level, which changes what the prior's attention
computes. So other heads than the prior's have to be asked for.
"""

from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import torch
from torch import Tensor

from ..model.hyperparameters import DEFAULT_NUM_HEADS, UNetHyperParameters, from_ldm
from ..model.layouts import FIRST_CONVOLUTION, find_prefix, flatten, read_diffusers_folder, read_settings
from ..model.names import ldm_to_diffusers
from ..model.reading import CheckpointError, read_tensor_file
from ..model.shapes import unet_mismatch

PRIOR_CHANNELS = 4
_SD2_HEAD_CHANNELS = 64
_HEADS = ("num_heads", "num_head_channels")
_REMEDY = "Give Stable Diffusion 2.1: a diffusers folder with unet/, or one file with model.diffusion_model tensors."


def read_prior(path: Path, hyper: UNetHyperParameters, *, keep_heads: bool) -> dict[str, Tensor]:
    """Weights for the UNet of a velocity network, under diffusers' names in float32, from those of an image prior.

    Args:
        path: a diffusers folder (with `unet/`, or one that is it), or a file with LDM's names, bare or under a prefix;
            what else is in the file is left alone.
        hyper: the velocity network's shape; the prior has the same but for its four input channels.
        keep_heads: whether to refuse a `hyper` with other attention heads than the prior was trained with.

    Raises:
        CheckpointError: for an unreadable file, one without such a UNet, or a UNet of another shape.

    Source: CompVis/diff2flow, `load_from_ckpt`, for the first convolution.
    """
    state_dict = _read_checked(path, hyper, keep_heads)
    state_dict[FIRST_CONVOLUTION] = widen(state_dict[FIRST_CONVOLUTION])
    return {name: tensor.float() for name, tensor in ldm_to_diffusers(state_dict, hyper).items()}


def check_prior(path: Path, hyper: UNetHyperParameters, *, keep_heads: bool) -> None:
    """Whether `read_prior` would give weights, without the memory for them; arguments and errors as there."""
    _read_checked(path, hyper, keep_heads)


def _read_checked(path: Path, hyper: UNetHyperParameters, keep_heads: bool) -> dict[str, Tensor]:
    """The prior's tensors as they are in the file, under LDM's names."""
    content, metadata = read_diffusers_folder(path, _REMEDY) if path.is_dir() else read_tensor_file(path)
    stated = read_settings(path, content, metadata).get("ldm_hparams")
    tensors = flatten(content)
    prefix = find_prefix(path, tensors, "a Stable Diffusion UNet", _REMEDY)
    state_dict = {name.removeprefix(prefix): t for name, t in tensors.items() if name.startswith(prefix)}
    resolutions = tuple(sorted(hyper.attention_resolutions))  # LDM's files list them the other way round
    narrow = replace(hyper, in_channels=PRIOR_CHANNELS, attention_resolutions=resolutions)
    _check(path, state_dict, narrow, _stated_shape(path, stated) if stated else _usual_shape(narrow), keep_heads)
    return state_dict


def widen(weight: Tensor) -> Tensor:
    """A first convolution for two inputs, [O, 2C, k, k] float32: of equal ones it makes what `weight` makes of one.

    Halved, and not zero for the new half, so that both inputs count from the first step.
    """
    half = weight.float() / 2
    return torch.cat([half, half], dim=1)


def _stated_shape(path: Path, stated: Mapping) -> UNetHyperParameters:
    try:
        return from_ldm(stated)
    except (ValueError, TypeError) as error:
        raise CheckpointError(path, f"has hyper-parameters that fit no UNet ({error}).", _REMEDY) from error


def _usual_shape(narrow: UNetHyperParameters) -> UNetHyperParameters:
    """The wanted shape with the heads of Stable Diffusion, where a file does not say.

    Linear projections around the transformers are the mark of 2.x, with heads of 64 channels; 1.x has 8 heads.
    """
    wide = all(channels % _SD2_HEAD_CHANNELS == 0 for channels in narrow.channels)
    if narrow.use_linear_in_transformer and wide:
        return replace(narrow, num_heads=-1, num_head_channels=_SD2_HEAD_CHANNELS)
    return replace(narrow, num_heads=DEFAULT_NUM_HEADS, num_head_channels=-1)


def _check(
    path: Path,
    state_dict: Mapping[str, Tensor],
    narrow: UNetHyperParameters,
    own: UNetHyperParameters,
    keep_heads: bool,
) -> None:
    """Raises for a prior that is not the wanted network but for its input channels."""
    channels = list(state_dict[FIRST_CONVOLUTION].shape[1:2])
    if channels != [PRIOR_CHANNELS]:
        raise CheckpointError(path, f"is a UNet for {channels} input channels; a prior has {PRIOR_CHANNELS}.", _REMEDY)
    wanted, given = asdict(narrow), asdict(own)
    for name in sorted(wanted.keys() - _HEADS):
        if wanted[name] != given[name]:
            raise CheckpointError(
                path,
                f"has {name} {given[name]}, and the recipe's network {wanted[name]}.",
                "Set [network.unet] to the prior's shape.",
            )
    if keep_heads and own.heads != narrow.heads:
        raise CheckpointError(
            path,
            f"has {list(own.heads)} attention heads on its levels, and the recipe's network {list(narrow.heads)}.",
            "Set num_heads or num_head_channels in [network.unet] to the prior's, or keep_heads = false in [network] "
            "for other heads, as the published DepthFM has.",
        )
    problem = unet_mismatch(state_dict, narrow)
    if problem:
        raise CheckpointError(path, f"does not fit the recipe's network: {problem}", _REMEDY)
