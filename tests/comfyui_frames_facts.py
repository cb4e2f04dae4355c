"""Facts about nodes that go frame by frame, see `test_nodes_frames.py`; run by `comfyui_process.ask`."""

from collections.abc import Callable
from pathlib import Path

from comfyui_process import answer, error_of, settings, toy_model
from live_bytes import LiveBytes

FRAMES, HEIGHT, WIDTH = 5, 60, 77
PLANE = HEIGHT * WIDTH * 4  # bytes
COLORIZE = {"colormap": "turbo", "invert": False, "low_percentile": 5.0, "high_percentile": 90.0}
COLORIZE |= {"nearest": -0.5, "farthest": 1.5}
NORMAL = {"fov_deg": 40.0, "focal_px": 0.0, "strength": 1.5, "smoothing": 1.0, "convention": "directx"}
SAMPLER = {"seed": 0, "num_steps": 1, "solver": "euler", "grid": "uniform", "ensemble_size": 1, "reduction": "mean"}
SAMPLER |= {"processing_resolution": 0, "noise": "shared", "frames_at_once": 1}
GRAY = {"low_percentile": 5.0, "high_percentile": 90.0, "multiple": 8, "sizing": "pad"}


def facts(scratch: Path) -> dict:
    """Everything that the tests ask about."""
    return {
        "differences": _differences(),
        "constant": _constant(),
        "cancelled": {name: _cancelled(run) for name, run in _nodes(scratch, FRAMES).items()},
        "files_at_cancel": len(list((scratch / "saved").iterdir())),
        "bar": _bar(scratch),
        "bar_of_whole_nodes": _bar_of_whole_nodes(scratch),
        "core_puts_its_own_on_meta": _where_core_puts_its_own(),
        "planes_beside_the_result": _planes(scratch),
        "planes_of_estimate": [_planes_of_estimate(scratch, ensemble_size) for ensemble_size in (1, 2)],
        "masks": _masks(),
        "planes_of_outputs": [_planes_of_outputs(scratch, ensemble_size) for ensemble_size in (1, 2)],
    }


def _prediction(frames: int = FRAMES):
    """Depth whose frames differ in range, and come nearer and nearer."""
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction

    log_depth = torch.rand(frames, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0))
    scale = torch.linspace(0.2, 1, frames).view(-1, 1, 1, 1)
    return DepthPrediction.from_log_depth(log_depth * scale - scale, torch.zeros_like(log_depth))


def _mask():
    """One for all frames, at another size than the depth; without the right half."""
    import torch

    mask = torch.ones(1, HEIGHT // 2, 80)
    mask[..., 40:] = 0
    return mask


def _nodes(scratch: Path, frames: int) -> dict[str, Callable]:
    """Each node on one depth, as a call; Save Depth writes into `scratch`."""
    import comfy.utils
    import folder_paths
    import torch
    from a_pack.nodes import controlnet, from_image, geometry, sample, save, views

    folder_paths.set_output_directory(str(scratch))
    folder_paths.set_temp_directory(str(scratch))
    depth, image = _prediction(frames), torch.rand(frames, HEIGHT, WIDTH, 3)
    saving = save.SaveDepth.PREPARE_CLASS_CLONE({})
    return {
        "colors": lambda: views.ColorizeDepth.execute(depth, normalization="per image", **COLORIZE),
        "colors of a batch": lambda: views.ColorizeDepth.execute(depth, normalization="batch", **COLORIZE),
        "colors of a batch's percentiles": lambda: views.ColorizeDepth.execute(
            depth, normalization="batch percentile", **COLORIZE
        ),
        "normals": lambda: views.NormalFromDepth.execute(depth, **NORMAL),
        "grays": lambda: controlnet.DepthToControlNetImage.execute(depth, normalization="per image", **GRAY),
        "masked colors": lambda: views.ColorizeDepth.execute(
            depth, normalization="per image", **COLORIZE, mask=_mask()
        ),
        "masked grays of a batch": lambda: controlnet.DepthToControlNetImage.execute(
            depth, normalization="batch", **GRAY, mask=_mask()
        ),
        "grays of a batch": lambda: controlnet.DepthToControlNetImage.execute(depth, normalization="batch", **GRAY),
        "geometry": lambda: geometry.DepthToGeometry.execute(depth, image, 40.0, 0.0),
        "files": lambda: saving.execute(depth, "saved/x", "png16", "disparity"),
        "files of a batch": lambda: saving.execute(depth, "batch/x", "png16", "depth", "batch"),
        "depth image": lambda: sample.depth_outputs(depth, comfy.utils.ProgressBar(frames)),
        "depth of pictures": lambda: from_image.DepthFromImage.execute(image, "depth", -0.5, 1.5),
    }


def _differences() -> dict:
    """Of the nodes' pictures from what the core makes of the whole batch at once."""
    from a_pack.depthfm_core.depth.color import colorize
    from a_pack.depthfm_core.depth.controlnet import GRAY_RANGES, controlnet_image
    from a_pack.depthfm_core.depth.normalize import NORMALIZATIONS, DisplayLimits, normalize_depth
    from a_pack.depthfm_core.depth.normals import normals_to_image
    from a_pack.depthfm_core.depth.predicted_normals import predicted_normals
    from a_pack.nodes import controlnet, sample, views
    from comfy.utils import ProgressBar

    depth, limits = _prediction(), DisplayLimits(5.0, 90.0, -0.5, 1.5)
    core = NORMAL | {"focal_px": None}
    found = {
        "normals": (
            views.NormalFromDepth.execute(depth, **NORMAL).args[0],
            normals_to_image(predicted_normals(depth, **core)),
        ),
        "depth image": (sample.depth_outputs(depth, ProgressBar(FRAMES))[0], controlnet_image(depth)),
    }
    for kind in NORMALIZATIONS:
        colors = views.ColorizeDepth.execute(depth, normalization=kind, **COLORIZE).args[0]
        found[f"colors {kind}"] = colors, colorize(normalize_depth(depth, kind, limits), "turbo")
    for kind in GRAY_RANGES:
        grays = controlnet.DepthToControlNetImage.execute(depth, normalization=kind, **GRAY).args[0]
        shown = controlnet_image(depth, kind, DisplayLimits(5.0, 90.0), multiple=8)
        found[f"grays {kind}"] = grays, shown
    return {name: (one - other.permute(0, 2, 3, 1)).abs().max().item() for name, (one, other) in found.items()}


def _constant() -> list:
    """The gray that a batch without any range is painted with, by Colorize and by the ControlNet image."""
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction
    from a_pack.nodes import controlnet, views

    depth = DepthPrediction.from_log_depth(*[torch.full((2, 1, 8, 8), 0.3)] * 2)
    colors = views.ColorizeDepth.execute(depth, normalization="batch", **(COLORIZE | {"colormap": "gray"}))
    grays = controlnet.DepthToControlNetImage.execute(depth, normalization="batch", **GRAY)
    return [picture.args[0].unique().tolist() for picture in (colors, grays)]


def _cancelled(run: Callable) -> list:
    """What a run ends with whose user cancels after the second frame, and how far its bar came."""
    import comfy.model_management as mm
    import comfy.utils

    seen = []

    def hook(value, _total, _preview, node_id=None):  # noqa: ARG001
        seen.append(value)
        if value == 2:
            mm.interrupt_current_processing(True)

    comfy.utils.set_progress_bar_global_hook(hook)
    error = error_of(run)
    comfy.utils.set_progress_bar_global_hook(None)
    return [type(error).__name__, seen]


def _bar(scratch: Path) -> dict:
    """Where each node's bar was, and its end."""
    import comfy.utils

    bars = {}
    for name, run in _nodes(scratch, FRAMES).items():
        seen = bars[name] = []
        comfy.utils.set_progress_bar_global_hook(lambda value, total, *_, seen=seen, **__: seen.append([value, total]))
        run()
    comfy.utils.set_progress_bar_global_hook(None)
    return bars


def _bar_of_whole_nodes(scratch: Path) -> dict:
    """How far the bar of each node that makes depth is, over the whole of its `execute`."""
    import comfy.utils
    import torch
    from a_pack.nodes.decode import DepthFMDecode
    from a_pack.nodes.sample import DepthFMSampler

    model, image, bars = toy_model(scratch), torch.rand(3, 64, 64, 3), {}
    vae, latents = model.model.facts.vae, {"samples": torch.randn(4, 4, 8, 8)}
    runs = {
        "sampler": lambda: DepthFMSampler.execute(model, image, **SAMPLER),
        "adaptive sampler": lambda: DepthFMSampler.execute(model, image, **(SAMPLER | {"solver": "dopri5"})),
        "decode": lambda: DepthFMDecode.execute(latents, vae, 2, "mean"),
    }
    for name, run in runs.items():
        seen = bars[name] = []
        comfy.utils.set_progress_bar_global_hook(lambda done, total, *_, seen=seen, **__: seen.append(done / total))
        run()
    comfy.utils.set_progress_bar_global_hook(None)
    return bars


def _where_core_puts_its_own() -> list[str]:
    """Where the Sampler's outputs lie with --gpu-only; "meta" stands for the GPU."""
    import comfy.model_management as mm
    import torch
    from a_pack.nodes.sample import depth_outputs
    from comfy.utils import ProgressBar

    real, mm.intermediate_device = mm.intermediate_device, lambda: torch.device("meta")
    image, depth, mask = depth_outputs(_prediction(2), ProgressBar(2))
    mm.intermediate_device = real
    return [str(tensor.device) for tensor in (image, mask, depth.log_depth)]


def _planes(scratch: Path) -> dict:
    """The most that is alive beside the result, in planes of a frame, for few frames and for many."""
    planes = {}
    for frames in (4, 24):
        for name, run in _nodes(scratch, frames).items():
            with LiveBytes() as live:
                result = run()
            planes.setdefault(name, []).append((live.peak - live.now) / PLANE)
            del result
    return planes


def _planes_of_outputs(scratch: Path, ensemble_size: int) -> float:
    """How many planes more the Sampler's three outputs hold for each frame more."""
    import torch
    from a_pack.nodes.sample import DepthFMSampler

    chosen = SAMPLER | {"ensemble_size": ensemble_size}
    model, held = toy_model(scratch), []
    for frames in (2, 2, 12):  # the first loads the model
        image = torch.rand(frames, HEIGHT, WIDTH, 3)
        with LiveBytes() as live:
            outputs = DepthFMSampler.execute(model, image, **chosen).args
        held.append(live.now)
        del outputs
    return (held[2] - held[1]) / PLANE / 10


def _masks() -> dict:
    """Of two frames without an ensemble and of one: the mask, and whether depth stays when it is written into."""
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction
    from a_pack.nodes.frames import prediction_of
    from a_pack.nodes.sample import depth_outputs
    from comfy.utils import ProgressBar

    whole = DepthPrediction.from_log_depth(*[torch.rand(2, 1, 5, 7)] * 2)
    single = prediction_of({"log_depth": whole.log_depth})
    alone, ensemble = (depth_outputs(depth, ProgressBar(2))[2] for depth in (single, whole))
    found = {
        "alone": [list(alone.shape), alone.any().item()],
        "ensemble": torch.equal(ensemble, whole.uncertainty[:, 0]),
    }
    ensemble.fill_(9)
    return found | {"own memory": (whole.uncertainty < 1).all().item()}


def _planes_of_estimate(scratch: Path, ensemble_size: int) -> float:
    """How many planes more are alive at most for each frame more."""
    import torch
    from a_pack.nodes.runtime import estimate

    model, peaks = toy_model(scratch), []
    for frames in (2, 2, 12):  # the first loads the model
        image = torch.rand(frames, HEIGHT, WIDTH, 3).permute(0, 3, 1, 2)
        with LiveBytes() as live:
            estimate(model, image, settings(num_steps=1, ensemble_size=ensemble_size), None, frames_at_once=1)
        peaks.append(live.peak)
    return (peaks[2] - peaks[1]) / PLANE / 10


if __name__ == "__main__":
    answer(facts)
