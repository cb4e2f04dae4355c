"""Facts about runs under ComfyUI's management, see `test_nodes_runtime.py`; run by `comfyui_process.ask`."""

import asyncio
import inspect
import sys
from pathlib import Path
from types import SimpleNamespace

from comfyui_decode_facts import decode_facts
from comfyui_edges_facts import edges_facts
from comfyui_groups_facts import group_facts, memory_facts
from comfyui_process import answer, error_of, estimate_image, image, relative, settings, toy_model
from comfyui_vae_facts import out_of_memory_facts, vae_facts


def facts(folder: Path) -> dict:
    """Everything that the tests ask about."""
    nodes = asyncio.run(asyncio.run(sys.modules["a_pack"].comfy_entrypoint()).get_node_list())
    model = toy_model(folder)
    return {
        "handed_on": _handed_on(),
        "signatures": {node.__name__: _signature(node) for node in nodes},
        "seed_controls": _seed_controls(),
        "unknown_choices": _unknown_choices(model),
        "unknown_edges_of_decode": str(error_of(_unknown_edges)),
        **memory_facts(model),
        **group_facts(model),
        **_run_facts(model),
        "previews": {method: _previews(model, method) for method in ("Auto", "NoPreviews")},
        **vae_facts(model),
        **out_of_memory_facts(model),
        **decode_facts(model),
        **edges_facts(model),
        **_folder_facts(),
        "growth": _growth(model),
        "difference_beyond_the_range": _difference_beyond_the_range(model),
    }


def _handed_on() -> dict:
    """What the nodes hand to the run, for settings that are none of the defaults."""
    from a_pack.nodes import decode, decoding, runtime, sample

    seen = {}
    depth = runtime.DepthPrediction.from_log_depth(*[image()[:, :1]] * 2)

    def estimate(patcher, frames, chosen, vae, frames_at_once, _progress):
        seen["sharpen_edges"] = chosen.sharpen_edges
        if vae is None:  # a run for the edges alone
            return depth
        seen["sampler"] = [patcher, list(frames.shape), chosen.num_steps, chosen.ensemble_size, vae, frames_at_once]
        return depth

    def decoded(latent, vae, ensemble_size, reduction, pictures, sharpen, _bar):
        shape = None if pictures is None else list(pictures.shape)
        seen.setdefault("decode", []).append([latent, vae, ensemble_size, reduction, shape, sharpen])
        return depth

    real = runtime.estimate, decoding.decode
    runtime.estimate, decoding.decode = estimate, decoded
    try:
        pixels = image().permute(0, 2, 3, 1)
        sample.DepthFMSampler.execute(
            "model", pixels, 3, 7, "heun", "rho", 5, "median", 128, "per frame", 4, vae="the VAE"
        )
        chosen_edges = {}
        for choice in (*sample.EDGES, None):
            given = {} if choice is None else {"edges": choice}
            usual = ("model", pixels, 3, 7, "heun", "rho", 5, "median", 128, "per frame", 4)
            sample.DepthFMSampler.execute(*usual, **given)
            chosen_edges[choice or "left out"] = seen["sharpen_edges"]
        seen["sharpen_edges"] = chosen_edges
        decode.DepthFMDecode.execute({"samples": "latents"}, "the VAE", 5, "median")
        decode.DepthFMDecode.execute({"samples": "latents"}, "the VAE", 5, "median", pixels, "sharpened")
    finally:
        runtime.estimate, decoding.decode = real
    return seen


def _signature(node) -> tuple[list, list]:
    return sorted(i.id for i in node.GET_SCHEMA().inputs), sorted(inspect.signature(node.execute).parameters)


def _seed_controls() -> list:
    """What the seed's widget is told here, and where ComfyUI knows the control's choices."""
    from a_pack.nodes import sample

    def told():
        (seed,) = [i for i in sample.DepthFMSampler.define_schema().inputs if i.id == "seed"]
        return seed.control_after_generate

    here, sample.io.ControlAfterGenerate = told(), SimpleNamespace(fixed="fixed")
    newer = told()
    del sample.io.ControlAfterGenerate
    return [here, newer]


def _unknown_choices(model) -> dict[str, str]:
    """What the Sampler says to an entry that is not on a menu, for each of its menus."""
    from a_pack.nodes.sample import DepthFMSampler, io

    inputs, pixels = DepthFMSampler.define_schema().inputs, image().permute(0, 2, 3, 1)
    usual = {i.id: i.default for i in inputs if getattr(i, "default", None) is not None}

    def told(menu: str) -> str:
        return str(error_of(lambda: DepthFMSampler.execute(model, pixels, **(usual | {menu: "foo"}))))

    return {i.id: told(i.id) for i in inputs if isinstance(i, io.Combo.Input)}


def _unknown_edges():
    """DepthFM Decode with an entry that came by a link and is not on its menu."""
    from a_pack.nodes.decode import DepthFMDecode

    return DepthFMDecode.execute({"samples": "latents"}, "the VAE", 1, "mean", edges="foo")


def _run_facts(model) -> dict:
    """Progress of two frames in groups of one, and a cancel after the second network call."""
    import comfy.model_management as mm
    import comfy.utils

    seen, totals = [], []

    def hook(value, total, preview, node_id=None):
        seen.append(value)
        totals.append(total)
        if cancel_at == value:
            mm.interrupt_current_processing(True)

    cancel_at = None
    comfy.utils.set_progress_bar_global_hook(hook)
    before = estimate_image(model, 2, frames_at_once=1)
    progress = list(seen)
    seen.clear()
    cancel_at = 4
    error = error_of(lambda: estimate_image(model, 2, frames_at_once=1, num_steps=4))
    assert isinstance(error, mm.InterruptProcessingException), error
    calls = [value for value in seen if value]
    comfy.utils.set_progress_bar_global_hook(None)
    after = estimate_image(model, 2, frames_at_once=1)
    return {
        "progress": progress,
        "progress_total": totals[0],
        "calls_before_cancel": len(calls),
        "difference_after_cancel": (before.log_depth - after.log_depth).abs().max().item(),
    }


def _previews(model, method: str) -> list:
    """Of three frames in groups of two: where the bar is, and which frame's depth image each picture is."""
    import comfy.utils
    from a_pack.depthfm_core.depth.controlnet import controlnet_image
    from a_pack.nodes.runtime import LatentPreviewMethod, args
    from torchvision.transforms.functional import pil_to_tensor

    seen, usual, args.preview_method = [], args.preview_method, LatentPreviewMethod[method]
    comfy.utils.set_progress_bar_global_hook(lambda value, _total, preview, **_: seen.append((value, preview)))
    pictures = controlnet_image(estimate_image(model, 3, frames_at_once=2))[:, :1]
    comfy.utils.set_progress_bar_global_hook(None)
    args.preview_method = usual

    def nearest(picture) -> list:
        off = (pil_to_tensor(picture) / 255 - pictures).abs().amax((1, 2, 3))
        return [off.argmin().item(), off.min().item() <= 0.5 / 255 + 1e-6]

    shown = [(value, *preview) for value, preview in seen if preview]
    return [[value, kind, *nearest(picture), size == args.preview_size] for value, kind, picture, size in shown]


def _folder_facts() -> dict:
    import folder_paths
    from a_pack.nodes import model_files

    table = folder_paths.folder_names_and_paths
    table["depthfm"] = (["/theirs"], {".theirs"})
    model_files.register_model_folder()
    model_files.register_model_folder()
    merged = table["depthfm"]
    files = {
        "depthfm": ["a.safetensors"],
        "checkpoints": ["a.safetensors", "DepthFM-v1.ckpt", "sd15.safetensors"],
        "diffusion_models": ["flux.safetensors"],
    }
    folder_paths.get_filename_list = lambda folder: files.get(folder, [])
    return {"merged_folder": [merged[0], sorted(merged[1])], "menu": model_files._origins()}


def _growth(model) -> dict:
    """Tensors and modules alive, and loaded models, after 5 and after 55 runs."""
    import gc

    import comfy.model_management as mm
    import torch

    def alive() -> int:
        gc.collect()
        return sum(issubclass(type(thing), torch.Tensor | torch.nn.Module) for thing in gc.get_objects())

    counts = []
    for runs in (5, 50):
        for seed in range(runs):
            estimate_image(model, num_steps=1, ensemble_size=1, seed=seed)
        counts.append(alive())
    return {"objects": counts[1] - counts[0], "loaded_models": len(mm.current_loaded_models)}


def _difference_beyond_the_range(model) -> float:
    """How far the depth of a picture that was sharpened beyond [0, 1] is from that of the picture cut to it."""
    from a_pack.nodes.runtime import estimate

    sharpened, quick = 1.4 * image() - 0.2, settings(num_steps=1, ensemble_size=1)
    return relative(*(estimate(model, one, quick, None).log_depth for one in (sharpened, sharpened.clamp(0, 1))))


if __name__ == "__main__":
    answer(facts)
