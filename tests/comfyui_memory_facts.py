"""Facts about estimated and used memory, see `test_nodes_memory.py`; run by `comfyui_process.ask`.

Networks of full width are counted as fake tensors, which nothing is computed with.
"""

from pathlib import Path

from comfyui_process import GOLDEN, answer, settings, toy_model
from live_bytes import LiveBytes

PRECISIONS = {"float32": ("float32", None), "bfloat16": ("bfloat16", None), "cast": ("bfloat16", "float32")}
SMALL, LARGE = (1, 48, 64), (4, 64, 64)
CASES = [("attention_pytorch", precision, size) for precision in PRECISIONS for size in (SMALL, LARGE)]
CASES += [("attention_split", "bfloat16", SMALL), ("attention_sub_quad", "bfloat16", LARGE)]
CASES += [(f"attention_{name}", "float32", SMALL) for name in ("pytorch", "sub_quad", "split")][1:]
CASES += [("attention_pytorch", "cast", (1, 24, 32))]


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    model = toy_model(folder)
    return {
        "networks": _network_ratios(),
        "asked_by_the_model": _asked_by_the_model(model),
        "autoencoders": _autoencoder_ratios(),
        **_foreign_vae_facts(),
        **_override_facts(model),
        "peaks": {size: _peak(model, size) for size in (2, 10)},
    }


def _hypers() -> dict:
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.depthfm_core.model.checkpoints import load_checkpoint
    from a_pack.depthfm_core.model.hyperparameters import UNetHyperParameters

    return {
        "published": UNetHyperParameters(320, (1, 2, 4, 4), 2, (1, 2, 4), 1024),
        "nano": load_checkpoint(NANO_PATH).hyper,
        "deep": UNetHyperParameters(32, (1, 2), 3, (1, 2), 64, transformer_depth=2, use_linear_in_transformer=False),
        "attentive only in the middle": UNetHyperParameters(128, (1, 4), 1, (), 64),
    }


def _network_ratios() -> dict:
    """Estimated by used bytes."""
    import torch

    ratios = {}
    for name, hyper in _hypers().items():
        for attention, precision, size in CASES if name == "published" else CASES[-3:]:
            stored, cast = (dtype and getattr(torch, dtype) for dtype in PRECISIONS[precision])
            ratios[f"{name} {attention} {precision} {size}"] = _ratio(hyper, attention, stored, cast, size)
    return ratios


def _ratio(hyper, attention: str, stored, cast, size: tuple[int, int, int]) -> float:
    import comfy.ldm.modules.attention as attentions
    import torch
    from a_pack.nodes.attention import attention_in_use
    from a_pack.nodes.memory import network_bytes
    from comfy.cli_args import args

    chosen, switch = attentions.optimized_attention, args.use_quad_cross_attention
    attentions.optimized_attention = getattr(attentions, attention)
    args.use_quad_cross_attention = True  # as if sub_quad had been asked for
    used = _used(hyper, stored, cast, size)
    computed = cast or stored
    shape = (size[0], 4, *size[1:])
    estimated = network_bytes(hyper, shape, torch.finfo(computed).bits // 8, cast is not None, attention_in_use())
    attentions.optimized_attention, args.use_quad_cross_attention = chosen, switch
    return estimated / used


def _used(hyper, stored, cast, size: tuple[int, int, int]) -> int:
    import comfy.ops
    import torch
    from a_pack.nodes.native import _unet_config
    from comfy.ldm.modules.diffusionmodules.openaimodel import UNetModel
    from torch._subclasses.fake_tensor import FakeTensorMode

    operations = comfy.ops.disable_weight_init if cast is None else comfy.ops.manual_cast
    config = _unet_config(hyper) | {"operations": operations, "attn_precision": torch.float32}
    with FakeTensorMode():
        network = UNetModel(**config, dtype=stored, device="cpu")
        sample = torch.empty(size[0], 8, *size[1:], dtype=cast or stored)
        text = torch.empty(size[0], 77, hyper.context_dim, dtype=cast or stored)
        with LiveBytes() as live:
            network(sample, torch.zeros(size[0]), text, transformer_options={})
    return live.peak


def _asked_by_the_model(model) -> float:
    """What the loaded model asks for, by what one call of its velocity uses, with real tensors."""
    import torch
    from a_pack.nodes.runtime import ManagedNetwork

    network, x_t = ManagedNetwork(model, lambda _members: None), torch.zeros(3, 4, 24, 32)
    network(x_t, torch.zeros(3), x_t)  # loads it
    with LiveBytes() as live:
        network(x_t, torch.zeros(3), x_t)
    return model.model.memory_required(x_t.shape) / live.peak


def _vaes() -> dict:
    """Nano's, one whose blocks all work, and a narrow KL autoencoder, as model files bring them."""
    import json

    import torch
    from a_pack.depthfm_core.model.catalog import NANO_PATH
    from a_pack.depthfm_core.model.checkpoints import load_checkpoint
    from a_pack.nodes.vae import build_vae
    from safetensors.torch import load_file

    nano = load_checkpoint(NANO_PATH)
    config = nano.codec_config
    kl_config = json.loads((GOLDEN / "micro-vae-diffusers.json").read_text(encoding="utf-8"))
    return {
        "nano": build_vae(nano.codec_tensors, config),
        "tiny": build_vae({name: t + 0.01 * torch.ones_like(t) for name, t in nano.codec_tensors.items()}, config),
        "kl": build_vae(load_file(GOLDEN / "micro-vae-diffusers.safetensors"), kl_config),
    }


def _autoencoder_ratios() -> dict:
    import torch

    ratios = {}
    for name, vae in _vaes().items():
        for pixels in ((64, 64), (96, 128)):
            image, latent = torch.rand(1, *pixels, 3), torch.zeros(1, 4, pixels[0] // 8, pixels[1] // 8)
            for action, given, shape in ((vae.encode, image, (1, 3, *pixels)), (vae.decode, latent, latent.shape)):
                estimate = getattr(vae, f"memory_used_{action.__name__}")(shape, torch.float32)
                action(given)  # loads it
                with LiveBytes() as live:
                    action(given)
                ratios[f"{name} {action.__name__} {pixels}"] = estimate / live.peak
    return ratios


def _foreign_vae_facts() -> dict:
    """Somebody else's VAE asks for what it likes; how many members go at once does not follow that."""
    import torch
    from a_pack.nodes.vae import VaeCodec

    own = _vaes()["kl"]
    counted = VaeCodec(own).decode_bytes(64, 64)
    own.memory_used_decode = lambda _shape, _dtype: 123
    codec = VaeCodec(own)
    return {
        "asked_by_a_foreign_vae": codec.vae.memory_used_decode((1, 4, 8, 8), torch.float32),
        "decoder_of_a_foreign_vae": codec.decode_bytes(64, 64) / counted,
    }


def _override_facts(model) -> dict:
    """Which attention a model gets on a CPU, without and with the user's own choice."""
    from a_pack.nodes.attention import attention_in_use, set_attention
    from comfy.cli_args import args

    def override() -> str | None:
        clone = model.clone()
        clone.model_options["transformer_options"].pop("optimized_attention_override", None)
        set_attention(clone, rescaled=False)
        found = clone.model_options["transformer_options"].get("optimized_attention_override")
        return found and found.__name__

    default, fused = override(), attention_in_use().fused
    args.use_quad_cross_attention = True
    asked, unfused = override(), not attention_in_use().fused
    args.use_quad_cross_attention = False
    return {"override": [default, asked], "fused": fused, "unfused_when_asked": unfused}


def _peak(model, ensemble_size: int) -> int:
    import torch
    from a_pack.nodes.runtime import estimate

    image = torch.rand(1, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with LiveBytes() as live:
        estimate(model, image, settings(num_steps=1, processing_resolution=128, ensemble_size=ensemble_size), None)
    return live.peak


if __name__ == "__main__":
    answer(facts)
