"""Save Depth in the real ComfyUI: what is in the files, what they are called, and what is refused."""

import json
import time

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.depth.controlnet import controlnet_image
from depthfm_core.depth.normalize import normalize_depth

from .comfyui_graphs import error_of, expected_depth, picture_image, refusal_of, sampler_graph

pytestmark = pytest.mark.comfy

WORKFLOW = {"nodes": [], "links": [], "version": 0.4, "extra": {"note": "\u6df1 depth"}}
FORMATS = ("png16", "exr", "npy")
CORE_VALUES = {
    "depth": lambda prediction: prediction.depth,
    "near white": lambda prediction: 1 - prediction.depth,
    "depth image": lambda prediction: controlnet_image(prediction)[:, :1],
    "disparity": lambda prediction: prediction.disparity,
    "log depth": lambda prediction: prediction.log_depth,
}
BATCH_VALUES = {
    "depth": lambda prediction: normalize_depth(prediction, "batch"),
    "near white": lambda prediction: 1 - normalize_depth(prediction, "batch"),
    "depth image": lambda prediction: controlnet_image(prediction, normalization="batch")[:, :1],
    "disparity": lambda prediction: (prediction.log_depth.amin() - prediction.log_depth).exp(),
    "log depth": lambda prediction: prediction.log_depth,
}


@pytest.fixture(scope="module")
def prediction(micro):
    """The core's depth of the photo and its negative."""
    return expected_depth(micro, torch.cat([picture_image(), 1 - picture_image()]))


def save_graph(
    prefix: str, format: str = "png16", values: str = "depth", frames: bool = False, **optional: str
) -> dict:
    """Depth of the photo, or of the photo and its negative, saved; without `optional` as graphs of older packs."""
    graph = sampler_graph()
    if frames:
        graph["negative"] = {"class_type": "ImageInvert", "inputs": {"image": ["photo", 0]}}
        graph["frames"] = {"class_type": "ImageBatch", "inputs": {"image1": ["photo", 0], "image2": ["negative", 0]}}
        graph["depth"]["inputs"]["image"] = ["frames", 0]
    graph["save"] = {
        "class_type": "DepthFM_Save",
        "inputs": {"depth": ["depth", 1], "filename_prefix": prefix, "format": format, "values": values, **optional},
    }
    return graph


def outputs(comfyui, graph, workflow=None):
    entry = comfyui.run(graph, workflow=workflow)
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    return entry["outputs"]["save"]


def saved_files(comfyui, graph, workflow=None):
    files = outputs(comfyui, graph, workflow)["files"]
    assert all(file["type"] == "output" for file in files)
    return [comfyui.base / "output" / file["subfolder"] / file["filename"] for file in files]


def read(path):
    if path.suffix == ".exr":
        OpenEXR = pytest.importorskip("OpenEXR")
        with OpenEXR.File(str(path)) as file:
            return np.array(file.channels()["Y"].pixels), dict(file.header())
    if path.suffix == ".npy":
        return np.load(path), None
    with Image.open(path) as file:
        return np.array(file) / 65535, file.text


def sent(prompt):
    """The prompt in a file as it was posted: ComfyUI notes in it how its cache sees each node."""
    nodes = json.loads(prompt)
    return {name: {key: node[key] for key in ("class_type", "inputs")} for name, node in nodes.items()}


def everything_under(folder):
    return {path.relative_to(folder) for path in folder.rglob("*") if "__pycache__" not in path.parts}


@pytest.mark.parametrize(
    ("format", "values"),
    [(format, values) for format in FORMATS for values in CORE_VALUES if (format, values) != ("png16", "log depth")],
)
def test_each_frames_file_holds_the_cores_values_at_full_precision(comfyui, prediction, format, values):
    paths = saved_files(comfyui, save_graph(f"values/{values}_{format}", format, values, frames=True))
    assert len(paths) == 2 and len(set(paths)) == 2
    for path, expected in zip(paths, CORE_VALUES[values](prediction)[:, 0].numpy(), strict=True):
        found, _ = read(path)
        assert found.shape == expected.shape
        assert np.abs(found - expected).max() <= (1 / 65535 if format == "png16" else 1e-6) + 5e-5  # by threads and CPU
        assert format == "png16" or found.dtype == np.float32


def test_a_new_node_saves_the_picture_that_the_sampler_shows(comfyui, prediction):
    required = comfyui.get("/object_info/DepthFM_Save")["DepthFM_Save"]["input"]["required"]
    paths = saved_files(comfyui, save_graph("new/x", values=required["values"][1]["default"], frames=True))
    for path, picture in zip(paths, controlnet_image(prediction), strict=True):
        assert np.abs(read(path)[0] - picture[0].numpy()).max() <= 1 / 65535 + 5e-5


@pytest.mark.parametrize("values", CORE_VALUES)
def test_over_a_batch_all_files_have_one_scale_and_per_image_is_the_default(comfyui, prediction, values):
    found = {}
    for optional in ({}, {"normalization": "per image"}, {"normalization": "batch"}):
        paths = saved_files(comfyui, save_graph(f"scales/{values}", "npy", values, frames=True, **optional))
        found[optional.get("normalization")] = np.stack([read(path)[0] for path in paths])
    assert np.array_equal(found[None], found["per image"])
    assert np.abs(found["batch"] - BATCH_VALUES[values](prediction)[:, 0].numpy()).max() <= 5e-5
    assert np.array_equal(found["batch"], found["per image"]) == (values == "log depth")


def test_a_png_holds_the_graph_as_save_image_writes_it(comfyui):
    graph = save_graph("metadata/ours")
    graph["core"] = {"class_type": "SaveImage", "inputs": {"images": ["depth", 0], "filename_prefix": "metadata/core"}}
    (ours,) = saved_files(comfyui, graph, WORKFLOW)
    (core,) = (comfyui.base / "output" / "metadata").glob("core_*.png")
    texts = read(ours)[1]
    assert texts == Image.open(core).text
    assert json.loads(texts["workflow"]) == WORKFLOW and sent(texts["prompt"]) == graph
    assert ours.read_bytes()[24:26] == bytes([16, 0])  # IHDR: 16 bits, gray


def test_an_exr_holds_the_same_two_texts_as_attributes(comfyui):
    pytest.importorskip("OpenEXR")
    graph = save_graph("metadata/exr", "exr")
    (path,) = saved_files(comfyui, graph, WORKFLOW)
    _, header = read(path)
    assert json.loads(header["workflow"]) == WORKFLOW and sent(header["prompt"]) == graph


@pytest.mark.parametrize("workflow", [WORKFLOW, None])
def test_beside_an_npy_lies_a_json_that_comfyui_can_open(comfyui, workflow):
    graph = save_graph(f"metadata/npy{workflow is None}", "npy")
    (path,) = saved_files(comfyui, graph, workflow)
    text = path.with_suffix(".json").read_text(encoding="utf-8")
    assert sent(text) == graph if workflow is None else json.loads(text) == workflow


@pytest.mark.parametrize(("format", "values"), [("png16", "depth"), ("npy", "log depth")])
def test_the_preview_is_an_8_bit_picture_of_what_is_in_the_file(comfyui, prediction, format, values):
    """Of 16 bits too: ComfyUI's preview of a 16-bit gray PNG is almost white."""
    shown = outputs(comfyui, save_graph(f"preview/{format}", format, values, frames=True))["images"]
    assert len(shown) == 2
    for image, saved in zip(shown, CORE_VALUES[values](prediction)[:, 0].numpy(), strict=True):
        assert image["type"] == "temp"
        with Image.open(comfyui.base / "temp" / image["filename"]) as file:
            assert file.mode == "RGB"
            picture = np.asarray(file.convert("L")) / 255
        expected = (saved - saved.min()) / (saved.max() - saved.min())
        assert np.abs(picture - expected).max() <= 1.1 / 255


@pytest.mark.parametrize("values", ["near white", "log depth"])
def test_over_a_batch_the_preview_has_the_scale_of_the_files_but_for_log_depth(comfyui, prediction, values):
    graph = save_graph(f"preview/batch_{values}", "npy", values, frames=True)
    graph["save"]["inputs"]["normalization"] = "batch"
    expected = BATCH_VALUES[values](prediction)
    if values == "log depth":
        low, high = expected.amin((2, 3), keepdim=True), expected.amax((2, 3), keepdim=True)
        expected = (expected - low) / (high - low)
    for image, gray in zip(outputs(comfyui, graph)["images"], expected[:, 0].numpy(), strict=True):
        with Image.open(comfyui.base / "temp" / image["filename"]) as file:
            assert np.abs(np.asarray(file.convert("L")) / 255 - gray).max() <= 1.1 / 255


def test_the_date_in_a_prefix_becomes_a_folder_of_today_as_with_save_image(comfyui):
    before = time.strftime("%Y-%m-%d")
    (path,) = saved_files(comfyui, save_graph("dates/%date:yyyy-MM-dd%/of_%width%"))
    days = (before, time.strftime("%Y-%m-%d"))  # the test may run at midnight
    assert path.parent.name in days and path.name == "of_75_00001_.png"


@pytest.mark.parametrize(
    ("prefix", "names"),
    [
        ("again/DepthFM", ["DepthFM_00001_", "DepthFM_00002_"]),  # counted as Save Image does
        ("again/%batch_num%_frame", ["0_frame_00001_", "1_frame_00002_"]),
        ("again/%year%", ["%Y_00001_", "%Y_00002_"]),
    ],
)
def test_no_run_replaces_a_file_of_an_earlier_one(comfyui, prefix, names):
    first = saved_files(comfyui, save_graph(prefix, "npy", frames=True))
    before = [path.read_bytes() for path in first]
    second = saved_files(comfyui, save_graph(prefix, "npy", "near white", frames=True))
    third = saved_files(comfyui, save_graph(prefix, "png16", frames=True))
    assert [path.read_bytes() for path in first] == before
    assert len({path.with_suffix("") for path in (*first, *second, *third)}) == 6
    assert [path.stem for path in first] == [time.strftime(name) for name in names]


@pytest.mark.parametrize(
    ("title", "prefix", "name"),
    [
        ("DepthFM Sampler", "widgets/%DepthFM Sampler.seed%", "0"),
        ("Depth v1.5", "widgets/%year%_v1.5_%Depth v1.5.seed%_%date:hh.mm%", "%Y_v1.5_0_%H.%M"),
    ],
)
def test_a_widget_in_a_prefix_becomes_its_value_as_with_save_image(comfyui, title, prefix, name):
    graph = save_graph(prefix)
    graph["depth"]["inputs"]["seed"], graph["depth"]["_meta"] = 0, {"title": title}
    before = time.strftime(name)
    (path,) = saved_files(comfyui, graph)
    names = {f"{told}_00001_.png" for told in (before, time.strftime(name))}
    assert path.parent == comfyui.base / "output" / "widgets" and path.name in names


@pytest.mark.parametrize("prefix", ["", ".", "..", " ", "depth/..", "./"])
def test_a_prefix_without_a_name_makes_no_hidden_file(comfyui, prefix):
    (path,) = saved_files(comfyui, save_graph(prefix))
    assert path.parent == comfyui.base / "output" and path.name.startswith("DepthFM_")


@pytest.mark.parametrize("prefix", ["../../x", "../..", "depth/../../x", "/x", "../output_x/y"])
def test_a_prefix_that_leaves_the_output_folder_is_refused_and_nothing_is_written(comfyui, prefix):
    before = everything_under(comfyui.base.parent)
    message = error_of(comfyui, save_graph(prefix))
    assert "outside the output folder is not allowed" in message
    assert everything_under(comfyui.base.parent) == before


@pytest.mark.parametrize(
    ("widgets", "reason"),
    [
        ({"format": "jpg", "values": "depth"}, "Unknown format 'jpg'; choose one of png16, exr, npy"),
        ({"format": "exr", "values": "meters"}, "Unknown values 'meters'; choose one of depth, near white"),
        ({"normalization": "video"}, "Unknown normalization 'video'; choose one of per image, batch, fixed range"),
    ],
)
def test_what_is_not_on_a_menu_is_refused_before_anything_runs(comfyui, widgets, reason):
    assert reason in refusal_of(comfyui, save_graph("refused/x", **widgets), "save")


def test_what_a_file_cannot_hold_ends_in_an_error_for_the_front_ends_dialog(comfyui):
    before = everything_under(comfyui.base / "output")
    message = error_of(comfyui, save_graph("refused/x", "png16", "log depth"))
    assert "png16 stores 0 to 1 only" in message and "choose the format exr or npy" in message
    assert everything_under(comfyui.base / "output") == before


@pytest.mark.parametrize("prefix", ["a:b", "C:/x", "%date:hh:mm%", "%data:yyyy%", "%date:%", "%date:yyyy"])
def test_a_prefix_with_a_colon_is_refused_on_every_system(comfyui, prefix):
    message = error_of(comfyui, save_graph(prefix))
    assert f"filename_prefix is {prefix!r}, but names on Windows hold no ':'" in message
    assert "%date:yyyy-MM-dd_hh-mm-ss%" in message
