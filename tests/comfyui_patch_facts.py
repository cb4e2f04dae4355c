"""Facts about what is connected to the loader and patched in behind it; `comfyui_native_facts.py` answers with them."""

import os
from pathlib import Path

from comfyui_process import error_of, log_depth_of, logged, relative


def patch_facts(patcher) -> dict:
    """Core's own node that replaces the sampling, and a patch that only core's samplers call."""
    from a_pack.nodes import patches
    from comfy_extras.nodes_model_advanced import ModelSamplingDiscrete

    (resampled,) = ModelSamplingDiscrete().patch(patcher, "eps", False)
    wrapped = patcher.clone()
    wrapped.set_model_unet_function_wrapper(lambda *_args: None)
    return {
        "resampled": str(error_of(lambda: log_depth_of(resampled))),
        "function_wrapper_said": logged(patches.logger, lambda: log_depth_of(wrapped)),
        "function_wrapper_difference": relative(log_depth_of(wrapped), log_depth_of(patcher)),
        "caches": {name: _cache_facts(patcher, name) for name in ("EasyCacheNode", "LazyCacheNode")},
        "ksampler_said": _ksampler_said(patcher),
    }


def _cache_facts(patcher, name: str) -> list:
    """What one of core's caching nodes makes of the depth, and what the log says to it."""
    from a_pack.nodes import patches
    from comfy_extras import nodes_easycache

    (cached,) = getattr(nodes_easycache, name).execute(patcher, 3.0, 0.0, 1.0, False).args
    said = logged(patches.logger, lambda: log_depth_of(cached))
    return [relative(log_depth_of(cached), log_depth_of(patcher)), said]


def _ksampler_said(patcher) -> dict[str, list[str]]:
    """What core's sampler leaves in our log: at a start where the path begins, in its middle, and with a mask."""
    import comfy.sample
    import torch
    from a_pack.nodes.model_sampling import logger

    latent, text = torch.zeros(1, 4, 8, 8), [[patcher.model.facts.source.null_text, {}]]

    def run(scheduler: str, **options: object) -> list[str]:
        given = patcher, latent, 4, 1.0, "euler", scheduler, text, text, latent
        return logged(logger, lambda: comfy.sample.sample(*given, **options))

    said = {name: run(name) for name in ("simple", "karras", "beta", "ddim_uniform")}
    return said | {
        "denoise 0.5": run("simple", denoise=0.5),
        "mask": run("simple", noise_mask=torch.ones(1, 1, 8, 8)),
    }


def empty_prompt_facts(folder: Path) -> dict:
    """A file without the embedding: alone, with the right one, with one of another encoder, and loaded again."""
    import torch
    from a_pack.nodes import load
    from safetensors import safe_open
    from safetensors.torch import load_file, save_file

    whole, pruned = folder / "whole.safetensors", folder / "pruned.safetensors"
    tensors = load_file(whole)
    text = tensors.pop("empty_text_embedding")
    with safe_open(whole, "pt") as file:
        save_file(tensors, pruned, file.metadata())
    real, load.model_path = load.model_path, lambda name: folder / name

    def loaded(name, prompts):
        return load.LoadDepthFMModel.execute(name, "default", "plain", prompts).result

    model, _, conditioning, _ = loaded(pruned.name, [[text, {}]])
    expected = log_depth_of(loaded(whole.name, None)[0])
    again, arguments = model.cached_patcher_init
    found = {
        "empty_prompt_differences": [
            relative(log_depth_of(model), expected),
            relative(log_depth_of(again(*arguments)), expected),
            relative(log_depth_of(loaded(whole.name, [[2 * text, {}]])[0]), expected),
        ],
        "another_prompt_difference": relative(log_depth_of(loaded(pruned.name, [[2 * text, {}]])[0]), expected),
        "empty_prompt_handed_on": torch.equal(conditioning[0][0], text),
        "no_empty_prompt": str(error_of(lambda: loaded(pruned.name, None))),
        "wrong_empty_prompt": str(error_of(lambda: loaded(pruned.name, [[text[..., :3], {}]]))),
        "two_empty_prompts": str(error_of(lambda: loaded(pruned.name, [[text, {}]] * 2))),
        "fingerprints": _fingerprints(pruned),
    }
    load.model_path = real
    return found


def _fingerprints(path: Path) -> list:
    """Of a file twice, of the node's other choices, and of the file at another time and at another size."""
    from a_pack.nodes.load import LoadDepthFMModel

    def fingerprint(weight_dtype="default", attention="plain", empty_prompt=None):
        return LoadDepthFMModel.fingerprint_inputs(path.name, weight_dtype, attention, empty_prompt)

    found = [fingerprint(), fingerprint(), fingerprint("float16"), fingerprint(attention="rescaled")]
    os.utime(path, (1, 1))
    found.append(fingerprint())
    path.write_bytes(path.read_bytes() + b" ")
    os.utime(path, (1, 1))
    return [*found, fingerprint()]
