"""What stages made, as the stages after them take it: the autoencoder, and the networks of flow stages."""

import logging
from pathlib import Path

from ..model.codec import LatentCodec, load_codec
from ..model.reading import read_tensor_file
from ..model.unet import DepthFMUNet
from .first_weights import first_network, untrained_network
from .places import autoencoder_folder, codec_config_path, network_path, state_of
from .recipe import Recipe
from .velocity import take_averaged

_LOGGER = logging.getLogger(__name__)


def network_after(recipe: Recipe, output: Path, trained: str) -> DepthFMUNet:
    """The network with the result of a flow stage, or as it is before the first one.

    Raises:
        ValueError: for a stage without a result.
    """
    if not trained:
        return first_network(recipe.network, output)
    path = network_path(output, trained)
    if not path.exists():
        raise ValueError(f"{path} is missing; run stage flow.{trained} first.")
    network = untrained_network(recipe.network, output)
    network.unet.load_state_dict(read_tensor_file(path)[0])
    return network


def codec_of(recipe: Recipe, output: Path) -> LatentCodec:
    """The autoencoder of all latents. Errors: `codec_path`, `load_codec`."""
    return load_codec(codec_path(recipe, output))


def codec_path(recipe: Recipe, output: Path) -> Path:
    """The recipe's existing autoencoder, or the trained one.

    Raises:
        ValueError: for one that is to be trained and was not.
    """
    if recipe.autoencoder.path:
        return output / recipe.autoencoder.path
    if not codec_config_path(output).exists():
        raise ValueError(
            f"{autoencoder_folder(output)} holds no autoencoder; run "
            f"`python -m depthfm_core train RECIPE --output {output} --stage autoencoder` first."
        )
    return autoencoder_folder(output)


def network_so_far(recipe: Recipe, output: Path, which: str) -> tuple[DepthFMUNet, dict[str, int]]:
    """The result of a flow stage; of one that is not done its averaged weights so far, and {"step": the last saved}.

    Raises:
        ValueError: as `network_after`, or for the state of other settings.
    """
    state = state_of(network_path(output, which))
    if network_path(output, which).exists() or not state.exists():
        return network_after(recipe, output, which), {}
    network = network_after(recipe, output, recipe.flow[which].start)
    step = take_averaged(network, recipe.flow[which], state)
    _LOGGER.info("flow.%s is not done; export takes the averaged weights of step %d out of %s", which, step, state)
    return network, {"step": step}
