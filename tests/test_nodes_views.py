"""The nodes that show depth, and that which reads it, in the real ComfyUI: every option does what the core does."""

import uuid

import numpy as np
import pytest
import torch

from depthfm_core.depth.color import COLORMAPS, colorize
from depthfm_core.depth.controlnet import GRAY_RANGES, SIZINGS, controlnet_image
from depthfm_core.depth.from_image import VALUES, depth_from_image
from depthfm_core.depth.normalize import HIGH_PERCENTILE, LOW_PERCENTILE, NORMALIZATIONS, DisplayLimits, normalize_depth
from depthfm_core.depth.normals import CONVENTIONS, normals_to_image
from depthfm_core.depth.predicted_normals import predicted_normals

from .comfyui_graphs import (
    assert_same_picture,
    choices_of,
    error_of,
    expected_depth,
    picture_image,
    refusal_of,
    sampler_graph,
    saved_pictures,
)

pytestmark = pytest.mark.comfy

COLORIZE = {
    "colormap": "viridis",
    "invert": False,
    "normalization": "per image",
    "low_percentile": 5.0,
    "high_percentile": 90.0,
    "nearest": -0.2,
    "farthest": 0.3,
}
NORMAL = {"fov_deg": 40.0, "focal_px": 0.0, "strength": 0.5, "smoothing": 1.5, "convention": "opengl"}
CONTROLNET = {
    "low_percentile": 5.0,
    "high_percentile": 90.0,
    "normalization": "per image",
    "multiple": 8,
    "sizing": "pad",
    "nearest": -0.2,
    "farthest": 0.3,
}

FROM_IMAGE = {"values": "depth image", "nearest": -0.8, "farthest": 0.7}

DEFAULTS = {"DepthFM_Colorize": COLORIZE, "DepthFM_Normal": NORMAL, "DepthFM_ControlNetImage": CONTROLNET}


@pytest.fixture(scope="module")
def prediction(micro):
    """The core's depth of the photo and its negative, as the graphs below have it."""
    return expected_depth(micro, torch.cat([picture_image(), 1 - picture_image()]))


def view_graph(node: str, **inputs: object) -> dict:
    """Depth of the photo and its negative, and a node that shows it."""
    graph = sampler_graph()
    graph["negative"] = {"class_type": "ImageInvert", "inputs": {"image": ["photo", 0]}}
    graph["frames"] = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["negative", 0]}}
    graph["depth"]["inputs"]["image"] = ["frames", 0]
    graph["view"] = {"class_type": node, "inputs": {"depth": ["depth", 1], **inputs}}
    graph["save"]["inputs"]["images"] = ["view", 0]
    return graph


def widgets(comfyui, node):
    offered = comfyui.get(f"/object_info/{node}")[node]["input"]
    return offered["required"] | offered.get("optional", {})


def test_menus_and_defaults_are_the_cores(comfyui):
    color, gray = widgets(comfyui, "DepthFM_Colorize"), widgets(comfyui, "DepthFM_ControlNetImage")
    assert choices_of(color["colormap"]) == list(COLORMAPS)
    assert choices_of(color["normalization"]) == list(NORMALIZATIONS)
    assert choices_of(widgets(comfyui, "DepthFM_Normal")["convention"]) == list(CONVENTIONS)
    assert choices_of(widgets(comfyui, "DepthFM_FromImage")["values"]) == list(VALUES)
    assert choices_of(gray["normalization"]) == list(GRAY_RANGES) and choices_of(gray["sizing"]) == list(SIZINGS)
    for node in (color, gray):
        assert node["low_percentile"][1]["default"] == LOW_PERCENTILE
        assert node["high_percentile"][1]["default"] == HIGH_PERCENTILE
    for node in (color, gray, widgets(comfyui, "DepthFM_Save"), widgets(comfyui, "DepthFM_FromImage")):
        for name in ("nearest", "farthest"):
            assert node[name][1]["default"] == getattr(DisplayLimits(), name)


def expected_colors(prediction, colormap, invert, normalization, **limits):
    return colorize(normalize_depth(prediction, normalization, DisplayLimits(**limits)), colormap, invert)


COLOR_CHANGES = [
    {"colormap": "magma"},
    {"invert": True},
    {"normalization": "batch"},
    {"normalization": "percentile"},
    {"normalization": "percentile", "low_percentile": 20.0},
    {"normalization": "percentile", "high_percentile": 70.0},
    {"normalization": "batch percentile"},
    {"normalization": "batch percentile", "low_percentile": 20.0},
    {"normalization": "batch percentile", "high_percentile": 70.0},
    {"normalization": "fixed range"},
    {"normalization": "fixed range", "nearest": 0.0},
    {"normalization": "fixed range", "farthest": 0.1},
]


def test_every_option_of_colorize_changes_the_colors_as_the_core_does(comfyui, prediction):
    seen = []
    for changed in ({}, *COLOR_CHANGES):
        settings = COLORIZE | changed
        pictures = saved_pictures(comfyui, view_graph("DepthFM_Colorize", **settings))
        assert_same_picture(pictures, expected_colors(prediction, **settings))
        assert not any(np.array_equal(pictures, others) for others in seen), changed
        seen.append(pictures)


def test_every_option_of_the_normals_changes_them_as_the_core_does(comfyui, prediction):
    seen = []
    changes = [{"fov_deg": 90.0}, {"focal_px": 33.0}, {"strength": 2.0}, {"smoothing": 4.0}, {"convention": "directx"}]
    for changed in ({}, *changes):
        settings = NORMAL | changed
        pictures = saved_pictures(comfyui, view_graph("DepthFM_Normal", **settings))
        core = settings | {"focal_px": settings["focal_px"] or None}
        normals = predicted_normals(prediction, **core)
        # Of a toy network's rough depth, rounding decides at a few pixels which side of an edge they belong to.
        assert_same_picture(pictures, normals_to_image(normals), share=0.995)
        assert not any(np.array_equal(pictures, others) for others in seen), changed
        seen.append(pictures)


def limits_of(settings):
    return DisplayLimits(**{name: settings[name] for name in DisplayLimits.__dataclass_fields__})


def gray(prediction, settings, mask=None):
    """What the core makes by the settings of Depth to ControlNet Image."""
    size = {name: settings[name] for name in ("multiple", "sizing")}
    return controlnet_image(prediction, settings["normalization"], limits_of(settings), mask, **size)


def test_every_option_of_the_controlnet_image_changes_it_as_the_core_does(comfyui, prediction):
    seen = []
    changes = [
        {"low_percentile": 30.0},
        {"high_percentile": 60.0},
        {"normalization": "batch"},
        {"normalization": "fixed range"},
        {"normalization": "fixed range", "nearest": 0.0},
        {"normalization": "fixed range", "farthest": 0.1},
        {"multiple": 1},
        {"sizing": "crop"},
        {"sizing": "stretch", "multiple": 32},
    ]
    for changed in ({}, *changes):
        settings = CONTROLNET | changed
        pictures = saved_pictures(comfyui, view_graph("DepthFM_ControlNetImage", **settings))
        assert_same_picture(pictures, gray(prediction, settings))
        assert not any(np.array_equal(pictures, others) for others in seen), changed
        seen.append(pictures)


def reading_graph(of: list, **settings: object) -> dict:
    """Depth of a picture, by default of the photo and its negative, shown over a fixed range."""
    graph = view_graph("DepthFM_Colorize", **(COLORIZE | {"normalization": "fixed range", "nearest": -1.0}))
    graph["read"] = {"class_type": "DepthFM_FromImage", "inputs": {"image": of, **FROM_IMAGE, **settings}}
    graph["view"]["inputs"]["depth"] = ["read", 1]
    return graph


def test_every_option_of_the_depth_from_an_image_changes_it_as_the_core_does(comfyui):
    seen, image = [], torch.cat([picture_image(), 1 - picture_image()])
    changes = [{"values": values} for values in VALUES] + [{"nearest": -0.5}, {"farthest": 0.2}]
    for changed in changes:
        settings = FROM_IMAGE | changed
        pictures = saved_pictures(comfyui, reading_graph(["frames", 0], **settings))
        expected = depth_from_image(image, **settings)
        colors = COLORIZE | {"normalization": "fixed range", "nearest": -1.0}
        assert_same_picture(pictures, expected_colors(expected, **colors), share=0.999)
        assert not any(np.array_equal(pictures, others) for others in seen), changed
        seen.append(pictures)


def test_the_samplers_depth_image_read_as_depth_is_the_same_depth_image_again(comfyui):
    graph = reading_graph(["depth", 0])
    first = saved_pictures(comfyui, view_graph("DepthFM_Colorize", **COLORIZE) | {"save": _saving("depth")})
    again = saved_pictures(comfyui, graph | {"save": _saving("read")})
    assert np.abs(again.astype(int) - first).max() <= 1 and first.std() > 20


def _saving(node: str) -> dict:
    return {"class_type": "SaveImage", "inputs": {"images": [node, 0], "filename_prefix": "x"}}


def test_grays_of_an_unknown_kind_and_ends_without_extent_are_refused(comfyui):
    graph = reading_graph(["frames", 0], farthest=-0.8)
    assert "must have nearest < farthest, but -0.8 and -0.8 came" in error_of(comfyui, graph)
    graph = reading_graph(["frames", 0], values="height")
    assert "Unknown values 'height'; choose one of depth image, depth" in refusal_of(comfyui, graph, "read")


@pytest.mark.parametrize(
    ("node", "widgets", "reason"),
    [
        ("DepthFM_Colorize", {"colormap": "jet"}, "Unknown colormap 'jet'; choose one of spectral, viridis"),
        ("DepthFM_Colorize", {"normalization": "video"}, "Unknown normalization 'video'; choose one of per image"),
        ("DepthFM_Normal", {"convention": "vulkan"}, "Unknown convention 'vulkan'; choose one of opengl, directx"),
        ("DepthFM_ControlNetImage", {"normalization": "video"}, "Unknown normalization 'video'; choose one of per"),
        ("DepthFM_ControlNetImage", {"sizing": "fit"}, "Unknown sizing 'fit'; choose one of pad, crop, stretch"),
    ],
)
def test_what_is_not_on_a_views_menu_is_refused_before_anything_runs(comfyui, node, widgets, reason):
    assert reason in refusal_of(comfyui, view_graph(node, **(DEFAULTS[node] | widgets)), "view")


@pytest.mark.parametrize(
    ("node", "widgets", "reason"),
    [
        ("DepthFM_Colorize", {"normalization": "percentile", "low_percentile": 90.0}, "but 90.0 and 90.0 came"),
        ("DepthFM_Colorize", {"normalization": "batch percentile", "high_percentile": 1.0}, "but 5.0 and 1.0 came"),
        ("DepthFM_Colorize", {"normalization": "fixed range", "nearest": 0.5}, "must have nearest < farthest, but 0.5"),
        ("DepthFM_ControlNetImage", {"low_percentile": 95.0}, "but 95.0 and 90.0 came"),
        ("DepthFM_ControlNetImage", {"normalization": "batch", "low_percentile": 95.0}, "but 95.0 and 90.0 came"),
        ("DepthFM_ControlNetImage", {"normalization": "fixed range", "farthest": -0.2}, "but -0.2 and -0.2 came"),
    ],
)
def test_limits_that_make_no_range_end_in_an_error_for_the_front_ends_dialog(comfyui, node, widgets, reason):
    assert reason in error_of(comfyui, view_graph(node, **(DEFAULTS[node] | widgets)))


@pytest.mark.parametrize("normalization", ["per image", "fixed range"])
def test_limits_that_the_normalization_does_not_use_may_be_anything(comfyui, normalization):
    settings = COLORIZE | {"normalization": normalization}
    unused = {"low_percentile": 99.0} | ({"nearest": 1.0} if normalization == "per image" else {})
    pictures = (saved_pictures(comfyui, view_graph("DepthFM_Colorize", **(settings | more))) for more in ({}, unused))
    assert np.array_equal(*pictures)


@pytest.mark.parametrize("node", ["DepthFM_Colorize", "DepthFM_ControlNetImage"])
def test_a_limit_that_comes_by_a_link_is_checked_when_it_comes(comfyui, node):
    for high, fits in ((4.0, False), (80.0, True)):
        graph = view_graph(node, **(DEFAULTS[node] | {"high_percentile": ["high", 0]}))
        graph["view"]["inputs"]["normalization"] = {"DepthFM_Colorize": "batch percentile"}.get(node, "batch")
        graph["high"] = {"class_type": "PrimitiveFloat", "inputs": {"value": high}}
        if fits:
            assert len(saved_pictures(comfyui, graph)) == 2
        else:
            assert "Percentiles must be 0 <= low < high <= 100, but 5.0 and 4.0 came" in error_of(comfyui, graph)


def test_changing_only_the_colormap_runs_nothing_upstream_again(comfyui):
    graph = view_graph("DepthFM_Colorize", **COLORIZE)
    saved_pictures(comfyui, graph)
    graph["view"]["inputs"]["colormap"] = "turbo"
    graph["save"]["inputs"]["filename_prefix"] = uuid.uuid4().hex
    messages = dict(comfyui.run(graph)["status"]["messages"])
    assert set(messages["execution_cached"]["nodes"]) == set(graph) - {"view", "save"}
