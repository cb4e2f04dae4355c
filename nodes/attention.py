"""Which attention ComfyUI computes a DepthFM with."""

import math
from collections.abc import Callable

import comfy.ldm.modules.attention as attentions
import comfy.model_management as mm
from comfy.cli_args import args
from comfy.model_patcher import ModelPatcher
from torch import Tensor

from .memory import Attention

_MOST_QUERIES = 4096  # of `attention_sub_quad` at a time; fewer where memory is short


def set_attention(patcher: ModelPatcher, *, rescaled: bool) -> None:
    """Gives a model PyTorch's fused attention where ComfyUI has none by itself, and the authors' scale of logits.

    Both are patches like those of other nodes, which may replace them.

    Args:
        patcher: of a DepthFM.
        rescaled: see `depthfm_core.model.attention.ATTENTIONS`.
    """
    if _lacks_fused_attention():
        patcher.model_options["transformer_options"]["optimized_attention_override"] = _fused_attention
    if rescaled:
        patcher.set_model_attn1_patch(_rescale_logits)


def attention_in_use() -> Attention:
    """What models from `set_attention` are computed with on this computer."""
    chosen = attentions.optimized_attention
    if _lacks_fused_attention() or chosen not in (attentions.attention_sub_quad, attentions.attention_split):
        return Attention()
    if chosen is attentions.attention_sub_quad:
        return Attention(fused=False, queries=_MOST_QUERIES)
    return Attention(fused=False)


def _lacks_fused_attention() -> bool:
    """Whether ComfyUI goes by tables of scores on a CPU though nobody has asked it to.

    At 512 x 512 a call for one member of the published model then takes 1,079 MB beside the weights, and 130 MB with
    fused attention.
    """
    unfused = attentions.optimized_attention is attentions.attention_sub_quad
    return unfused and not args.use_quad_cross_attention and mm.is_device_cpu(mm.get_torch_device())


def _fused_attention(_chosen: Callable, *tensors: Tensor, **options: object) -> Tensor:
    return attentions.attention_pytorch(*tensors, **options)


def _rescale_logits(tokens: Tensor, context: Tensor, value: Tensor, _options: dict) -> tuple[Tensor, Tensor, Tensor]:
    """The authors' scale of self-attention without xformers, put into the queries, whose projection has no bias."""
    count = tokens.shape[1]
    return tokens * math.sqrt(math.log(count) / math.log(4 * count)), context, value
