"""The nodes' interfaces as saved workflows know them; `interfaces.json` is the promise that they stay.

`python -m pytest tests/test_nodes_interfaces.py --write-interfaces` writes it anew, after a node or an input was added.
"""

import json
from pathlib import Path

import pytest

from .comfyui_server import PACK_NAME

pytestmark = pytest.mark.comfy
PROMISED = Path(__file__).with_name("interfaces.json")
KEPT_OPTIONS = ("default", "min", "max", "step", "control_after_generate", "options")


@pytest.fixture(scope="module")
def interfaces(comfyui, request):
    nodes = {name: node for name, node in comfyui.get("/object_info").items() if PACK_NAME in node["python_module"]}
    found = {name: _interface(node) for name, node in sorted(nodes.items())}
    if request.config.getoption("--write-interfaces"):
        PROMISED.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    return found


def _interface(node: dict) -> dict:
    return {
        "category": node["category"],
        "inputs": [
            [section, name, kind, _promised(name, *options)]
            for section in ("required", "optional")
            for name, (kind, *options) in node["input"].get(section, {}).items()
        ],
        "outputs": [list(pair) for pair in zip(node["output"], node["output_name"], strict=True)],
        "output_node": node["output_node"],
    }


def _promised(name: str, options: dict) -> dict:
    """What a saved value depends on; a menu's entries too, but for the model files, which are the machine's."""
    return {k: v for k, v in options.items() if k in KEPT_OPTIONS and (name, k) != ("model_name", "options")}


def test_every_node_input_menu_default_and_output_is_as_promised(interfaces):
    promised = json.loads(PROMISED.read_text(encoding="utf-8"))
    assert interfaces == promised, "saved workflows would break; if a node or input was added, see this file's head"


def test_the_promise_names_ids_menus_and_outputs(interfaces):
    sampler = interfaces["DepthFM_Sampler"]
    assert ["required", "model", "DEPTHFM_MODEL,MODEL", {}] in sampler["inputs"]
    assert [kind for kind, _ in sampler["outputs"]] == ["IMAGE", "DEPTHFM_DEPTH", "MASK"]
    menus = {name: options.get("options") for _, name, kind, options in sampler["inputs"] if kind == "COMBO"}
    assert menus["noise"] == ["shared", "per frame"] and all(menus.values())
