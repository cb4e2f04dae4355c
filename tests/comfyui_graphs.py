"""Graphs for the tests on the real ComfyUI, and what `depthfm_core` says that they give."""

import uuid
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from depthfm_core import load_pipeline
from depthfm_core.depth.prediction import DepthPrediction
from depthfm_core.model.checkpoints import load_checkpoint, save_checkpoint
from depthfm_core.model.codec import load_codec
from depthfm_core.model.codec_parts import codec_config, codec_tensors
from depthfm_core.settings import EstimationSettings

from .comfyui_server import ComfyUI

SIZE = (61, 75)  # height, width: odd, and no multiple of anything
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
BATCH = ("noise", "frames_at_once")  # what the node has beyond the core's settings


def save_toy_models(golden_dir: Path, folder: Path) -> None:
    """A toy model with its own autoencoder, `whole.safetensors`, and the same one without, `bare.safetensors`.

    Their spread is scaled, so that an uncertainty which a node does not scale by the file's number is another one.
    """
    bare = replace(load_checkpoint(golden_dir / "depthfm-micro-heads8.ckpt"), spread_scale=2.5)
    codec = load_codec(golden_dir / "micro-vae-diffusers.safetensors")
    whole = replace(bare, codec_tensors=codec_tensors(codec), codec_config=codec_config(codec))
    save_checkpoint(whole, folder / "whole.safetensors", "float32")
    save_checkpoint(bare, folder / "bare.safetensors", "float32")


def picture_pixels() -> np.ndarray:
    """The photo of all graphs, uint8 [H, W, 3]."""
    rows, columns = np.mgrid[0 : SIZE[0], 0 : SIZE[1]]
    return np.stack([rows * 4, columns * 3, (rows * columns) % 256], axis=-1).astype(np.uint8)


def picture_image() -> torch.Tensor:
    """The same as the core's image, [1, 3, H, W]."""
    return torch.from_numpy(picture_pixels()).permute(2, 0, 1)[None] / 255


def sampler_graph(
    model: str = "whole.safetensors", attention: str = "plain", dtype: str = "float32", **sampler: object
) -> dict:
    """Photo, model, sampler and Save Image in API format."""
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


def saved_pictures(comfyui: ComfyUI, graph: dict, node: str = "save") -> np.ndarray:
    """Runs a graph and returns the pictures that a node saved, [B, H, W, 3]."""
    graph[node]["inputs"]["filename_prefix"] = uuid.uuid4().hex  # ComfyUI does not report what it finds in its cache
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    images = entry["outputs"][node]["images"]
    files = [comfyui.base / image["type"] / image["subfolder"] / image["filename"] for image in images]
    return np.stack([np.asarray(Image.open(file).convert("RGB")) for file in files])


def error_of(comfyui: ComfyUI, graph: dict) -> str:
    """The message with which a graph ends."""
    entry = comfyui.run(graph)
    assert entry["status"]["status_str"] == "error"
    return dict(entry["status"]["messages"])["execution_error"]["exception_message"]


def refusal_of(comfyui: ComfyUI, graph: dict, node: str) -> str:
    """What ComfyUI answers about a node instead of running the graph."""
    answer = comfyui.post("/prompt", {"prompt": graph})
    assert "prompt_id" not in answer
    return answer["node_errors"][node]["errors"][0]["details"]


def expected_depth(models: Path, image: torch.Tensor | None = None, **changed: object) -> DepthPrediction:
    """The core pipeline's prediction of an image, the photo if none is given, with the settings of `sampler_graph`."""
    settings = EstimationSettings(**({k: v for k, v in SAMPLER.items() if k not in BATCH} | changed))
    pipeline = load_pipeline(models / "whole.safetensors", dtype="float32")
    return pipeline(picture_image() if image is None else image, settings)


def assert_same_picture(picture: np.ndarray, image: torch.Tensor, share: float = 1) -> None:
    """Equal within one 8-bit level, since ComfyUI rounds down, in this share of the values.

    The excess over one level is float32's rounding, which depends on the number of threads (0.011 was seen).
    """
    expected = (image.permute(0, 2, 3, 1) * 255).numpy()
    assert picture.shape == expected.shape
    assert np.mean(np.abs(picture - expected) <= 1.05) >= share


def choices_of(widget: list) -> list[str]:
    """The menu of a combo in /object_info, in its older and its newer form."""
    return widget[0] if isinstance(widget[0], list) else widget[1]["options"]
