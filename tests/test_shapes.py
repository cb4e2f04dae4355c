import pytest
import torch

from depthfm_core.model.hyperparameters import UNetHyperParameters
from depthfm_core.model.names import diffusers_to_ldm
from depthfm_core.model.shapes import unet_shapes
from depthfm_core.model.unet import DepthFMUNet


@pytest.mark.parametrize("num_res_blocks", [1, 2])
@pytest.mark.parametrize("channel_mult", [(1,), (1, 2, 4, 4), (1, 3, 1, 2)], ids=str)
@pytest.mark.parametrize(
    "other",
    [
        {"attention_resolutions": (1, 2, 4)},
        {"attention_resolutions": (2,), "transformer_depth": 2},
        {"attention_resolutions": (64,), "use_linear_in_transformer": False},
        {"attention_resolutions": (1,), "in_channels": 9, "out_channels": 5},
    ],
    ids=str,
)
def test_the_shapes_are_those_of_the_network(channel_mult, num_res_blocks, other):
    hyper = UNetHyperParameters(
        model_channels=32, channel_mult=channel_mult, num_res_blocks=num_res_blocks, context_dim=24, **other
    )
    with torch.device("meta"):
        network = DepthFMUNet(hyper, torch.empty(1, 1, 24))
    built = diffusers_to_ldm(network.unet.state_dict(), hyper)
    assert unet_shapes(hyper) == {name: tensor.shape for name, tensor in built.items()}
