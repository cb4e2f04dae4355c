"""How the velocity network attends, as attention processors of diffusers; this file needs none of it."""

import math

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

# "plain" is softmax(q k / sqrt(d)), what the authors' code computes with xformers. Without xformers the same code also
# multiplies self-attention logits by sqrt(log n / log 4n): "rescaled", for comparisons with such runs.
ATTENTIONS = ("plain", "rescaled")


class SelfAttention:
    """A diffusers attention processor for self-attention, with the plain or the rescaled softmax scale."""

    def __init__(self, rescaled: bool) -> None:
        self.rescaled = rescaled

    def __call__(self, attn: nn.Module, hidden_states: Tensor, **_unused: object) -> Tensor:
        """[B, n, C] -> [B, n, C]."""
        query, key, value = (_split_heads(f(hidden_states), attn.heads) for f in (attn.to_q, attn.to_k, attn.to_v))
        scale = query.shape[-1] ** -0.5
        if self.rescaled:
            tokens = query.shape[2]
            scale *= math.sqrt(math.log(tokens) / math.log(4 * tokens))
        return _attend(attn, query, key, value, scale)


class NullTextAttention(nn.Module):
    """A diffusers attention processor that attends to constant keys and values, [1, L, C] each."""

    def __init__(self, key: Tensor, value: Tensor, heads: int) -> None:
        super().__init__()
        self.register_buffer("key", _split_heads(key, heads))  # [1, heads, L, d]
        self.register_buffer("value", _split_heads(value, heads))

    def forward(self, attn: nn.Module, hidden_states: Tensor, **_unused: object) -> Tensor:
        """[B, n, C] -> [B, n, C]."""
        query = _split_heads(attn.to_q(hidden_states), attn.heads)
        batch = query.shape[0]
        key, value = (text.expand(batch, -1, -1, -1) for text in (self.key, self.value))
        return _attend(attn, query, key, value, query.shape[-1] ** -0.5)


def _split_heads(tokens: Tensor, heads: int) -> Tensor:
    return rearrange(tokens, "b n (heads d) -> b heads n d", heads=heads)


def _attend(attn: nn.Module, query: Tensor, key: Tensor, value: Tensor, scale: float) -> Tensor:
    if query.dtype == torch.float16:
        # PyTorch's kernel for MPS (native/mps/operations/Attention.mm) scales after it has rounded q k to half
        # precision, of which Stable Diffusion 2.1 exceeds the range.
        query, scale = query * scale, 1.0
    mixed = F.scaled_dot_product_attention(query, key, value, scale=scale)
    return attn.to_out[0](rearrange(mixed, "b heads n d -> b n (heads d)"))
