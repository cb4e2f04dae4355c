"""The bundled workflows: the files themselves, and each of them in the real front end on a real ComfyUI."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from .browser import FrontEnd, find_chromium, front_end, write_settings
from .comfyui_server import PACK, PACK_NAME, ComfyUI
from .workflows import (
    BLUEPRINTS,
    FOLDER,
    MODEL_FILES,
    NAMES,
    RUN_WITH_NANO,
    read_blueprint,
    read_workflow,
    write_inputs,
)

TITLE_PX = 30  # stands above a node's position
NEEDS_NEWER_COMFYUI = {"DepthFM_Geometry"}
HELP_PAGES = sorted({file.stem for file in (PACK / "web" / "docs").glob("*.md")} - NEEDS_NEWER_COMFYUI)
# In the middle of the canvas: the side bar with the last help page covers the left.
_SHOW_NODE = """type => {
    const node = LiteGraph.createNode(type);
    node.pos = [900, 300];
    app.graph.add(node);
    app.canvas.ds.reset();
    app.canvas.selectItems([node]);
}"""
# A photo into the one node of a blueprint, and its first output into a preview.
_AROUND = """() => {
    const [blueprint] = app.graph._nodes;
    const [photo, preview] = ["LoadImage", "PreviewImage"].map(type => LiteGraph.createNode(type));
    for (const node of [photo, preview]) app.graph.add(node);
    photo.widgets[0].value = "example.png";
    photo.connect(0, blueprint, 0);
    blueprint.connect(0, preview, 0);
}"""
EMPTY = {"last_node_id": 0, "last_link_id": 0, "nodes": [], "links": [], "version": 0.4}


def test_the_folder_holds_these_workflows_and_nothing_else():
    assert sorted(file.name for file in FOLDER.iterdir()) == sorted(f"{n}.{s}" for n in NAMES for s in ("jpg", "json"))


@pytest.mark.parametrize("name", NAMES)
def test_every_thumbnail_is_a_small_jpeg(name):
    file = FOLDER / f"{name}.jpg"
    with Image.open(file) as thumbnail:
        assert thumbnail.format == "JPEG" and min(thumbnail.size) >= 300
    assert file.stat().st_size < 120_000


def test_no_two_thumbnails_are_alike():
    grays = {name: np.asarray(Image.open(FOLDER / f"{name}.jpg").convert("L")).astype(int) for name in NAMES}
    for one, other in itertools.combinations(NAMES, 2):
        assert (abs(grays[one] - grays[other]) > 64).mean() > 0.01, (one, other)


@pytest.mark.parametrize("name", NAMES)
def test_a_note_says_what_comes_out_and_names_every_file_that_is_needed(name):
    notes = "".join(n["widgets_values"][0] for n in read_workflow(name)["nodes"] if n["type"] == "MarkdownNote")
    assert "**What comes out" in notes and "**Settings to try**" in notes
    assert all(f"`{file}`" in notes for file in MODEL_FILES.get(name, ()))


def test_a_note_gives_smoothing_by_the_size_of_the_picture_since_it_counts_its_pixels():
    notes = "".join(n["widgets_values"][0] for n in read_workflow("normals")["nodes"] if n["type"] == "MarkdownNote")
    (advice,) = re.findall(r"^- \*smoothing\*: .*\n.*$", notes, re.MULTILINE)
    assert "short side divided by 56" in advice


@pytest.mark.parametrize("name", NAMES)
def test_the_note_of_a_workflow_for_a_photo_says_to_choose_one_since_that_of_comfyui_is_a_drawing(name):
    nodes = read_workflow(name)["nodes"]
    notes = "".join(node["widgets_values"][0] for node in nodes if node["type"] == "MarkdownNote")
    for_a_photo = any(node["type"] == "LoadImage" for node in nodes)
    assert for_a_photo == bool(re.search(r"Choose a photo of yours in \*\*Load Image\*\*.*`example\.png`", notes))


@pytest.mark.parametrize("name", NAMES)
def test_no_two_nodes_overlap(name):
    for one, other in itertools.combinations(read_workflow(name)["nodes"], 2):
        assert _apart(one, other, 0) or _apart(one, other, 1), (one["type"], other["type"])


def _apart(one: dict, other: dict, axis: int) -> bool:
    first, second = sorted((one, other), key=lambda node: node["pos"][axis])
    return first["pos"][axis] + first["size"][axis] <= second["pos"][axis] - (TITLE_PX if axis else 0)


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory):
    find_chromium()
    base = tmp_path_factory.mktemp("comfyui")
    write_settings(base)
    server = ComfyUI(base, front_end=True)
    try:
        write_inputs(base)
        yield server
    finally:
        server.stop()


@pytest.fixture(scope="module")
def editor(comfyui):
    with front_end(comfyui) as editor:
        yield editor


@pytest.mark.comfy
def test_the_server_lists_every_workflow_as_a_template(comfyui):
    assert sorted(comfyui.get("/workflow_templates")[PACK_NAME]) == list(NAMES)


@pytest.mark.comfy
def test_every_node_of_the_pack_is_in_a_workflow(comfyui):
    info = comfyui.get("/object_info")
    offered = {name for name, node in info.items() if PACK_NAME in node["python_module"]}
    used = {node["type"] for name in NAMES for node in read_workflow(name)["nodes"]}
    assert offered and offered - NEEDS_NEWER_COMFYUI <= used


@pytest.mark.comfy
@pytest.mark.parametrize("name", NAMES)
def test_a_workflow_opens_without_complaint(editor, name):
    editor.open(read_workflow(name), name)
    editor.page.wait_for_timeout(500)
    assert editor.unknown_nodes() == []
    complaints = [text for text in editor.dialogs() if not text.startswith("Missing Models")]
    assert complaints == [] and editor.errors == []


@pytest.mark.comfy
def test_a_node_that_does_not_exist_is_a_complaint(editor):
    workflow = read_workflow("depth_and_color")
    workflow["nodes"][-1]["type"] = "DepthFM_Nothing"
    editor.open(workflow)
    editor.page.wait_for_timeout(500)
    assert editor.unknown_nodes() == ["DepthFM_Nothing"]
    assert any("missing nodes" in text for text in editor.dialogs())


@pytest.mark.comfy
@pytest.mark.parametrize("name", NAMES)
def test_opening_and_saving_changes_nothing_that_counts(editor, name):
    workflow = read_workflow(name)
    editor.open(workflow, name)
    saved = editor.saved()
    assert saved["links"] == workflow["links"]
    for kept in ("type", "widgets_values", "inputs", "outputs"):
        assert [node.get(kept) for node in saved["nodes"]] == [node.get(kept) for node in workflow["nodes"]]


@pytest.mark.comfy
@pytest.mark.parametrize("name", NAMES)
def test_the_settings_to_try_are_called_as_the_widgets_are(editor, name):
    editor.open(read_workflow(name), name)
    named = _settings_to_try(name)
    labels = editor.page.evaluate("app.graph._nodes.flatMap(n => (n.widgets ?? []).map(w => w.label ?? w.name))")
    assert named and named <= set(labels)


@pytest.mark.comfy
@pytest.mark.parametrize("name", RUN_WITH_NANO)
def test_a_workflow_that_needs_only_nano_runs_to_the_end_in_the_browser(editor, name):
    editor.open(read_workflow(name), name)
    entry = editor.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    assert set(entry["outputs"]) == _output_nodes(editor) and editor.errors == []
    for file in _files(editor.server.base, entry):
        assert file.stat().st_size > 0
        if file.suffix == ".png":
            assert len(np.unique(np.asarray(Image.open(file)))) > 20


@pytest.mark.comfy
def test_what_save_depth_refuses_is_said_in_a_dialog_though_another_output_runs(editor):
    workflow = read_workflow("depth_and_color")
    (save,) = (node for node in workflow["nodes"] if node["type"] == "DepthFM_Save")
    save["widgets_values"][save["widgets_values"].index("png16") + 1] = "log depth"
    editor.open(workflow)
    entry = editor.run()
    assert entry["status"]["status_str"] == "error"
    said = dict(entry["status"]["messages"])["execution_error"]["exception_message"]
    assert any(said.strip() in text for text in editor.dialogs()) and "choose the format exr or npy" in said
    editor.close_dialogs()


@pytest.mark.comfy
@pytest.mark.parametrize("name", NAMES)
def test_only_the_model_files_that_the_note_names_are_not_on_a_menu(editor, name):
    editor.open(read_workflow(name), name)
    prompt, info = editor.prompt(), editor.server.get("/object_info")
    assert {value for node in prompt.values() for value in _not_on_a_menu(node, info)} == MODEL_FILES.get(name, set())


@pytest.mark.comfy
@pytest.mark.parametrize("name", MODEL_FILES)
def test_the_server_refuses_a_workflow_for_other_models_for_their_files_alone(editor, name):
    editor.open(read_workflow(name), name)
    answer = editor.server.post("/prompt", {"prompt": editor.prompt()})
    errors = [error for node in answer["node_errors"].values() for error in node["errors"]]
    assert errors and {error["type"] for error in errors} <= {"value_not_in_list", "custom_validation_failed"}
    for error in errors:
        assert any(file in error["details"] for file in MODEL_FILES[name]), error


@pytest.mark.comfy
@pytest.mark.parametrize("name", ["controlnet_sd15", "controlnet_sdxl"])
def test_without_the_controlnet_its_picture_is_made_all_the_same(editor, name):
    editor.open(read_workflow(name), name)
    entry = editor.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    (file,) = _files(editor.server.base, entry)
    with Image.open(file) as control:
        assert control.width % 64 == control.height % 64 == 0


@pytest.mark.comfy
def test_the_template_browser_shows_the_workflows_and_opens_one(editor):
    editor.close_dialogs()
    editor.page.evaluate("app.extensionManager.command.execute('Comfy.BrowseTemplates')")
    cards = editor.page.get_by_role("dialog")
    for name in NAMES:
        cards.get_by_text(name, exact=True).first.wait_for(timeout=20_000)
    cards.get_by_text("normals", exact=True).first.click()
    editor.page.wait_for_function("app.graph._nodes.filter(node => node.type === 'DepthFM_Normal').length === 2")
    editor.page.wait_for_function("document.querySelectorAll('[role=dialog]').length === 0")


@pytest.mark.comfy
def test_the_server_offers_every_blueprint_as_it_is_in_the_repository(comfyui):
    offered = comfyui.get("/global_subgraphs")
    assert {entry["info"]["node_pack"] for entry in offered.values()} == {f"custom_nodes.{PACK_NAME}"}
    contents = {
        entry["name"]: json.loads(comfyui.get(f"/global_subgraphs/{id}")["data"]) for id, entry in offered.items()
    }
    assert contents == {name: read_blueprint(name) for name in BLUEPRINTS}


@pytest.mark.comfy
@pytest.mark.parametrize("name", BLUEPRINTS)
def test_a_blueprint_opens_as_a_node_that_runs(editor, name):
    editor.open(read_blueprint(name), name)
    editor.page.evaluate(_AROUND)
    shown = editor.page.evaluate("app.graph._nodes[0].widgets.map(widget => widget.value)")
    assert shown == read_blueprint(name)["nodes"][0]["widgets_values"]
    entry = editor.run()
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"][-1]
    (file,) = _files(editor.server.base, entry)
    assert len(np.unique(np.asarray(Image.open(file)))) > 20 and editor.errors == [] and editor.unknown_nodes() == []


@pytest.mark.comfy
@pytest.mark.parametrize("node", HELP_PAGES)
def test_a_nodes_help_page_opens_in_the_browser(editor, node):
    editor.open(EMPTY, node)
    editor.page.evaluate(_SHOW_NODE, node)
    editor.page.get_by_test_id("info-button").click()
    heading = (PACK / "web" / "docs" / f"{node}.md").read_text(encoding="utf-8").splitlines()[0].lstrip("# ")
    editor.page.locator(".markdown-content").get_by_role("heading", name=heading).wait_for(timeout=10_000)
    assert editor.errors == []


def _settings_to_try(name: str) -> set[str]:
    """What stands in italics before the colons of the note's advice."""
    (note,) = (node["widgets_values"][0] for node in read_workflow(name)["nodes"] if node["type"] == "MarkdownNote")
    advice = re.findall(r"^- (\*[^*].*?):", note.partition("**Settings to try**")[2], re.MULTILINE)
    return {label for line in advice for label in re.findall(r"(?<!\*)\*(\w[^*]*)\*(?!\*)", line)}


def _not_on_a_menu(node: dict, info: dict) -> list[str]:
    """What a node is set to that its menus do not offer; the server itself looks at the menus of old nodes only."""
    offered = info[node["class_type"]]["input"]
    menus = {}
    for name, (kind, *rest) in (offered.get("required", {}) | offered.get("optional", {})).items():
        if isinstance(kind, list) or kind == "COMBO":
            menus[name] = kind if isinstance(kind, list) else rest[0]["options"]
    return [value for name, value in node["inputs"].items() if name in menus and value not in menus[name]]


def _output_nodes(editor: FrontEnd) -> set[str]:
    info = editor.server.get("/object_info")
    return {key for key, node in editor.prompt().items() if info[node["class_type"]]["output_node"]}


def _files(base: Path, entry: dict) -> list[Path]:
    files = [
        file for output in entry["outputs"].values() for kind in ("images", "files") for file in output.get(kind, ())
    ]
    return [base / file["type"] / file["subfolder"] / file["filename"] for file in files]
