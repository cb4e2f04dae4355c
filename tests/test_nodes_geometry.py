"""What depends on the ComfyUI around the pack: nodes only for newer versions, and its command line.

Like test_nodes_runtime.py, this file runs itself in a process of its own, in which ComfyUI's modules can be imported.
"""

import asyncio
import importlib.util
import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACK = Path(__file__).parents[1]
pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    from .comfyui_server import find_comfyui

    environment = os.environ | {"PYTHONPATH": str(find_comfyui())}
    command = [sys.executable, str(Path(__file__).resolve()), str(tmp_path_factory.mktemp("scratch"))]
    done = subprocess.run(command, env=environment, cwd=find_comfyui(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(done.stdout.splitlines()[-1])


def test_the_geometry_node_is_offered_exactly_where_comfyui_has_the_moge_nodes(facts):
    assert facts["offered_without"] == facts["comfyui_has_moge"]
    assert facts["offered_with"]


def test_asking_for_the_moge_nodes_does_not_import_them(facts):
    assert facts["imported"] == []


def test_the_geometry_node_takes_exactly_what_its_schema_offers_each_with_a_tooltip(facts):
    offered, taken, tooltips = facts["signature"]
    assert offered == taken and all(tooltips)


@pytest.mark.parametrize("camera", ["field of view", "focal length"])
def test_the_geometry_node_gives_both_dictionaries_of_the_core(facts, camera):
    assert facts["geometry"][camera] == {"MOGE_GEOMETRY": True, "DA3_GEOMETRY": True}


def test_an_image_of_another_size_than_the_depth_is_refused(facts):
    assert "connect the images that the depth was estimated from" in facts["wrong_image"]


def test_the_graph_is_saved_unless_comfyui_was_told_not_to(facts):
    assert facts["texts"] == {"usual": {"prompt": '{"a": 1}', "workflow": "[2]"}, "disable_metadata": {}}


def test_a_choice_that_comes_by_a_link_is_checked_when_it_comes(facts):
    assert facts["linked"]["passes before the run"]
    assert "choose the format exr or npy" in facts["linked"]["at the run"]


def _facts(scratch: Path) -> dict:
    pack = _load_pack()
    without = _offered(pack)
    fake = scratch / "newer" / "comfy_extras"
    fake.mkdir(parents=True)
    (fake / "nodes_moge.py").write_text("", encoding="utf-8")
    sys.path.append(str(fake.parent))
    importlib.invalidate_caches()
    return {
        "comfyui_has_moge": (Path.cwd() / "comfy_extras" / "nodes_moge.py").exists(),
        "offered_without": "DepthFM_Geometry" in without,
        "offered_with": "DepthFM_Geometry" in _offered(pack),
        "imported": sorted(name for name in sys.modules if name.startswith("comfy_extras.")),
        **_geometry_facts(),
        **_save_facts(scratch),
    }


def _load_pack():
    spec = importlib.util.spec_from_file_location(
        "a_pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    pack = sys.modules["a_pack"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pack)
    return pack


def _offered(pack) -> list[str]:
    nodes = asyncio.run(asyncio.run(pack.comfy_entrypoint()).get_node_list())
    return [node.GET_SCHEMA().node_id for node in nodes]


def _prediction():
    import torch
    from a_pack.depthfm_core.depth.prediction import DepthPrediction

    log_depth = torch.rand(2, 1, 6, 9, generator=torch.Generator().manual_seed(0))
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def _geometry_facts() -> dict:
    import torch
    from a_pack.depthfm_core.depth.geometry import da3_geometry, moge_geometry
    from a_pack.nodes.geometry import DepthToGeometry

    image = torch.rand(2, 6, 9, 3, generator=torch.Generator().manual_seed(1))
    inputs = DepthToGeometry.GET_SCHEMA().inputs
    facts = {
        "signature": (
            sorted(socket.id for socket in inputs),
            sorted(inspect.signature(DepthToGeometry.execute).parameters),
            [socket.tooltip for socket in inputs],
        ),
        "geometry": {},
    }
    for name, focal_px in (("field of view", 0.0), ("focal length", 20.0)):
        given = DepthToGeometry.execute(_prediction(), image, fov_deg=40.0, focal_px=focal_px).args
        camera = {"fov_deg": 40.0, "focal_px": focal_px or None}
        wanted = [make(_prediction(), image.permute(0, 3, 1, 2), **camera) for make in (moge_geometry, da3_geometry)]
        outputs = [output.display_name for output in DepthToGeometry.GET_SCHEMA().outputs]
        facts["geometry"][name] = dict(zip(outputs, map(_same, given, wanted), strict=True))
    try:
        DepthToGeometry.execute(_prediction(), image[:, 1:], 40.0, 0.0)
    except ValueError as error:
        facts["wrong_image"] = str(error)
    return facts


def _same(one: dict, other: dict) -> bool:
    import torch

    return one.keys() == other.keys() and all(
        torch.equal(value, other[key]) if isinstance(value, torch.Tensor) else value == other[key]
        for key, value in one.items()
    )


def _save_facts(scratch: Path) -> dict:
    import folder_paths
    from a_pack.nodes.save import SaveDepth
    from comfy.cli_args import args
    from PIL import Image

    folder_paths.set_output_directory(str(scratch))
    node = SaveDepth.PREPARE_CLASS_CLONE({"PROMPT": {"a": 1}, "EXTRA_PNGINFO": {"workflow": [2]}})
    texts = {}
    for name, disabled in (("usual", False), ("disable_metadata", True)):
        args.disable_metadata = disabled
        node.execute(_prediction(), name, "png16", "depth")
        with Image.open(scratch / f"{name}_00001_.png") as file:
            texts[name] = file.text
    linked = {"passes before the run": SaveDepth.validate_inputs(values="log depth") is True}
    try:
        node.execute(_prediction(), "linked", "png16", "log depth")
    except ValueError as error:
        linked["at the run"] = str(error)
    return {"texts": texts, "linked": linked}


if __name__ == "__main__":
    sys.argv, folder = [sys.argv[0], "--cpu"], Path(sys.argv[1])
    import comfy.options

    comfy.options.enable_args_parsing()
    print(json.dumps(_facts(folder)))
