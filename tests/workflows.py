"""The workflows that the pack brings, what they need beside it, and the inputs that let them run."""

import json
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image

from .comfyui_server import PACK

FOLDER = PACK / "workflows"
SUBGRAPHS = PACK / "subgraphs"
BLUEPRINTS = ("Image to ControlNet Depth (DepthFM)", "Image to Depth (DepthFM)")
# What each workflow needs that no fresh ComfyUI has; a workflow that is not here runs with what the pack brings.
MODEL_FILES = {
    "published_model": {"depthfm-v1.ckpt", "vae-ft-mse-840000-ema-pruned.safetensors"},
    "controlnet_sd15": {
        "v1-5-pruned-emaonly-fp16.safetensors",
        "control_v11f1p_sd15_depth_fp16.safetensors",
    },
    "controlnet_sdxl": {"sd_xl_base_1.0.safetensors", "control-lora-depth-rank256.safetensors"},
}
RUN_WITH_NANO = (
    "depth_and_color",
    "edited_depth",
    "ensemble_uncertainty",
    "native_ksampler",
    "normals",
    "video_frames",
)
NAMES = tuple(sorted((*MODEL_FILES, *RUN_WITH_NANO)))
_FRAMES = 6
_FRAMES_PER_S = 6
_VIDEO_SIZE_PX = (256, 192)  # width, height


def read_workflow(name: str) -> dict:
    """A workflow as the front end saved it."""
    return json.loads((FOLDER / f"{name}.json").read_text(encoding="utf-8"))


def read_blueprint(name: str) -> dict:
    """A subgraph blueprint in the form of ComfyUI's own."""
    return json.loads((SUBGRAPHS / f"{name}.json").read_text(encoding="utf-8"))


def write_inputs(base: Path) -> None:
    """The files in ComfyUI's `input` folder that the workflows name: the pack's example picture, and a pan over it."""
    picture = Image.open(PACK / "depthfm_core" / "examples" / "room.jpg").convert("RGB")
    picture.save(base / "input" / "example.png")
    _write_video(_pan(picture), base / "input" / "video.mp4")


def _pan(picture: Image.Image) -> list[np.ndarray]:
    """Frames of a camera that moves to the right; uint8 [H, W, 3]."""
    width, height = _VIDEO_SIZE_PX
    wide = picture.resize((width + 4 * _FRAMES, height))
    return [np.asarray(wide.crop((4 * i, 0, 4 * i + width, height))) for i in range(_FRAMES)]


def _write_video(frames: list[np.ndarray], file: Path) -> None:
    import av

    with av.open(str(file), mode="w") as container:
        stream = container.add_stream("h264", rate=Fraction(_FRAMES_PER_S))
        stream.width, stream.height, stream.pix_fmt = *_VIDEO_SIZE_PX, "yuv420p"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
