"""Networks that give diffusers' answer with less work and memory; for inference."""

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from diffusers.models.attention import BasicTransformerBlock
from diffusers.models.resnet import ResnetBlock2D
from diffusers.models.upsampling import Upsample2D
from torch import Tensor, nn

from .codec import LatentCodec
from .unet import DepthFMUNet
from .winograd import DOUBLED, convolve, pays, scale_and_shift


def make_lean(codec: LatentCodec, fewer_products: bool = True) -> LatentCodec:
    """Replaces layers of a KL autoencoder in place, and gives the codec back; a tiny one stays as it is.

    Afterwards the state dict is no longer what files hold, and a block may write its result over what it was given.

    Args:
        codec: on its device, in its precision.
        fewer_products: whether convolutions in float32 on CPUs go by `winograd`; not where the layers are traced,
            whose graph is to have plain convolutions.
    """
    if isinstance(codec.autoencoder, AutoencoderKL):
        _replace(codec.autoencoder, fewer_products, overwrites=True)
    return codec


def make_network_lean(network: DepthFMUNet) -> DepthFMUNet:
    """Changes a velocity network on a CPU in place, and gives it back; one on another device stays as it is.

    In float32 its convolutions go by `winograd` where that pays. The feed-forward layers of the first level, whose
    values are most of the memory that a batch takes, see one sample after the other.
    """
    if network.device.type == "cpu":
        for module in network.modules():
            if isinstance(module, BasicTransformerBlock) and module.dim == network.hyper.channels[0]:
                module.set_chunk_feed_forward(1, dim=0)
        if network.dtype == torch.float32:
            _replace(network.unet, fewer_products=True, overwrites=False)  # the input of a block is another's skip
    return network


def _replace(module: nn.Module, fewer_products: bool, overwrites: bool) -> None:
    for name, child in module.named_children():
        if isinstance(child, ResnetBlock2D):
            setattr(module, name, ResidualBlock(child, fewer_products, overwrites))
        elif isinstance(child, Upsample2D) and child.conv.weight.device.type == "cpu":  # on GPUs it was never measured
            fewer = fewer_products and child.conv.weight.dtype == torch.float32
            setattr(module, name, Upsampling(child) if fewer else MergedUpsampling(child))
        else:
            _replace(child, fewer_products, overwrites)


class ResidualBlock(nn.Module):
    """diffusers' `ResnetBlock2D`: the same layers, by the same names, and the same answer.

    What was just computed is activated and added to in place, and nothing is divided by a scale of 1.

    Args:
        block: of activation SiLU and scale 1, whose time is added, as in all of Stable Diffusion; its layers become
            this block's.
        fewer_products: whether convolutions go by `winograd` where that pays.
        overwrites: whether the result may be written over the input.
    """

    def __init__(self, block: ResnetBlock2D, fewer_products: bool, overwrites: bool) -> None:
        super().__init__()
        self.norm1, self.conv1 = block.norm1, block.conv1
        self.time_emb_proj = block.time_emb_proj
        self.norm2, self.conv2 = block.norm2, block.conv2
        self.conv_shortcut = block.conv_shortcut
        self.fewer_products = fewer_products
        self.overwrites = overwrites or block.conv_shortcut is not None  # then what is added is no one else's

    def forward(self, features: Tensor, temb: Tensor | None = None) -> Tensor:
        """[B, C, h, w] and the time [B, T], where the block has one, to [B, D, h, w]."""
        time = None if self.time_emb_proj is None else self.time_emb_proj(F.silu(temb))
        hidden = self._activate_and_convolve(features, self.norm1, self.conv1, time)
        added = features if self.conv_shortcut is None else self.conv_shortcut(features)
        return self._activate_and_convolve(hidden, self.norm2, self.conv2, added=added)

    def _activate_and_convolve(
        self,
        features: Tensor,
        norm: nn.GroupNorm,
        conv: nn.Conv2d,
        time: Tensor | None = None,
        added: Tensor | None = None,
    ) -> Tensor:
        """With the time of each image [B, D] and other features [B, D, h, w] added, where given."""
        if self.fewer_products and pays(features, conv):
            features = features.contiguous(memory_format=torch.channels_last)
            bias = conv.bias[None] if time is None else conv.bias + time
            if added is not None:
                own = Tensor.contiguous if self.overwrites else Tensor.clone
                added = own(added, memory_format=torch.channels_last)
            return convolve(features, conv.weight, bias, activation=scale_and_shift(features, norm), onto=added)
        result = conv(F.silu(norm(features), inplace=True))
        if time is not None:
            result = result + time[:, :, None, None]
        return result if added is None else result.add_(added)


class Upsampling(nn.Module):
    """Doubling by the nearest pixel and the 3x3 convolution after it, by `winograd` where that pays.

    Args:
        layer: with a 3x3 convolution, as in all of Stable Diffusion; becomes a part of this one.
    """

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        self.layer = layer

    def forward(self, features: Tensor, output_size: tuple[int, int] | None = None) -> Tensor:
        """[B, C, h, w] to [B, D, 2h, 2w], or to another size that is given."""
        conv = self.layer.conv
        if output_size is None and pays(features, conv, DOUBLED):
            return convolve(features, conv.weight, conv.bias[None], DOUBLED)
        return self.layer(features, output_size)


class MergedUpsampling(nn.Module):
    """Doubling by the nearest pixel and the 3x3 convolution after it, as one transposed convolution.

    Of the nine pixels that the convolution sees after doubling only four differ, so that 4/9 of the products are left,
    and the doubled picture never exists. The kernel of a side, (w0, w1, w2), becomes (w2, w1 + w2, w0 + w1, w0).

    Args:
        layer: with a 3x3 convolution, as in Stable Diffusion's autoencoders.
    """

    def __init__(self, layer: Upsample2D) -> None:
        super().__init__()
        kernel = layer.conv.weight.float()
        for side in (2, 3):
            first, middle, last = kernel.unbind(side)
            kernel = torch.stack([last, middle + last, first + middle, first], side)
        self.weight = nn.Parameter(_like(kernel.transpose(0, 1), layer.conv.weight), requires_grad=False)
        self.bias = layer.conv.bias

    def forward(self, features: Tensor, output_size: None = None) -> Tensor:  # noqa: ARG002 (diffusers' name)
        """[B, C, h, w] to [B, D, 2h, 2w]; `output_size` would be another size than that."""
        return F.conv_transpose2d(features, self.weight, self.bias, stride=2, padding=1)


def _like(kernel: Tensor, weight: Tensor) -> Tensor:
    """In the dtype and the layout of another kernel."""
    last = weight.is_contiguous(memory_format=torch.channels_last)
    return kernel.to(weight.dtype).contiguous(memory_format=torch.channels_last if last else torch.contiguous_format)
