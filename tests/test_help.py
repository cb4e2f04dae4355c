"""What users read about the nodes, tooltips and help pages in English and Chinese, held to what the nodes offer.

`python -m pytest tests/test_help.py --write-locales` writes the English node definitions from the nodes; the server of
that run still has the old ones.
"""

import json
import os
import re
import subprocess
import sys
import urllib.request

import pytest

from .comfyui_server import PACK, PACK_NAME, ComfyUI, find_comfyui

pytestmark = pytest.mark.comfy

HEADINGS = {"en": ("Inputs", "Outputs"), "zh": ("\u8f93\u5165", "\u8f93\u51fa")}  # the same in Chinese
LANGUAGES = tuple(HEADINGS)
SAME_IN_CHINESE = {"DEPTHFM_MODEL", "VAE", "Latent", "MOGE_GEOMETRY", "DA3_GEOMETRY"}  # as in ComfyUI's own texts
# Prints the definition of the node that is only offered where ComfyUI has the nodes that it is for.
_GEOMETRY = """
import importlib.util, json, sys
import comfy.options
folder = sys.argv.pop(1)
sys.argv.append("--cpu")
comfy.options.enable_args_parsing()
spec = importlib.util.spec_from_file_location("pack", folder + "/__init__.py")
sys.modules["pack"] = importlib.util.module_from_spec(spec)
from pack.nodes.geometry import DepthToGeometry
print(json.dumps(DepthToGeometry.GET_NODE_INFO_V1()))
"""


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    server = ComfyUI(tmp_path_factory.mktemp("comfyui"))
    try:
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def nodes(comfyui):
    """Every node of the pack by its id, as ComfyUI tells the front end."""
    offered = comfyui.get("/object_info")
    ours = {name: node for name, node in offered.items() if PACK_NAME in node["python_module"]}
    geometry = geometry_node()
    return ours | {geometry["name"]: geometry}


def geometry_node() -> dict:
    folder = find_comfyui()
    command = [sys.executable, "-c", _GEOMETRY, str(PACK)]
    environment = os.environ | {"PYTHONPATH": str(folder)}
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def inputs_of(node: dict) -> dict[str, dict]:
    """What the front end is told of each input."""
    offered = {**node["input"].get("required", {}), **node["input"].get("optional", {})}
    return {name: {"type": kind, **(rest[0] if rest else {})} for name, (kind, *rest) in offered.items()}


def choices(options: dict) -> list[str]:
    """The menu of a combo whose entries do not depend on the disk."""
    kind = options["type"]
    return kind if isinstance(kind, list) else options.get("options", [])


def definition(node: dict) -> dict:
    """A node in the form of ComfyUI's nodeDefs.json."""
    inputs = {
        name: {"name": options.get("display_name") or name, "tooltip": options["tooltip"]}
        for name, options in inputs_of(node).items()
    }
    outputs = {
        str(index): {"name": name, "tooltip": tooltip}
        for index, (name, tooltip) in enumerate(zip(node["output_name"], node["output_tooltips"], strict=True))
    }
    texts = {name: node[name] for name in ("display_name", "description")}
    return texts | {"inputs": inputs, "outputs": outputs}


def locale_file(language: str):
    return PACK / "locales" / language / "nodeDefs.json"


@pytest.fixture(scope="module")
def locales(nodes, pytestconfig):
    """Language to node definitions, as they lie in the repository."""
    if pytestconfig.getoption("--write-locales"):
        content = json.dumps({name: definition(node) for name, node in nodes.items()}, indent=2, ensure_ascii=False)
        locale_file("en").write_text(content + "\n", encoding="utf-8")
    return {language: json.loads(locale_file(language).read_text(encoding="utf-8")) for language in LANGUAGES}


def leaves(tree: dict, path: tuple[str, ...] = ()) -> dict[tuple[str, ...], str]:
    """Every text by the keys that lead to it."""
    if not isinstance(tree, dict):
        return {path: tree}
    return {key: text for name, branch in tree.items() for key, text in leaves(branch, (*path, name)).items()}


def test_the_english_texts_are_the_nodes_own(nodes, locales):
    assert locales["en"] == {name: definition(node) for name, node in nodes.items()}


def test_the_chinese_texts_are_as_many_and_none_is_empty_or_left_in_english(locales):
    english, chinese = leaves(locales["en"]), leaves(locales["zh"])
    assert set(english) == set(chinese)
    for key, text in chinese.items():
        assert re.search("[\u4e00-\u9fff]", text) or (key[-1] == "name" and text in SAME_IN_CHINESE), key


def test_the_chinese_texts_name_the_same_choices_and_placeholders(nodes, locales):
    for name, node in nodes.items():
        menu = {choice for options in inputs_of(node).values() for choice in choices(options)}
        for key, english in leaves(locales["en"][name]).items():
            chinese = leaves(locales["zh"][name])[key]
            for choice in menu:
                assert (f"'{choice}'" in english) == (f"'{choice}'" in chinese), (name, key, choice)
            assert re.findall("%[^% ]+%|models/[a-z_]+", english) == re.findall("%[^% ]+%|models/[a-z_]+", chinese)


@pytest.mark.parametrize("language", LANGUAGES)
def test_no_text_holds_what_the_front_ends_translator_takes_for_its_own_syntax(locales, language):
    assert not [key for key, text in leaves(locales[language]).items() if set("{}|@") & set(text)]


def test_comfyui_hands_both_languages_to_the_front_end(comfyui, locales):
    served = comfyui.get("/i18n")
    assert {language: served[language]["nodeDefs"] for language in LANGUAGES} == locales


def page(comfyui: ComfyUI, node: str, language: str) -> str:
    """The help page, from the address that the front end asks first, or else from the one that it asks then."""
    address = f"http://127.0.0.1:{comfyui.port}/extensions/{PACK_NAME}/docs/{node}"
    with urllib.request.urlopen(f"{address}.md" if language == "en" else f"{address}/{language}.md") as answer:
        return answer.read().decode("utf-8")


def table(text: str, heading: str) -> dict[str, str]:
    """The table below a heading: the bold name in the first column to the whole row."""
    section = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section, f"no heading {heading}"
    return {match[1]: match[0] for match in re.finditer(r"^\| \*\*(.+?)\*\* \|.*$", section[1], re.MULTILINE)}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_node_has_a_help_page_whose_tables_name_its_inputs_and_outputs(comfyui, nodes, locales, language):
    for name in nodes:
        text, texts = page(comfyui, name, language), locales[language][name]
        inputs, outputs = (list(table(text, heading)) for heading in HEADINGS[language])
        assert text.startswith(f"# {texts['display_name']}\n"), name
        assert inputs == [words["name"] for words in texts["inputs"].values()], name
        assert outputs == [words["name"] for words in texts["outputs"].values()], name


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_help_pages_explain_every_choice_of_every_menu(comfyui, nodes, locales, language):
    for name, node in nodes.items():
        rows = table(page(comfyui, name, language), HEADINGS[language][0])
        for key, options in inputs_of(node).items():
            row = rows[locales[language][name]["inputs"][key]["name"]]
            assert all(f"`{choice}`" in row for choice in choices(options)), (name, key)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_help_pages_are_plain_markdown(comfyui, nodes, language):
    for name in nodes:
        text = page(comfyui, name, language)
        assert "<" not in text, name
        rows = [line for line in text.splitlines() if line.startswith("|")]
        assert all(row.count("|") == 4 or row.count("|") == 3 for row in rows), name


def test_there_is_no_page_and_no_text_of_a_node_that_does_not_exist(nodes):
    pages = {path.stem for path in (PACK / "web" / "docs").glob("*.md")}
    assert pages == {path.name for path in (PACK / "web" / "docs").iterdir() if path.is_dir()} == set(nodes)
