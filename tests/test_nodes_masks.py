"""The masks of the nodes that show depth, in the real ComfyUI: what lies outside does not count, as in the core."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from depthfm_core.depth.color import colorize
from depthfm_core.depth.controlnet import GRAY_RANGES
from depthfm_core.depth.normalize import normalize_depth
from depthfm_core.depth.prediction import DepthPrediction

from .comfyui_graphs import assert_same_picture, error_of, expected_depth, picture_image, picture_pixels, saved_pictures
from .test_nodes_views import CONTROLNET, DEFAULTS, gray, limits_of, view_graph

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def prediction(micro):
    """The core's depth of the photo and its negative, as `view_graph` has it."""
    return expected_depth(micro, torch.cat([picture_image(), 1 - picture_image()]))


@pytest.mark.parametrize(
    ("node", "changed"),
    [("DepthFM_Colorize", {"normalization": kind}) for kind in ("per image", "batch percentile")]
    + [("DepthFM_ControlNetImage", {"normalization": kind, "multiple": 1}) for kind in GRAY_RANGES],
)
def test_a_mask_counts_as_in_the_core_whether_it_is_one_for_all_or_one_for_each(comfyui, prediction, node, changed):
    """The masks are made of pictures that core's nodes scale, so that they have other sizes than the depth."""
    settings = DEFAULTS[node] | changed
    graph = view_graph(node, **settings)
    graph["small"] = {
        "class_type": "ImageScale",
        "inputs": {"image": ["frames", 0], "upscale_method": "bilinear", "width": 9, "height": 7, "crop": "disabled"},
    }
    graph["mask"] = {"class_type": "ImageToMask", "inputs": {"image": ["small", 0], "channel": "red"}}
    graph["view"]["inputs"]["mask"] = ["mask", 0]
    image = torch.cat([picture_image(), 1 - picture_image()])
    small = F.interpolate(image, (7, 9), mode="bilinear")[:, :1]
    mask = F.interpolate(small, prediction.depth.shape[2:], mode="bilinear")
    assert_same_picture(saved_pictures(comfyui, graph), masked(node, prediction, mask, settings), share=0.999)
    graph["one"] = {"class_type": "ImageFromBatch", "inputs": {"image": ["small", 0], "batch_index": 0, "length": 1}}
    graph["mask"]["inputs"]["image"] = ["one", 0]
    assert_same_picture(saved_pictures(comfyui, graph), masked(node, prediction, mask[:1], settings), share=0.999)
    graph["three"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["one", 0], "amount": 3}}
    graph["mask"]["inputs"]["image"] = ["three", 0]
    assert "give one mask for all images, or one for each" in error_of(comfyui, graph)


def test_of_a_cut_out_the_mask_of_load_image_inverted_is_what_counts(comfyui, prediction):
    alpha = np.full((*picture_pixels().shape[:2], 1), 255, np.uint8)
    alpha[:, 50:] = 0
    cut_out = Image.fromarray(np.concatenate([picture_pixels(), alpha], axis=2), "RGBA")
    cut_out.save(comfyui.base / "input" / "cut_out.png")
    settings = CONTROLNET | {"multiple": 1}
    graph = view_graph("DepthFM_ControlNetImage", **settings, mask=["inside", 0])
    graph["cut_out"] = {"class_type": "LoadImage", "inputs": {"image": "cut_out.png"}}
    graph["depth"]["inputs"]["image"] = ["cut_out", 0]
    graph["inside"] = {"class_type": "InvertMask", "inputs": {"mask": ["cut_out", 1]}}
    alone = DepthPrediction(*(values[:1, :, :, :50] for values in prediction.maps[:3]))
    (picture,) = saved_pictures(comfyui, graph)
    assert_same_picture(picture[None, :, :50], gray(alone, settings), share=0.999)
    assert not picture[:, 50:].any()


def masked(node, prediction, mask, settings):
    if node == "DepthFM_ControlNetImage":
        return gray(prediction, settings, mask)
    depth = normalize_depth(prediction, settings["normalization"], limits_of(settings), mask)
    return colorize(depth, settings["colormap"], settings["invert"])
