"""What of the node pack works without ComfyUI: its import, the conversion of layouts, stand-ins for other nodes."""

import asyncio
import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

PACK = Path(__file__).parents[1]

# Imports the pack as ComfyUI does, under a name of its own, and tells what that brought in.
_IMPORT = """
import importlib.util, json, sys
folder = sys.argv[1]
spec = importlib.util.spec_from_file_location("a_pack", folder + "/__init__.py", submodule_search_locations=[folder])
pack = sys.modules["a_pack"] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(pack)
watched = ("comfy", "torch", "diffusers", "a_pack")
print(json.dumps([sorted(name for name in sys.modules if name.startswith(watched)), dir(pack)]))
"""


@pytest.fixture(scope="module")
def fresh_import(tmp_path_factory):
    folder = tmp_path_factory.mktemp("working_folder")
    command = [sys.executable, "-B", "-c", _IMPORT, str(PACK)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True)
    modules, names = json.loads(done.stdout)
    return {"modules": modules, "names": names, "said": done.stderr, "files": list(folder.iterdir())}


def test_importing_the_pack_imports_nothing_else_and_says_and_writes_nothing(fresh_import):
    assert fresh_import["modules"] == ["a_pack"]
    assert fresh_import["said"] == "" and fresh_import["files"] == []


def test_the_pack_offers_only_the_v3_entry_point(fresh_import):
    assert "comfy_entrypoint" in fresh_import["names"]
    assert "NODE_CLASS_MAPPINGS" not in fresh_import["names"]  # it would make ComfyUI ignore the entry point


def load_alone(name):
    """A module of the nodes that needs no other."""
    spec = importlib.util.spec_from_file_location(f"depthfm_{name}", PACK / "nodes" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def core(monkeypatch):
    """What of ComfyUI the conversion asks, in an older version that was told nothing."""
    answers = SimpleNamespace(intermediate_device=lambda: torch.device("cpu"))
    monkeypatch.setitem(sys.modules, "comfy", SimpleNamespace(model_management=answers))
    monkeypatch.setitem(sys.modules, "comfy.model_management", answers)
    return answers


@pytest.fixture
def convert(core):
    return load_alone("convert")


def test_an_image_comes_back_unchanged_from_comfys_layout(convert):
    image = torch.rand(2, 5, 7, 3)
    assert torch.equal(convert.image_to_comfy(convert.rgb(convert.channels_first(image))), image)


def test_red_stays_red_and_height_stays_height(convert):
    image = torch.zeros(1, 4, 6, 3)
    image[0, 3, 5] = torch.tensor([1.0, 0.5, 0.25])
    assert convert.rgb(convert.channels_first(image))[0, :, 3, 5].tolist() == [1.0, 0.5, 0.25]


def test_alpha_is_dropped(convert):
    image = torch.rand(1, 4, 6, 4)
    assert torch.equal(convert.channels_first(image), convert.channels_first(image[..., :3]))


def test_a_gray_image_of_one_channel_is_the_one_that_repeats_it(convert):
    gray = torch.rand(2, 4, 6, 1)
    assert torch.equal(convert.rgb(convert.channels_first(gray)), convert.rgb(gray.repeat(1, 1, 1, 3).movedim(-1, 1)))


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_channels_first_copies_nothing(convert, channels):
    image = torch.rand(2, 4, 6, channels)
    assert convert.channels_first(image).data_ptr() == image.data_ptr()


def test_pictures_and_masks_lie_where_core_puts_its_own_and_in_its_dtype(convert, core):
    picture = torch.rand(1, 3, 4, 6).double()
    made = convert.image_to_comfy, lambda one: convert.mask_to_comfy(one[:, :1])
    assert [one(picture).dtype for one in made] == [torch.float32] * 2
    core.intermediate_device, core.intermediate_dtype = lambda: torch.device("meta"), lambda: torch.float16
    assert [(one(picture).device.type, one(picture).dtype) for one in made] == [("meta", torch.float16)] * 2


def test_half_precision_images_become_float32(convert):
    assert convert.rgb(convert.channels_first(torch.rand(1, 4, 6, 3).half())).dtype == torch.float32


def test_overshoot_is_clipped_and_a_nan_is_kept_for_the_pipeline_to_refuse(convert):
    image = torch.tensor([-0.1, 1.2, float("nan")]).reshape(1, 1, 1, 3)
    clipped = convert.rgb(convert.channels_first(image)).flatten()
    assert clipped[:2].tolist() == [0.0, 1.0] and clipped[2].isnan()


@pytest.mark.parametrize("shape", [(0, 4, 6, 3), (4, 6, 3), (1, 4, 6, 2), (1, 3, 4, 6)])
def test_another_layout_is_refused_with_its_shape(convert, shape):
    with pytest.raises(ValueError, match=str(list(shape)).replace("[", r"\[")):
        convert.channels_first(torch.rand(shape))


def test_a_mask_has_no_channel_and_ends_at_one(convert):
    mask = convert.mask_to_comfy(torch.tensor([0.25, 3.0]).reshape(1, 1, 1, 2))
    assert mask.tolist() == [[[0.25, 1.0]]]


def registered(io):
    """What a ComfyUI with this `io` is told about nodes of other packs."""
    told = []

    async def register(replacement):
        told.append(replacement)

    api = SimpleNamespace(node_replacement=SimpleNamespace(register=register))
    asyncio.run(load_alone("replacements").register_replacements(api, io))
    return told


def test_the_sampler_stands_in_for_the_node_of_depth_fm_with_ids_that_both_have():
    (told,) = registered(SimpleNamespace(NodeReplace=lambda **given: given))
    sampler = json.loads((PACK / "tests" / "interfaces.json").read_text(encoding="utf-8"))[told["new_node_id"]]
    kinds = {name: kind for _, name, kind, _ in sampler["inputs"]}
    # https://github.com/kijai/ComfyUI-depth-fm, nodes.py
    old = {"vae": "VAE", "images": "IMAGE", "steps": "INT", "ensemble_size": "INT"}
    pairs = {entry["new_id"]: entry["old_id"] for entry in told["input_mapping"] if "old_id" in entry}
    assert {new: kinds[new] for new in pairs} == {new: old[name] for new, name in pairs.items()}
    assert set(pairs.values()) == set(old)
    assert sampler["outputs"][told["output_mapping"][0]["new_idx"]][0] == "IMAGE"
    assert told["old_node_id"] == "Depth_fm"
    assert told["old_widget_ids"] == ["depthfm_model", "steps", "ensemble_size", "dtype", "invert", "per_batch"]


def test_a_replaced_node_has_all_that_the_sampler_requires_but_the_model_and_what_is_new_at_its_default():
    (told,) = registered(SimpleNamespace(NodeReplace=lambda **given: given))
    sampler = json.loads((PACK / "tests" / "interfaces.json").read_text(encoding="utf-8"))[told["new_node_id"]]
    defaults = {name: options.get("default") for kind, name, _, options in sampler["inputs"] if kind == "required"}
    mapped = {entry["new_id"] for entry in told["input_mapping"]}
    assert mapped - {"vae"} == defaults.keys() - {"model"}
    set_values = {entry["new_id"]: entry["set_value"] for entry in told["input_mapping"] if "set_value" in entry}
    assert set_values == {name: defaults[name] for name in set_values} and len(set_values) == 7


def test_a_comfyui_that_replaces_no_nodes_is_told_nothing():
    assert registered(SimpleNamespace()) == []
