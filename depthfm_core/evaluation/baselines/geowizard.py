"""GeoWizard: depth and normals denoised together, each looking at the other in every self-attention.

Its network is Stable Diffusion's UNet with the picture's CLIP embedding in the place of a text, a class embedding that
says which half of the batch is depth and what kind of scene it is, and that joint attention; diffusers expresses all of
it. Only the depth is decoded.
"""

import importlib

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...flow import combine_members
from ...optional import import_optional
from ...resize import fit, resize_long_side
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

STEPS, MEMBERS, LONG_SIDE_PX = 10, 10, 768
DOMAINS = {"indoor": (1.0, 0.0, 0.0), "outdoor": (0.0, 1.0, 0.0), "object": (0.0, 0.0, 1.0)}
DEFAULT_DOMAIN = "indoor"  # of a picture that nobody knows more of
_DEPTH_AND_NORMALS = ((0.0, 1.0), (1.0, 0.0))
_PARTS = {
    "unet": ("diffusers", "UNet2DConditionModel"),
    "vae": ("diffusers", "AutoencoderKL"),
    "image_encoder": ("transformers", "CLIPVisionModelWithProjection"),
    "feature_extractor": ("transformers", "CLIPImageProcessor"),
    "scheduler": ("diffusers", "DDIMScheduler"),
}


class JointAttention:
    """An attention processor of diffusers: every element of the batch attends to the tokens of all of them."""

    def __call__(self, attn: nn.Module, hidden_states: Tensor, *_unused: object, **_kwargs: object) -> Tensor:
        """[2, N, C] to [2, N, C]."""
        batch, _, channels = hidden_states.shape
        everything = hidden_states.reshape(1, -1, channels)
        query, key, value = (
            project(tokens).unflatten(-1, (attn.heads, -1)).transpose(1, 2)
            for project, tokens in ((attn.to_q, hidden_states), (attn.to_k, everything), (attn.to_v, everything))
        )
        size = (batch, -1, -1, -1)
        mixed = F.scaled_dot_product_attention(query, key.expand(size), value.expand(size))
        return attn.to_out[1](attn.to_out[0](mixed.transpose(1, 2).flatten(2)))


def load_geowizard(request: Request) -> Method:
    """GeoWizard; its members are aligned by scale and shift and averaged.

    Raises:
        ValueError: without the libraries or the weights, or for an unknown domain.
    """
    told = request.options.domain
    if told is not None and told not in DOMAINS:
        raise ValueError(f"Unknown domain {told!r}; choose one of {', '.join(DOMAINS)}.")
    import_optional("transformers", request.name, INSTALL)
    with request.complaining():
        parts = {name: _load_part(request, name) for name in _PARTS}
    _attend_jointly(parts["unet"])

    settings = {
        "num_steps": request.choice("num_steps", STEPS),
        "ensemble_size": request.choice("ensemble_size", MEMBERS),
        "seed": request.choice("seed", DEFAULT_SEED),
    }
    resolution = request.choice("processing_resolution", LONG_SIDE_PX)

    def estimate(image: Tensor, domain: str | None) -> tuple[Tensor, int]:
        resized = resize_long_side(image, resolution)
        fitted, frame = fit(resized, 0, 2 ** (len(parts["vae"].config.block_out_channels) - 1))
        with counted_calls(parts["unet"]) as calls:
            members = _members(parts, fitted.to(request.options.device), told or domain or DEFAULT_DOMAIN, **settings)
        return combine_members(frame.undo(members)[None])[0], sum(calls)

    size = told_size(resolution)
    return request.method(estimate, **settings, processing_resolution=size, dtype=DTYPE, domain=told or DEFAULT_DOMAIN)


def _load_part(request: Request, name: str) -> object:
    library, part_class = _PARTS[name]
    load = getattr(importlib.import_module(library), part_class).from_pretrained
    part = load(request.weights, subfolder=name, local_files_only=True)
    return in_float32(part, request.options.device) if isinstance(part, nn.Module) else part


def _attend_jointly(unet: nn.Module) -> None:
    processors = unet.attn_processors
    unet.set_attn_processor(
        {name: JointAttention() if name.endswith("attn1.processor") else old for name, old in processors.items()}
    )


def _members(parts: dict, image: Tensor, domain: str, num_steps: int, ensemble_size: int, seed: int) -> Tensor:
    """[1, 3, H, W] to [E, 1, H, W] depth maps in [0, 1]."""
    noise = torch.Generator().manual_seed(seed)
    vae = parts["vae"]
    latent = vae.encode(2 * image - 1).latent_dist.mode() * vae.config.scaling_factor
    conditions = {
        "encoder_hidden_states": _embed(parts, image).repeat(2, 1, 1),
        "class_labels": _classes(domain).to(latent),
    }
    members = []
    for _ in range(ensemble_size):
        start = torch.randn(latent.shape, generator=noise).to(latent)
        depth_latent = _denoise(parts, latent, start, num_steps, conditions)
        depth = vae.decode(depth_latent / vae.config.scaling_factor).sample.mean(1, keepdim=True)
        members.append((depth.clamp(-1, 1) + 1) / 2)
    return torch.cat(members)


def _denoise(parts: dict, image_latent: Tensor, noise: Tensor, num_steps: int, conditions: dict) -> Tensor:
    scheduler = parts["scheduler"]
    scheduler.set_timesteps(num_steps, device=noise.device)
    both, image_latent = noise.repeat(2, 1, 1, 1), image_latent.repeat(2, 1, 1, 1)
    for t in scheduler.timesteps:
        predicted = parts["unet"](torch.cat([image_latent, both], dim=1), t, **conditions).sample
        both = scheduler.step(predicted, t, both).prev_sample
    return both[:1]


def _embed(parts: dict, image: Tensor) -> Tensor:
    """[1, 1, C] CLIP's embedding of the picture, squeezed into CLIP's square."""
    extractor = parts["feature_extractor"]
    size = (extractor.crop_size["height"], extractor.crop_size["width"])
    mean, std = (image.new_tensor(values).view(3, 1, 1) for values in (extractor.image_mean, extractor.image_std))
    resized = F.interpolate(image, size, mode="bicubic", align_corners=False, antialias=True)
    return parts["image_encoder"]((resized - mean) / std).image_embeds[:, None]


def _classes(domain: str) -> Tensor:
    """[2, 10]: sines and cosines of what each half of the batch is, then of the scene's domain."""
    what, where = torch.tensor(_DEPTH_AND_NORMALS), torch.tensor([DOMAINS[domain]] * 2)
    return torch.cat([what.sin(), what.cos(), where.sin(), where.cos()], dim=-1)


GEOWIZARD = {
    "geowizard": MethodCard(
        load=load_geowizard,
        gives="depth",
        weights="lemonaddie/Geowizard",
        fetch="hf download lemonaddie/Geowizard",
        licence="CC BY 4.0",
        size="866 M + 84 M + CLIP",
        source="https://github.com/fuxiao0719/GeoWizard",
        options=("num_steps", "ensemble_size", "seed", "processing_resolution", "domain"),
        published="GeoWizard",
        needs=NEEDS,
    )
}
