"""Lotus: one run of a Stable Diffusion UNet that is told its task by a class embedding.

The weights lie in diffusers' layout under a pipeline class that no library has, so the parts are loaded one by one.
The authors draw the picture's latent from the autoencoder's distribution; here it is the distribution's mode.
"""

import torch
from torch import Tensor, nn

from ...optional import import_optional
from ...resize import fit, resize_long_side
from .method import DEFAULT_SEED, DTYPE, INSTALL, NEEDS, Method, MethodCard, Request, in_float32
from .sizes import told_size

TIMESTEP = 999
# "Predict"; the other way round would be "reconstruct the picture".
TASK = (1.0, 0.0)


def load_lotus(request: Request) -> Method:
    """A Lotus, generative (starting from noise) or discriminative by its number of input channels.

    Raises:
        ValueError: without the libraries or the weights.
    """
    transformers = import_optional("transformers", request.name, INSTALL)
    from diffusers import AutoencoderKL, UNet2DConditionModel

    with request.complaining():
        unet = _part(UNet2DConditionModel, request, "unet")
        vae = _part(AutoencoderKL, request, "vae")
        text_encoder = _part(transformers.CLIPTextModel, request, "text_encoder")
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            request.weights, subfolder="tokenizer", local_files_only=True
        )
    tokens = tokenizer("", return_tensors="pt").input_ids.to(request.options.device)
    with torch.no_grad():
        empty_text = text_encoder(tokens)[0]  # [1, 2, C]

    resolution = request.choice("processing_resolution", 0)
    seed = request.choice("seed", DEFAULT_SEED)

    def estimate(image: Tensor) -> tuple[Tensor, int]:
        resized = resize_long_side(image, resolution)
        fitted, frame = fit(resized, 0, 2 ** (len(vae.config.block_out_channels) - 1))
        found = _predict(unet, vae, empty_text, fitted.to(unet.device), seed)
        return frame.undo(found), 1

    drawn = {"seed": seed} if "seed" in request.card.options else {}
    return request.method(estimate, processing_resolution=told_size(resolution), dtype=DTYPE, **drawn)


def _part(part_class: type, request: Request, folder: str) -> nn.Module:
    part = part_class.from_pretrained(request.weights, subfolder=folder, local_files_only=True)
    return in_float32(part, request.options.device)


def _predict(unet: nn.Module, vae: nn.Module, empty_text: Tensor, image: Tensor, seed: int) -> Tensor:
    """[1, 3, H, W] to the map in [0, 1], [1, 1, H, W]."""
    latent = vae.encode(2 * image - 1).latent_dist.mode() * vae.config.scaling_factor
    if unet.config.in_channels == 2 * latent.shape[1]:
        noise = torch.randn(latent.shape, generator=torch.Generator().manual_seed(seed)).to(latent)
        latent = torch.cat([latent, noise], dim=1)
    task = latent.new_tensor([TASK])
    embedding = torch.cat([task.sin(), task.cos()], dim=-1)
    predicted = unet(latent, TIMESTEP, encoder_hidden_states=empty_text, class_labels=embedding).sample
    decoded = vae.decode(predicted / vae.config.scaling_factor).sample
    return (decoded / 2 + 0.5).clamp(0, 1).mean(1, keepdim=True)


def _card(weights: str, gives: str, published: str, options: tuple[str, ...] = ()) -> MethodCard:
    return MethodCard(
        load=load_lotus,
        gives=gives,
        weights=weights,
        fetch=f"hf download {weights}",
        licence="Apache-2.0",
        size="866 M + 84 M",
        source="https://github.com/EnVision-Research/Lotus",
        options=("processing_resolution", *options),
        published=published,
        needs=NEEDS,
    )


LOTUS = {
    "lotus-g": _card("jingheya/lotus-depth-g-v2-1-disparity", "disparity", "Lotus-G", ("seed",)),
    "lotus-d": _card("jingheya/lotus-depth-d-v2-0-disparity", "disparity", "Lotus-D"),
    "lotus-g-v1": _card("jingheya/lotus-depth-g-v1-0", "depth", "", ("seed",)),
    "lotus-d-v1": _card("jingheya/lotus-depth-d-v1-0", "depth", ""),
}
