"""The nodes in the real ComfyUI, over HTTP, as the front end uses them."""

import numpy as np
import pytest

from depthfm_core.depth.controlnet import controlnet_image
from depthfm_core.flow import GRIDS, REDUCTIONS, SOLVERS
from depthfm_core.settings import EstimationSettings

from .comfyui_graphs import (
    SIZE,
    assert_same_picture,
    choices_of,
    error_of,
    expected_depth,
    refusal_of,
    sampler_graph,
    saved_pictures,
)
from .comfyui_server import PACK_NAME

pytestmark = pytest.mark.comfy

NODES = (
    "DepthFM_LoadModel",
    "DepthFM_Sampler",
    "DepthFM_Decode",
    "DepthFM_FromImage",
    "DepthFM_Colorize",
    "DepthFM_Normal",
    "DepthFM_ControlNetImage",
    "DepthFM_Save",
)
MENUS = {"solver": SOLVERS, "grid": GRIDS, "reduction": REDUCTIONS, "noise": ("shared", "per frame")}


def test_comfyui_lists_the_nodes_under_their_ids(comfyui):
    offered = {node["name"] for node in comfyui.get("/object_info").values() if PACK_NAME in node["python_module"]}
    assert offered == set(NODES)


@pytest.mark.parametrize("node", NODES)
def test_every_widget_and_output_has_a_tooltip(comfyui, node):
    info = comfyui.get(f"/object_info/{node}")[node]
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    assert inputs and all(options["tooltip"] for _, options in inputs.values())
    assert all(info["output_tooltips"]) and info["description"]


def test_menus_and_defaults_are_the_cores(comfyui):
    required = comfyui.get("/object_info/DepthFM_Sampler")["DepthFM_Sampler"]["input"]["required"]
    for name, choices in {"solver": SOLVERS, "grid": GRIDS, "reduction": REDUCTIONS}.items():
        assert choices_of(required[name]) == list(choices)
    for name in ("seed", "num_steps", "solver", "grid", "ensemble_size", "reduction"):
        assert required[name][1]["default"] == getattr(EstimationSettings(), name)


def test_the_loader_offers_nano_and_the_files_in_the_model_folder(comfyui):
    required = comfyui.get("/object_info/DepthFM_LoadModel")["DepthFM_LoadModel"]["input"]["required"]
    assert choices_of(required["model_name"]) == ["nano", "bare.safetensors", "whole.safetensors"]


def test_the_depth_image_is_the_core_pipelines(comfyui, micro):
    assert_same_picture(saved_pictures(comfyui, sampler_graph()), controlnet_image(expected_depth(micro)))


CHANGES = {
    "seed": 4,
    "num_steps": 3,
    "solver": "rk4",
    "grid": "rho",
    "ensemble_size": 3,
    "processing_resolution": 128,
}


@pytest.mark.parametrize("name", CHANGES)
def test_every_sampler_widget_does_what_the_cores_setting_does(comfyui, micro, name):
    changed = {name: CHANGES[name]}
    picture = saved_pictures(comfyui, sampler_graph(**changed))
    assert_same_picture(picture, controlnet_image(expected_depth(micro, **changed)))
    assert not np.array_equal(picture, saved_pictures(comfyui, sampler_graph()))


def test_minus_one_is_the_models_own_resolution(comfyui, micro):
    picture = saved_pictures(comfyui, sampler_graph(processing_resolution=-1))
    assert_same_picture(picture, controlnet_image(expected_depth(micro, processing_resolution=None)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_mask_is_the_ensembles_uncertainty(comfyui, micro, reduction):
    changed = {"ensemble_size": 3, "reduction": reduction}
    graph = sampler_graph(**changed)
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["depth", 2]}}
    graph["save"]["inputs"]["images"] = ["mask", 0]
    uncertainty = expected_depth(micro, **changed).uncertainty.clamp(0, 1)
    assert uncertainty.max() > 0.02
    assert_same_picture(saved_pictures(comfyui, graph), uncertainty.expand(-1, 3, -1, -1))


def test_every_frame_of_a_batch_is_the_single_frames_result(comfyui):
    graph = sampler_graph(ensemble_size=2)
    single = saved_pictures(comfyui, graph)
    graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["photo", 0], "amount": 3}}
    graph["depth"]["inputs"]["image"] = ["batch", 0]
    frames = saved_pictures(comfyui, graph)
    assert frames.shape == (3, *SIZE, 3)
    assert np.abs(frames.astype(int) - single).max() <= 1


def test_noise_per_frame_is_that_of_the_next_seed_in_groups_of_any_size(comfyui):
    graph = sampler_graph(noise="per frame", frames_at_once=1, seed=3)
    graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["photo", 0], "amount": 2}}
    graph["depth"]["inputs"]["image"] = ["batch", 0]
    frames = saved_pictures(comfyui, graph)
    graph["depth"]["inputs"]["frames_at_once"] = 0
    assert np.abs(frames.astype(int) - saved_pictures(comfyui, graph)).max() <= 1
    for frame, seed in zip(frames, (3, 4), strict=True):
        assert np.abs(frame.astype(int) - saved_pictures(comfyui, sampler_graph(seed=seed))[0]).max() <= 1


def test_ksampler_and_depthfm_decode_give_the_samplers_depth(comfyui):
    """The picture of the graph is cropped to sides that need no padding, since VAE Encode knows none."""
    graph = sampler_graph(processing_resolution=0)
    crop = {"image": ["photo", 0], "width": 64, "height": 48, "x": 0, "y": 0}
    graph["crop"] = {"class_type": "ImageCrop", "inputs": crop}
    graph["depth"]["inputs"]["image"] = ["crop", 0]
    ours = saved_pictures(comfyui, graph)
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["crop", 0], "vae": ["model", 3]}}
    sampler = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sampler |= {"model": ["model", 1], "positive": ["model", 2], "negative": ["model", 2]}
    graph["sampler"] = {"class_type": "KSampler", "inputs": sampler | {"latent_image": ["encode", 0]}}
    decode = {"samples": ["sampler", 0], "vae": ["model", 3], "ensemble_size": 1, "reduction": "mean"}
    graph["decoded"] = {"class_type": "DepthFM_Decode", "inputs": decode}
    graph["save"]["inputs"]["images"] = ["decoded", 0]
    theirs = saved_pictures(comfyui, graph)
    assert theirs.shape == ours.shape == (1, 48, 64, 3)
    assert np.abs(theirs.astype(int) - ours).max() <= 1


def test_the_sampler_takes_the_native_model_too(comfyui):
    graph = sampler_graph()
    graph["depth"]["inputs"]["model"] = ["model", 1]
    assert np.array_equal(saved_pictures(comfyui, graph), saved_pictures(comfyui, sampler_graph()))


def test_the_vae_of_a_model_without_one_stops_with_what_to_load(comfyui):
    graph = sampler_graph("bare.safetensors")
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["photo", 0], "vae": ["model", 3]}}
    graph["decoded"] = {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["model", 3]}}
    graph["save"]["inputs"]["images"] = ["decoded", 0]
    del graph["depth"]
    assert "bare.safetensors brings no autoencoder; use Load VAE" in error_of(comfyui, graph)


@pytest.mark.parametrize("size", [(61, 75), (640, 480), (1920, 1080)])
def test_five_frames_with_an_ensemble_of_three_come_back_at_exactly_their_size(comfyui, size):
    width, height = size
    graph = sampler_graph("nano", ensemble_size=3, processing_resolution=-1)
    scale = {"image": ["photo", 0], "upscale_method": "bilinear", "width": width, "height": height, "crop": "disabled"}
    graph["scale"] = {"class_type": "ImageScale", "inputs": scale}
    graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["scale", 0], "amount": 5}}
    graph["depth"]["inputs"]["image"] = ["batch", 0]
    frames = saved_pictures(comfyui, graph)
    assert frames.shape == (5, height, width, 3)
    assert frames.std() > 5


def test_attention_and_dtype_change_the_result(comfyui):
    plain = saved_pictures(comfyui, sampler_graph())
    assert not np.array_equal(plain, saved_pictures(comfyui, sampler_graph(attention="rescaled")))
    assert not np.array_equal(plain, saved_pictures(comfyui, sampler_graph(dtype="bfloat16")))


def test_default_dtype_on_a_cpu_is_float32(comfyui):
    assert np.array_equal(
        saved_pictures(comfyui, sampler_graph()), saved_pictures(comfyui, sampler_graph(dtype="default"))
    )


def test_a_model_without_autoencoder_says_which_vae_to_connect(comfyui):
    message = error_of(comfyui, sampler_graph("bare.safetensors"))
    assert "bare.safetensors brings no autoencoder" in message and "'vae' input" in message


def test_a_model_that_is_not_there_is_refused_before_anything_runs(comfyui):
    graph = sampler_graph()
    graph["model"]["inputs"]["model_name"] = "gone.safetensors"
    errors = comfyui.post("/prompt", {"prompt": graph})["node_errors"]["model"]["errors"]
    assert len(errors) == 1 and "gone.safetensors" in errors[0]["details"] and "models" in errors[0]["details"]


@pytest.mark.parametrize("name", ["weight_dtype", "attention"])
def test_a_choice_that_is_not_on_the_loaders_menu_is_refused_with_the_menu(comfyui, name):
    graph = sampler_graph()
    graph["model"]["inputs"][name] = "int3"
    assert "'int3'; choose one of" in error_of(comfyui, graph)


@pytest.mark.parametrize("name", ["solver", "grid", "reduction", "noise"])
def test_what_is_not_on_the_samplers_menus_is_refused_with_the_menu_before_anything_runs(comfyui, name):
    message = refusal_of(comfyui, sampler_graph(**{name: "per_frame"}), "depth")
    assert f"Unknown {name} 'per_frame'; choose one of {', '.join(MENUS[name])}" in message


@pytest.mark.parametrize(("name", "menu"), [("reduction", "mean, median"), ("edges", "auto, sharpened, as estimated")])
def test_what_is_not_on_the_decoders_menus_is_refused_with_the_menu_before_anything_runs(comfyui, name, menu):
    graph = sampler_graph()
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["photo", 0], "vae": ["model", 3]}}
    decode = {"samples": ["encode", 0], "vae": ["model", 3], "ensemble_size": 1, "reduction": "mean"}
    graph["depth"] = {"class_type": "DepthFM_Decode", "inputs": decode | {name: "mode"}}
    assert f"Unknown {name} 'mode'; choose one of {menu}" in refusal_of(comfyui, graph, "depth")
