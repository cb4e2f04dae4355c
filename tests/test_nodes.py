"""The nodes in the real ComfyUI, over HTTP, as the front end uses them."""

import json
import uuid
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core import load_pipeline
from depthfm_core.depth.color import COLORMAPS, colorize
from depthfm_core.depth.controlnet import controlnet_image
from depthfm_core.depth.normals import CONVENTIONS, normals_from_depth, normals_to_image
from depthfm_core.flow import GRIDS, REDUCTIONS, SOLVERS
from depthfm_core.model.checkpoints import load_checkpoint, replace_codec, save_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.pipeline import EstimationSettings

from .comfyui_server import PACK, PACK_NAME, ComfyUI

pytestmark = pytest.mark.comfy

SIZE = (61, 75)  # height, width: odd, and no multiple of anything
NODES = ("DepthFM_LoadModel", "DepthFM_Sampler", "DepthFM_Decode", "DepthFM_Colorize", "DepthFM_Normal")
SAMPLER = {
    "seed": 3,
    "num_steps": 2,
    "solver": "euler",
    "grid": "uniform",
    "ensemble_size": 1,
    "reduction": "mean",
    "processing_resolution": 64,
    "noise": "shared",
    "frames_at_once": 0,
}
BATCH = ("noise", "frames_at_once")


@pytest.fixture(scope="module")
def micro(golden_dir, tmp_path_factory):
    """A toy model with its own autoencoder, and the same one without."""
    folder = tmp_path_factory.mktemp("models")
    bare = golden_dir / "depthfm-micro-heads8.ckpt"
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    save_checkpoint(replace_codec(load_checkpoint(bare), codec), folder / "whole.safetensors", "float32")
    save_checkpoint(load_checkpoint(bare), folder / "bare.safetensors", "float32")
    return folder


@pytest.fixture(scope="module")
def comfyui(micro, tmp_path_factory):
    server = ComfyUI(tmp_path_factory.mktemp("comfyui"))
    try:
        for file in micro.iterdir():
            (server.base / "models" / "depthfm" / file.name).write_bytes(file.read_bytes())
        Image.fromarray(_picture()).save(server.base / "input" / "picture.png")
        Image.fromarray(_picture()).save(server.base / "input" / "example.png")
        yield server
    finally:
        server.stop()


def _picture() -> np.ndarray:
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([rows * 4, columns * 3, (rows * columns) % 256], axis=-1).astype(np.uint8)


def _image() -> torch.Tensor:
    return torch.from_numpy(_picture()).permute(2, 0, 1)[None] / 255


def _graph(model: str = "whole.safetensors", attention: str = "plain", dtype: str = "float32", **sampler) -> dict:
    return {
        "photo": {"class_type": "LoadImage", "inputs": {"image": "picture.png"}},
        "model": {
            "class_type": "DepthFM_LoadModel",
            "inputs": {"model_name": model, "weight_dtype": dtype, "attention": attention},
        },
        "depth": {
            "class_type": "DepthFM_Sampler",
            "inputs": {"model": ["model", 0], "image": ["photo", 0]} | SAMPLER | sampler,
        },
        "save": {"class_type": "SaveImage", "inputs": {"images": ["depth", 0], "filename_prefix": "test"}},
    }


def _saved(comfyui: ComfyUI, graph: dict, node: str = "save") -> np.ndarray:
    """Runs a graph and returns the pictures that a node saved, [B, H, W, 3]."""
    graph[node]["inputs"]["filename_prefix"] = uuid.uuid4().hex  # ComfyUI does not report what it finds in its cache
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    images = entry["outputs"][node]["images"]
    files = [comfyui.base / image["type"] / image["subfolder"] / image["filename"] for image in images]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def _error(comfyui: ComfyUI, graph: dict) -> str:
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "error"
    return dict(entry["status"]["messages"])["execution_error"]["exception_message"]


def _expected(micro: Path, **changed):
    """The core pipeline's prediction with the same settings."""
    settings = EstimationSettings(**({k: v for k, v in SAMPLER.items() if k not in BATCH} | changed))
    return load_pipeline(micro / "whole.safetensors", dtype="float32")(_image(), settings)


def _assert_same_picture(picture: np.ndarray, image: torch.Tensor) -> None:
    """Equal within one 8-bit level; ComfyUI rounds down."""
    expected = (image.permute(0, 2, 3, 1) * 255).numpy()
    assert picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= 1.01


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
        assert _choices(required[name]) == list(choices)
    for name in ("seed", "num_steps", "solver", "grid", "ensemble_size", "reduction"):
        assert required[name][1]["default"] == getattr(EstimationSettings(), name)
    colors = comfyui.get("/object_info/DepthFM_Colorize")["DepthFM_Colorize"]["input"]["required"]
    assert _choices(colors["colormap"]) == list(COLORMAPS)
    normals = comfyui.get("/object_info/DepthFM_Normal")["DepthFM_Normal"]["input"]["required"]
    assert _choices(normals["convention"]) == list(CONVENTIONS)


def _choices(widget: list) -> list[str]:
    return widget[0] if isinstance(widget[0], list) else widget[1]["options"]


def test_the_loader_offers_nano_and_the_files_in_the_model_folder(comfyui):
    required = comfyui.get("/object_info/DepthFM_LoadModel")["DepthFM_LoadModel"]["input"]["required"]
    assert _choices(required["model_name"]) == ["nano", "bare.safetensors", "whole.safetensors"]


def test_the_depth_image_is_the_core_pipelines(comfyui, micro):
    _assert_same_picture(_saved(comfyui, _graph()), controlnet_image(_expected(micro)))


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
    picture = _saved(comfyui, _graph(**changed))
    _assert_same_picture(picture, controlnet_image(_expected(micro, **changed)))
    assert not np.array_equal(picture, _saved(comfyui, _graph()))


def test_minus_one_is_the_models_own_resolution(comfyui, micro):
    picture = _saved(comfyui, _graph(processing_resolution=-1))
    _assert_same_picture(picture, controlnet_image(_expected(micro, processing_resolution=None)))


@pytest.mark.parametrize("reduction", REDUCTIONS)
def test_the_mask_is_the_ensembles_uncertainty(comfyui, micro, reduction):
    changed = {"ensemble_size": 3, "reduction": reduction}
    graph = _graph(**changed)
    graph["mask"] = {"class_type": "MaskToImage", "inputs": {"mask": ["depth", 2]}}
    graph["save"]["inputs"]["images"] = ["mask", 0]
    uncertainty = _expected(micro, **changed).uncertainty.clamp(0, 1)
    assert uncertainty.max() > 0.02
    _assert_same_picture(_saved(comfyui, graph), uncertainty.expand(-1, 3, -1, -1))


def test_color_and_normals_are_the_cores(comfyui, micro):
    graph = _graph()
    graph["color"] = {
        "class_type": "DepthFM_Colorize",
        "inputs": {"depth": ["depth", 1], "colormap": "viridis", "invert": True},
    }
    settings = {"fov_deg": 40.0, "strength": 0.5, "smoothing": 1.5, "convention": "directx"}
    graph["normal"] = {"class_type": "DepthFM_Normal", "inputs": {"depth": ["depth", 1]} | settings}
    graph["save_color"] = {"class_type": "SaveImage", "inputs": {"images": ["color", 0], "filename_prefix": "color"}}
    graph["save_normal"] = {"class_type": "SaveImage", "inputs": {"images": ["normal", 0], "filename_prefix": "normal"}}
    expected = _expected(micro)
    _assert_same_picture(_saved(comfyui, graph, "save_color"), colorize(expected.depth, "viridis", True))
    normals = normals_from_depth(expected.relative_depth, **settings)
    _assert_same_picture(_saved(comfyui, graph, "save_normal"), normals_to_image(normals))


def test_every_frame_of_a_batch_is_the_single_frames_result(comfyui):
    graph = _graph(ensemble_size=2)
    single = _saved(comfyui, graph)
    graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["photo", 0], "amount": 3}}
    graph["depth"]["inputs"]["image"] = ["batch", 0]
    frames = _saved(comfyui, graph)
    assert frames.shape == (3, *SIZE, 3)
    assert np.abs(frames.astype(int) - single).max() <= 1


def test_noise_per_frame_is_that_of_the_next_seed_in_groups_of_any_size(comfyui):
    graph = _graph(noise="per frame", frames_at_once=1, seed=3)
    graph["batch"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["photo", 0], "amount": 2}}
    graph["depth"]["inputs"]["image"] = ["batch", 0]
    frames = _saved(comfyui, graph)
    graph["depth"]["inputs"]["frames_at_once"] = 0
    assert np.abs(frames.astype(int) - _saved(comfyui, graph)).max() <= 1
    for frame, seed in zip(frames, (3, 4), strict=True):
        assert np.abs(frame.astype(int) - _saved(comfyui, _graph(seed=seed))[0]).max() <= 1


def test_ksampler_and_depthfm_decode_give_the_samplers_depth(comfyui):
    """The picture of the graph is cropped to sides that need no padding, since VAE Encode knows none."""
    graph = _graph(processing_resolution=0)
    crop = {"image": ["photo", 0], "width": 64, "height": 48, "x": 0, "y": 0}
    graph["crop"] = {"class_type": "ImageCrop", "inputs": crop}
    graph["depth"]["inputs"]["image"] = ["crop", 0]
    ours = _saved(comfyui, graph)
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["crop", 0], "vae": ["model", 3]}}
    sampler = {"seed": 3, "steps": 2, "cfg": 1.0, "sampler_name": "euler", "scheduler": "simple", "denoise": 1.0}
    sampler |= {"model": ["model", 1], "positive": ["model", 2], "negative": ["model", 2]}
    graph["sampler"] = {"class_type": "KSampler", "inputs": sampler | {"latent_image": ["encode", 0]}}
    decode = {"samples": ["sampler", 0], "vae": ["model", 3], "ensemble_size": 1, "reduction": "mean"}
    graph["decoded"] = {"class_type": "DepthFM_Decode", "inputs": decode}
    graph["save"]["inputs"]["images"] = ["decoded", 0]
    theirs = _saved(comfyui, graph)
    assert theirs.shape == ours.shape == (1, 48, 64, 3)
    assert np.abs(theirs.astype(int) - ours).max() <= 1


def test_the_sampler_takes_the_native_model_too(comfyui):
    graph = _graph()
    graph["depth"]["inputs"]["model"] = ["model", 1]
    assert np.array_equal(_saved(comfyui, graph), _saved(comfyui, _graph()))


def test_the_vae_of_a_model_without_one_stops_with_what_to_load(comfyui):
    graph = _graph("bare.safetensors")
    graph["encode"] = {"class_type": "VAEEncode", "inputs": {"pixels": ["photo", 0], "vae": ["model", 3]}}
    graph["decoded"] = {"class_type": "VAEDecode", "inputs": {"samples": ["encode", 0], "vae": ["model", 3]}}
    graph["save"]["inputs"]["images"] = ["decoded", 0]
    del graph["depth"]
    assert "bare.safetensors brings no autoencoder; use Load VAE" in _error(comfyui, graph)


def test_attention_and_dtype_change_the_result(comfyui):
    plain = _saved(comfyui, _graph())
    assert not np.array_equal(plain, _saved(comfyui, _graph(attention="rescaled")))
    assert not np.array_equal(plain, _saved(comfyui, _graph(dtype="bfloat16")))


def test_default_dtype_on_a_cpu_is_float32(comfyui):
    assert np.array_equal(_saved(comfyui, _graph()), _saved(comfyui, _graph(dtype="default")))


def test_a_model_without_autoencoder_says_which_vae_to_connect(comfyui):
    message = _error(comfyui, _graph("bare.safetensors"))
    assert "bare.safetensors brings no autoencoder" in message and "'vae' input" in message


def test_the_bundled_workflow_fits_the_nodes_that_it_names(comfyui):
    info = comfyui.get("/object_info")
    workflow = json.loads((PACK / "workflows" / "depth_and_color.json").read_text(encoding="utf-8"))
    to_api(workflow, info)  # raises where a node, an input or a choice does not exist
    assert comfyui.get("/workflow_templates")[PACK_NAME] == ["depth_and_color"]


def test_the_bundled_workflow_runs_with_nano(comfyui):
    workflow = json.loads((PACK / "workflows" / "depth_and_color.json").read_text(encoding="utf-8"))
    entry = comfyui.run(to_api(workflow, comfyui.get("/object_info")))
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    pictures = [file["filename"] for output in entry["outputs"].values() for file in output["images"]]
    assert len(pictures) == 2


def to_api(workflow: dict, info: dict) -> dict:
    """A workflow as the front end saves it, in the form that it posts to /prompt, checked against /object_info."""
    links = {link[0]: link for link in workflow["links"]}
    nodes = [node for node in workflow["nodes"] if node["type"] not in ("Note", "MarkdownNote")]
    return {str(node["id"]): _node_to_api(node, links, info[node["type"]]) for node in nodes}


def _node_to_api(node: dict, links: dict, info: dict) -> dict:
    offered = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    sockets = {socket["name"]: socket for socket in node.get("inputs", [])}
    assert set(sockets) <= set(offered), f"{node['type']} has no inputs {set(sockets) - set(offered)}"
    values, inputs = list(node.get("widgets_values", [])), {}
    for name, (kind, *rest) in offered.items():
        options = rest[0] if rest else {}
        if sockets.get(name, {}).get("link") is not None:
            _, origin, slot, target, target_slot, link_kind = links[sockets[name]["link"]]
            assert target == node["id"] and node["inputs"][target_slot]["name"] == name and link_kind in kind.split(",")
            inputs[name] = [str(origin), slot]
        elif isinstance(kind, list) or kind in ("COMBO", "INT", "FLOAT", "BOOLEAN", "STRING"):
            inputs[name] = values.pop(0)
            if options.get("control_after_generate") or options.get("image_upload"):
                assert values.pop(0) in ("fixed", "increment", "decrement", "randomize", "image")
    assert not values, f"{node['type']} has {len(values)} widget values too many: {values}"
    return {"class_type": node["type"], "inputs": inputs}
