"""Marigold, through diffusers' own pipeline."""

import torch
from torch import Tensor

from ...optional import import_optional
from ...resize import resize_long_side
from .method import (
    DEFAULT_SEED,
    DTYPE,
    INSTALL,
    NEEDS,
    Method,
    MethodCard,
    Request,
    counted_calls,
    in_float32,
)
from .sizes import told_size


def load_marigold(request: Request) -> Method:
    """A Marigold for depth or disparity, whichever its own configuration says.

    Raises:
        ValueError: without the libraries or the weights.
    """
    import_optional("transformers", request.name, INSTALL)
    from diffusers import MarigoldDepthPipeline  # which needs it

    steps, members = PROTOCOL[request.name]
    members = request.choice("ensemble_size", members)
    if members > 1:
        import_optional("scipy", f"The ensemble of {request.name}", "pip install scipy")
    with request.complaining(ValueError):  # diffusers' error for a path that does not exist
        pipeline = MarigoldDepthPipeline.from_pretrained(request.weights, local_files_only=True)
    pipeline.set_progress_bar_config(disable=True)
    in_float32(pipeline.text_encoder, request.options.device)  # the rest is of diffusers, which takes float32 itself
    pipeline.to(request.options.device)
    resolution = request.choice("processing_resolution", pipeline.default_processing_resolution or 0)
    settings = {"num_inference_steps": request.choice("num_steps", steps), "ensemble_size": members}

    seed = request.choice("seed", DEFAULT_SEED)

    def estimate(image: Tensor) -> tuple[Tensor, int]:
        noise = torch.Generator().manual_seed(seed)
        resized = resize_long_side(image, resolution)
        with counted_calls(pipeline.unet) as calls:
            found = pipeline(resized, processing_resolution=0, output_type="pt", generator=noise, **settings)
        return found.prediction, sum(calls)

    return request.method(
        estimate,
        gives=pipeline.config.prediction_type or "",
        num_steps=settings["num_inference_steps"],
        ensemble_size=members,
        seed=seed,
        processing_resolution=told_size(resolution),
        dtype=DTYPE,
    )


# Denoising steps and members; v1-0 and v1-1 as Marigold's evaluation scripts, LCM as its model_index.json.
PROTOCOL = {"marigold-v1-0": (50, 10), "marigold-v1-1": (1, 1), "marigold-lcm": (1, 1)}


def _card(weights: str, licence: str, published: str) -> MethodCard:
    return MethodCard(
        load=load_marigold,
        gives="depth",
        weights=weights,
        fetch=f"hf download {weights}",
        licence=licence,
        size="866 M + 84 M",
        source="https://github.com/prs-eth/Marigold",
        options=("num_steps", "ensemble_size", "seed", "processing_resolution"),
        published=published,
        needs=NEEDS,
    )


MARIGOLD = {
    "marigold-v1-0": _card("prs-eth/marigold-depth-v1-0", "Apache-2.0", "Marigold"),
    "marigold-v1-1": _card("prs-eth/marigold-depth-v1-1", "RAIL++-M", ""),
    "marigold-lcm": _card("prs-eth/marigold-depth-lcm-v1-0", "Apache-2.0", "Marigold (LCM)"),
}
