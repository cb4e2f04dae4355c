"""Initial weights that make a TAESD code a picture as its thumbnail, eight times smaller and in color.

From random weights the small autoencoder learned brightness within minutes and no color in a quarter of an hour: once
all four channels say "brightness", none is left. So three of the 64 channels start as red, green and blue, which pass
every ReLU because they are not negative, and the latent as their mean and two differences. All else starts random.
"""

import torch
from diffusers import AutoencoderTiny
from diffusers.models.unets.unet_2d_blocks import AutoencoderTinyBlock
from torch import Tensor, nn

# Mean, red - green, blue - yellow, each about of unit standard deviation in pictures with values in [0, 1].
_TO_LATENT = torch.tensor([[1.2, 1.2, 1.2], [4.0, -4.0, 0.0], [-2.5, -2.5, 5.0]])
_MIDDLE = torch.tensor([3.6 * 0.5, 0.0, 0.0])  # the latent of mid-grey, which becomes zero
_SMOOTH = torch.tensor([0.25, 0.5, 0.25])


@torch.no_grad()
def start_as_thumbnail(autoencoder: AutoencoderTiny) -> None:
    """Overwrites some of the weights of an `AutoencoderTiny`, so that it blurs pictures instead of forgetting them."""
    point = torch.zeros(3, 3)
    point[1, 1] = 1
    smooth = torch.outer(_SMOOTH, _SMOOTH)
    first, *downs, last = _convolutions(autoencoder.encoder.layers)
    _pass(first, torch.eye(3), point)
    for down in downs:
        _pass(down, torch.eye(3), smooth)
    _pass(last, _TO_LATENT, point)
    last.bias[:3] = -_MIDDLE
    first, *ups, last = _convolutions(autoencoder.decoder.layers)
    _pass(first, torch.linalg.inv(_TO_LATENT), point)
    first.bias[:3] = torch.linalg.inv(_TO_LATENT) @ _MIDDLE
    for up in ups:
        _pass(up, torch.eye(3), smooth)
    _pass(last, torch.eye(3), point)


def _convolutions(layers: nn.Sequential) -> list[nn.Conv2d]:
    """The convolutions between the blocks; the blocks themselves become ones that add nothing at first."""
    for block in layers:
        if isinstance(block, AutoencoderTinyBlock):
            nn.init.zeros_(block.conv[-1].weight)
            nn.init.zeros_(block.conv[-1].bias)
    return [layer for layer in layers if isinstance(layer, nn.Conv2d)]


def _pass(convolution: nn.Conv2d, matrix: Tensor, kernel: Tensor) -> None:
    """The first three outputs become `matrix` times the first three inputs, each filtered with `kernel`."""
    convolution.weight[:3] = 0
    convolution.weight[:3, :3] = matrix[:, :, None, None] * kernel
    if convolution.bias is not None:
        convolution.bias[:3] = 0
