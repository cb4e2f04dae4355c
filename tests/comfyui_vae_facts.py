"""Facts about ComfyUI's VAE as the autoencoder of a DepthFM; `comfyui_runtime_facts.py` answers with them."""

import json
from pathlib import Path
from types import SimpleNamespace

from comfyui_process import GOLDEN, error_of, image, relative, settings


def vae_facts(model) -> dict:
    """What comes of the VAE on the socket, and of the model's own."""
    import comfy.sd
    import torch
    from a_pack.nodes.runtime import estimate
    from a_pack.nodes.vae import VaeCodec, build_vae
    from safetensors.torch import load_file

    tensors = load_file(GOLDEN / "micro-vae-diffusers.safetensors")
    config = json.loads((GOLDEN / "micro-vae-diffusers.json").read_text(encoding="utf-8"))
    vae, other = build_vae(tensors, config), build_vae({k: 1.1 * v for k, v in tensors.items()}, config)
    attributes = dict(vars(vae))
    own, on_socket, another = (estimate(model, image(), settings(), choice).log_depth for choice in (None, vae, other))
    latent = 20 * torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    codec = VaeCodec(vae)
    raw = vae.first_stage_model.decode(latent / codec.scaling_factor)
    half = comfy.sd.VAE(sd={k: v.bfloat16() for k, v in tensors.items()}, config=_config_of(vae), dtype=torch.bfloat16)
    rounded = build_vae({k: v.bfloat16().float() for k, v in tensors.items()}, config)
    before, in_float32, after = half.decode(latent), VaeCodec(half, 1.0).decode_log_depth(latent), half.decode(latent)
    return {
        "log_depth_range": (own.max() - own.min()).item(),
        "vae_difference": (own - on_socket).abs().max().item(),
        "another_vae": relative(another, own),
        **_own_latents_facts(vae, build_vae(tensors, config), other),
        "pixels_changed_in_place": _pixels_changed_in_place(latent, vae),
        "vae_attributes_changed": [k for k, v in vars(vae).items() if attributes.get(k) is not v],
        "raw_decode_maximum": raw.abs().max().item(),
        "raw_decode": relative(codec.decode_log_depth(latent), raw.mean(1, keepdim=True)),
        "half_vae_in_float32": relative(in_float32, VaeCodec(rounded, 1.0).decode_log_depth(latent)),
        "half_vae_rounds": relative(before, rounded.decode(latent)),
        "half_vae_changed": (after - before).abs().max().item(),
        "wrong_vaes": [str(error_of(lambda kind=kind: VaeCodec(_vae_of(*kind)))) for kind in ((16, 3, 8), (4, 2, 4))],
        "no_vae": str(error_of(lambda: VaeCodec(comfy.sd.VAE(sd={})))),
    }


def _vae_of(latent_channels: int, latent_dim: int, downscale_ratio: int) -> SimpleNamespace:
    """A VAE of another kind, as far as it is looked at."""
    facts = {"latent_channels": latent_channels, "latent_dim": latent_dim, "downscale_ratio": downscale_ratio}
    return SimpleNamespace(throw_exception_if_invalid=lambda: None, **facts)


def _own_latents_facts(vae, again, other) -> dict:
    """A model with latents of another scale than Stable Diffusion's: with its own VAE, the same once more, another."""
    from a_pack.nodes.native import Facts
    from a_pack.nodes.runtime import _codec

    facts = Facts(SimpleNamespace(path=Path("own.safetensors")), vae, 0.9)
    return {
        "takes_the_socket": _codec(facts, again).vae.patcher is again.patcher,
        "own_scaling": [_codec(facts, choice).scaling_factor for choice in (None, vae, again)],
        "foreign_latents": str(error_of(lambda: _codec(facts, other))),
    }


def out_of_memory_facts(model) -> dict:
    """An autoencoder without room for a picture: what the Sampler and DepthFM Decode say, and how often they try."""
    import comfy.model_management as mm
    import torch
    from a_pack.nodes.decoding import decode
    from a_pack.nodes.runtime import estimate

    vae = model.model.facts.vae
    network, tried = vae.first_stage_model, []
    whole = network.encode, network.decode

    def full(error):
        def run(given, *_args, **_options):
            tried.append(list(given.shape))
            raise error

        return run

    def facts_of(error) -> list:
        network.encode = network.decode = full(error)
        found = []
        for run in (
            lambda: estimate(model, image(), settings(ensemble_size=4), vae),
            lambda: decode(torch.zeros(1, 4, 8, 9), vae, 1, "mean"),
        ):
            tried.clear()
            told = error_of(run)
            found.append([str(told), isinstance(told, mm.OOM_EXCEPTION), len(tried)])
        network.encode, network.decode = whole
        return found

    gpu, mac = mm.OOM_EXCEPTION("out of memory"), RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)")
    return {"no_room_for_the_autoencoder": facts_of(gpu) + facts_of(mac)}


def _pixels_changed_in_place(latent, vae) -> float:
    """How far a decode is off where ComfyUI takes nothing that `process_output` returns, as in 2026."""
    import comfy.sd
    from a_pack.nodes.vae import VaeCodec

    expected, real = VaeCodec(vae).decode_log_depth(latent), comfy.sd.VAE.decode

    def decode(self, samples):
        pixels = self.first_stage_model.decode(samples.to(self.vae_dtype))
        self.process_output(pixels)
        return pixels.movedim(1, -1)

    comfy.sd.VAE.decode = decode
    try:
        return relative(VaeCodec(vae).decode_log_depth(latent), expected)
    finally:
        comfy.sd.VAE.decode = real


def _config_of(vae) -> dict:
    """The configuration that the toy autoencoder was made with."""
    ddconfig = {"double_z": True, "z_channels": 4, "resolution": 256, "in_channels": 3, "out_ch": 3, "ch": 32}
    ddconfig |= {"ch_mult": [1, 1, 1, 1], "num_res_blocks": 1, "attn_resolutions": [], "dropout": 0.0}
    return {"params": {"ddconfig": ddconfig, "embed_dim": vae.latent_channels}}
