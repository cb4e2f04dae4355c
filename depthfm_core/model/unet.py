"""The velocity network: diffusers' `UNet2DConditionModel`, driven as DepthFM drives it.

Time enters raw, t in [0, 1], not scaled to 0..1000, unless the parameterization says otherwise. The text is always the
embedding of the empty prompt, so its keys and values can be computed once (`fix_null_text`) and the text projections
dropped.
"""

import torch
from diffusers import UNet2DConditionModel
from torch import Tensor, nn

from .attention import ATTENTIONS, NullTextAttention, SelfAttention
from .hyperparameters import UNetHyperParameters
from .parameterization import DEFAULT_PARAMETERIZATION, PARAMETERIZATIONS, check_parameterization


class DepthFMUNet(nn.Module):
    """The velocity field v(x_t, t, image_latent).

    Args:
        hyper: the network's shape.
        null_text: [1, L, context_dim] embedding of the empty prompt.
        attention: one of `attention.ATTENTIONS`.
        parameterization: one of `PARAMETERIZATIONS`.

    Raises:
        ValueError: for an unknown attention or parameterization, or a `null_text` that does not fit `hyper`.

    Source: Gui et al. 2025 (DepthFM); CompVis/depth-fm, `depthfm/dfm.py` and `depthfm/unet/openaimodel.py`.
    """

    def __init__(
        self,
        hyper: UNetHyperParameters,
        null_text: Tensor,
        attention: str = "plain",
        parameterization: str = DEFAULT_PARAMETERIZATION,
    ) -> None:
        super().__init__()
        if attention not in ATTENTIONS:
            raise ValueError(f"Unknown attention {attention!r}; choose one of {', '.join(ATTENTIONS)}.")
        check_parameterization(parameterization)
        if null_text.ndim != 3 or null_text.shape[0] != 1 or null_text.shape[2] != hyper.context_dim:
            raise ValueError(
                f"The empty-prompt embedding has shape {list(null_text.shape)}; expected [1, L, {hyper.context_dim}]."
            )
        self.hyper = hyper
        self.parameterization = parameterization
        self.unet = UNet2DConditionModel(**_diffusers_config(hyper))
        self.register_buffer("null_text", null_text, persistent=False)
        for layer in self._attentions("attn1"):
            layer.set_processor(SelfAttention(rescaled=attention == "rescaled"))

    @property
    def dtype(self) -> torch.dtype:
        """The weights' dtype, in which the network computes: of one of them, since diffusers' `dtype` asks them all."""
        return self.unet.conv_in.weight.dtype

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return self.null_text.device

    def forward(self, x_t: Tensor, t: Tensor, image_latent: Tensor) -> Tensor:
        """The velocity at x_t, [B, 4, h, w] in the dtype of `x_t`.

        Args:
            x_t: [B, 4, h, w] point of the path.
            t: [B] float32 in [0, 1].
            image_latent: [B, 4, h, w] clean image latent.
        """
        ask = PARAMETERIZATIONS[self.parameterization]
        sample = torch.cat([ask.point(x_t, t), image_latent], dim=1).to(self.dtype)  # [B, 8, h, w]
        text = self.null_text.to(self.dtype).expand(sample.shape[0], -1, -1)
        output = self.unet(sample, ask.timestep(t), encoder_hidden_states=text).sample.to(x_t.dtype)
        return ask.velocity(output, x_t, t).to(x_t.dtype)

    @torch.no_grad()
    def fix_null_text(self) -> None:
        """Computes the text's keys and values once and drops the weights that make them; afterwards inference only."""
        for layer in self._attentions("attn2"):
            text = self.null_text.to(layer.to_k.weight.dtype)
            layer.set_processor(NullTextAttention(layer.to_k(text), layer.to_v(text), layer.heads))
            del layer.to_k, layer.to_v
        self.null_text = self.null_text.to(self.dtype)  # once, and not at every call

    def _attentions(self, name: str) -> list[nn.Module]:
        """`attn1` (self) or `attn2` (text) of every transformer block."""
        return [module for path, module in self.unet.named_modules() if path.split(".")[-1] == name]


def _diffusers_config(hyper: UNetHyperParameters) -> dict:
    """The hyper-parameters in diffusers' words, where `attention_head_dim` means the number of heads."""
    down = ["CrossAttnDownBlock2D" if attends else "DownBlock2D" for attends in hyper.attends]
    up = ["CrossAttnUpBlock2D" if attends else "UpBlock2D" for attends in reversed(hyper.attends)]
    return {
        "in_channels": hyper.in_channels,
        "out_channels": hyper.out_channels,
        "block_out_channels": hyper.channels,
        "layers_per_block": hyper.num_res_blocks,
        "down_block_types": down,
        "up_block_types": up,
        "attention_head_dim": hyper.heads,
        "cross_attention_dim": hyper.context_dim,
        "transformer_layers_per_block": hyper.transformer_depth,
        "use_linear_projection": hyper.use_linear_in_transformer,
        "norm_num_groups": 32,
    }
