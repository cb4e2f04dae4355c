"""Two methods without a network, which any other must beat."""

import torch
from torch import Tensor

from .method import Method, MethodCard, Request


def load_constant(request: Request) -> Method:
    """The same depth everywhere: after alignment, a kind of mean of the ground truth."""
    return request.method(lambda image: (torch.zeros_like(image[:, :1]), 0))


def load_ramp(request: Request) -> Method:
    """Near at the lower edge, far at the upper, even in log depth: what a floor looks like."""
    return request.method(lambda image: (_ramp(image), 0))


def _ramp(image: Tensor) -> Tensor:
    rows = torch.linspace(1, -1, image.shape[-2], device=image.device)
    return rows.view(1, 1, -1, 1).expand(1, 1, -1, image.shape[-1])


_FIELDS = {"gives": "log_depth", "weights": "none", "fetch": "nothing to fetch", "licence": "none", "size": "0"}
SANITY = {
    "constant": MethodCard(load=load_constant, source="one depth for all pixels", **_FIELDS),
    "ramp": MethodCard(load=load_ramp, source="depth by the row of the pixel", **_FIELDS),
}
