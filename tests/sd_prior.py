"""A tiny Stable Diffusion for the tests of training: diffusers' UNet with four channels, and transformers' CLIP."""

import json

import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import save_file
from transformers import CLIPTextConfig, CLIPTextModel

from depthfm_core.model.hyperparameters import UNetHyperParameters
from depthfm_core.model.names import diffusers_to_ldm

# With the resolutions in the order of LDM's configurations.
HYPER = UNetHyperParameters(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(2, 1), context_dim=8, num_heads=8
)
LDM_PREFIX = "model.diffusion_model."


def build_prior(**changes):
    """The image model whose shape `HYPER` is, with random weights."""
    torch.manual_seed(0)
    config = {
        "block_out_channels": [32, 64],
        "layers_per_block": 1,
        "down_block_types": ["CrossAttnDownBlock2D"] * 2,
        "up_block_types": ["CrossAttnUpBlock2D"] * 2,
        "attention_head_dim": 8,
        "cross_attention_dim": 8,
        "use_linear_projection": True,
    }
    return UNet2DConditionModel(**(config | changes)).eval()


def write_diffusers(unet, folder):
    """A pipeline's folder with `unet/`."""
    unet.save_pretrained(folder / "unet")
    return folder


def ldm_tensors(unet, hyper=HYPER):
    """The tensors of a whole LDM checkpoint, of which the autoencoder and the text encoder are no UNet's."""
    weights = {LDM_PREFIX + k: v.contiguous() for k, v in diffusers_to_ldm(unet.state_dict(), hyper).items()}
    others = ("first_stage_model.encoder.conv_in.weight", "cond_stage_model.model.ln_final.bias", "betas")
    return {name: torch.zeros(3) for name in others} | weights


def write_ldm(unet, folder):
    """One safetensors file with LDM's names."""
    save_file(ldm_tensors(unet), folder / "prior.safetensors")
    return folder / "prior.safetensors"


def write_ckpt(unet, folder):
    """The same as the torch file that Stable Diffusion was published as."""
    torch.save({"state_dict": ldm_tensors(unet), "global_step": 7}, folder / "prior.ckpt")
    return folder / "prior.ckpt"


def write_text_encoder(folder):
    """A CLIP of eight channels with a vocabulary of one letter; pads with "!", as Stable Diffusion 2.1 does."""
    torch.manual_seed(1)
    config = CLIPTextConfig(
        vocab_size=4, hidden_size=8, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2, eos_token_id=3
    )
    CLIPTextModel(config).save_pretrained(folder / "text_encoder")
    tokenizer = folder / "tokenizer"
    tokenizer.mkdir(parents=True)
    words = ("!", "a</w>", "<|startoftext|>", "<|endoftext|>")
    (tokenizer / "vocab.json").write_text(json.dumps({word: i for i, word in enumerate(words)}))
    (tokenizer / "merges.txt").write_text("#version: 0.2\n")
    special = {"pad_token": words[0], "bos_token": words[2], "eos_token": words[3], "unk_token": words[3]}
    settings = special | {"model_max_length": 77, "tokenizer_class": "CLIPTokenizer"}
    (tokenizer / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder
