"""Facts about DepthFM as a model of ComfyUI, see `test_nodes_native.py`; run by `comfyui_process.ask`."""

from pathlib import Path

from comfyui_loader_facts import loaded_again_facts, loader_facts
from comfyui_patch_facts import empty_prompt_facts, patch_facts
from comfyui_picture_facts import picture_facts, sampled_latent
from comfyui_process import GOLDEN, answer, error_of, image, log_depth_of, relative, settings, toy_model
from comfyui_save_facts import save_facts

TIMES = (0.0, 0.25, 0.5, 0.9)
HEADS = ("heads8", "headdim16")


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    model = toy_model(folder)
    return {
        "golden": {f"{heads} {kind}": _golden(heads, kind) for heads in HEADS for kind in ("plain", "rescaled")},
        "pipeline": _pipeline_golden(model),
        **_ksampler_facts(model),
        **picture_facts(model),
        **_own_latents_facts(folder),
        **_diff2flow_facts(folder),
        **_lora_facts(model),
        **_compile_facts(model),
        **_lowvram_facts(model),
        **_float32_facts(folder),
        **loader_facts(folder),
        **loaded_again_facts(model),
        **patch_facts(model),
        **empty_prompt_facts(folder),
        **save_facts(folder),
    }


def _network(patcher):
    from a_pack.nodes.runtime import ManagedNetwork

    return ManagedNetwork(patcher, lambda _members: None)


def _golden(heads: str, kind: str) -> float:
    """The worst relative error of velocities, of our Euler, and of core's KSampler."""
    import comfy.sample
    from a_pack.depthfm_core.flow import integrate, noise_source
    from a_pack.nodes.native import load_model
    from safetensors.torch import load_file

    golden = load_file(GOLDEN / f"depthfm-micro-{heads}.safetensors")
    patcher = load_model(GOLDEN / f"depthfm-micro-{heads}.ckpt", "default", kind)
    network, z = _network(patcher), golden["z_image"]
    errors = [relative(network(z, z.new_full((2,), t), z), golden[f"velocity_{kind}_t{t}"]) for t in TIMES]
    x_0 = noise_source(z, 400, golden["noise"])
    x_1, _ = integrate(lambda x_t, t: network(x_t, x_t.new_full((2,), t), z), x_0, 2)
    text = [[patcher.model.facts.source.null_text, {}]]
    sampled = comfy.sample.sample(patcher, golden["noise"], 2, 1.0, "euler", "simple", text, text, z / 0.18215)
    expected = golden[f"euler_{kind}_noised_steps2"]
    return max(*errors, relative(x_1, expected), relative(sampled * 0.18215, expected))


def _pipeline_golden(patcher) -> float:
    """The worst relative error of image to depth, through the runner of the Sampler."""
    from a_pack.nodes import runtime
    from safetensors.torch import load_file

    golden = load_file(GOLDEN / "depthfm-micro-pipeline.safetensors")
    golden |= load_file(GOLDEN / "depthfm-micro-pipeline-noise.safetensors")
    photo = golden["image_uint8"].permute(2, 0, 1)[None].float() / 255
    pipeline, errors = runtime._pipeline(patcher, None, lambda _members: None), []
    for num_steps, members in ((1, 1), (2, 1), (4, 1), (2, 3)):
        chosen = settings(num_steps=num_steps, processing_resolution=0, align_members=False)
        depth = pipeline(photo, chosen, noise=golden[f"noise_ensemble{members}"]).depth
        errors.append(relative(depth, golden[f"depth_steps{num_steps}_ensemble{members}"]))
    return max(errors)


def _sampled(patcher, seed: int, sampler: str = "euler", steps: int = 2):
    """KSampler's and DepthFM Decode's way to the depth of the picture, whose sides need no padding."""
    from a_pack.nodes.decoding import decode

    sampled = sampled_latent(patcher, image()[..., :64], seed, sampler, steps)
    return decode(sampled, patcher.model.facts.vae, 1, "mean").log_depth


def _ours(patcher, seed: int, **changed):
    from a_pack.nodes.runtime import estimate

    chosen = settings(ensemble_size=1, seed=seed, **changed)
    return estimate(patcher, image()[..., :64], chosen, None).log_depth


def _ksampler_facts(patcher) -> dict:
    import torch
    from a_pack.nodes.model_sampling import DepthFMSampling

    sampling, half = DepthFMSampling(400, "depthfm"), torch.tensor([0.5])
    exact = _ours(patcher, 5, num_steps=64)
    heun, euler = (relative(_sampled(patcher, 5, name, 4), exact) for name in ("heun", "euler"))
    return {
        "ksampler_against_ours": relative(_sampled(patcher, 5), _ours(patcher, 5)),
        "another_seed": relative(_sampled(patcher, 6), _ours(patcher, 5)),
        "heun_is_nearer_than_euler": heun < euler,
        "time_and_back": sampling.sigma(sampling.timestep(half)).item(),
        "ends": [sampling.sigma_min.item(), sampling.sigma_max.item(), sampling.percent_to_sigma(0.25)],
    }


def _own_latents_facts(folder: Path) -> dict:
    """A model whose latents have another scale than Stable Diffusion's, through KSampler and through the Sampler."""
    from dataclasses import replace

    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
    from a_pack.nodes.native import load_model

    toy = load_checkpoint(folder / "whole.safetensors")
    config = toy.codec_config | {"scaling_factor": 0.9}
    save_checkpoint(replace(toy, codec_config=config), folder / "own.safetensors", "float32")
    patcher = load_model(folder / "own.safetensors", "default", "plain")
    return {"own_latents_ksampler_against_ours": relative(_sampled(patcher, 5), _ours(patcher, 5))}


def _diff2flow_facts(folder: Path) -> dict:
    """A model that is asked as a diffusion model: through the Sampler, KSampler, and without ComfyUI."""
    from dataclasses import replace

    from a_pack.depthfm_core.loading import load_pipeline
    from a_pack.depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
    from a_pack.nodes.native import load_model

    path, raw = folder / "diff2flow.safetensors", load_checkpoint(folder / "whole.safetensors")
    save_checkpoint(replace(raw, parameterization="diff2flow"), path, "float32")
    patcher = load_model(path, "default", "plain")
    sampler = _ours(patcher, 5)
    plain = load_pipeline(path)(image()[..., :64], settings(ensemble_size=1, seed=5)).log_depth
    return {
        "diff2flow_against_plain_python": relative(sampler, plain),
        "diff2flow_ksampler_against_ours": relative(_sampled(patcher, 5), sampler),
        "diff2flow_against_depthfm": relative(sampler, _ours(load_model(raw.path, "default", "plain"), 5)),
    }


def _lora_facts(patcher) -> dict:
    """A LoRA for one layer, in the names that trainers write, through core's own loader."""
    import comfy.sd
    import torch

    name, layer = "lora_unet_mid_block_attentions_0_proj_in", patcher.model.diffusion_model.middle_block[1].proj_in
    generator = torch.Generator().manual_seed(0)
    lora = {
        f"{name}.lora_up.weight": torch.randn(layer.weight.shape[0], 2, generator=generator),
        f"{name}.lora_down.weight": torch.randn(2, layer.weight.shape[1], generator=generator),
    }
    before = log_depth_of(patcher)
    patched, _ = comfy.sd.load_lora_for_models(patcher, None, lora, 1.0, 0)
    changed, again = log_depth_of(patched), log_depth_of(patcher)
    return {"lora_changes": relative(changed, before), "without_lora_again": relative(again, before)}


def _compile_facts(patcher) -> dict:
    """What core's torch.compile node does, with a compiler that only counts."""
    from comfy_api.torch_helpers import set_torch_compile_wrapper

    graphs, compiled = [], patcher.clone()

    def counting(graph, _inputs):
        graphs.append(graph)
        return graph.forward

    set_torch_compile_wrapper(compiled, backend=counting)
    difference = relative(log_depth_of(compiled), log_depth_of(patcher))
    return {"compiled_graphs": len(graphs), "compiled_difference": difference}


def _lowvram_facts(patcher) -> dict:
    """Most layers stay where they are and are cast when they are called, as with too little memory on a GPU."""
    import comfy.model_management as mm

    whole, load = log_depth_of(patcher), mm.load_models_gpu

    def load_a_part(models, memory_required=0, **_options):
        for one in models:
            one.unpatch_model()
            one.patch_model(one.load_device, lowvram_model_memory=one.model_size() // 4)

    mm.unload_all_models()
    mm.load_models_gpu = load_a_part
    part, is_part = log_depth_of(patcher), patcher.model.model_lowvram
    mm.load_models_gpu = load
    patcher.unpatch_model()
    return {"lowvram": is_part, "lowvram_difference": relative(part, whole)}


def _float32_facts(folder: Path) -> dict:
    """A half-precision network that overflows once: in float32 it goes on, and the weights stay as they were."""
    import torch

    half = toy_model(folder, "bfloat16")
    half.model.manual_cast_dtype = torch.bfloat16  # as on a GPU that computes in it; on a CPU ComfyUI casts to float32
    seen, forward = [], half.model.diffusion_model.forward

    def overflowing(sample, *args, **kwargs):
        seen.append(str(sample.dtype))
        result = forward(sample, *args, **kwargs)
        return result if sample.dtype == torch.float32 else result * float("inf")

    half.model.diffusion_model.forward = overflowing
    log_depth = log_depth_of(half, ensemble_size=1)
    dtypes = list(seen)
    adaptive = log_depth_of(half, ensemble_size=1, solver="dopri5", rtol=0.1, atol=0.1)
    half.model.diffusion_model.forward = lambda *args, **kwargs: forward(*args, **kwargs) * float("nan")
    hopeless = error_of(lambda: log_depth_of(half, ensemble_size=1))
    half.unpatch_model()
    whole, calls = toy_model(folder), []
    exact = whole.model.diffusion_model.forward
    whole.model.diffusion_model.forward = lambda *args, **kw: calls.append(1) or exact(*args, **kw) * float("nan")
    error_of(lambda: log_depth_of(whole, ensemble_size=1, num_steps=3))
    return {
        "dtypes_after_overflow": dtypes,
        "finite_after_overflow": bool(log_depth.isfinite().all() and adaptive.isfinite().all()),
        "half_precision_calls_of_dopri5": seen[len(dtypes) :].count("torch.bfloat16"),
        "stored_dtype_after_overflow": str(half.model.get_dtype()),
        "cast_dtype_after_overflow": str(half.model.manual_cast_dtype),
        "hopeless": str(hopeless),
        "hopeless_calls_in_float32": len(calls),
    }


if __name__ == "__main__":
    answer(facts)
