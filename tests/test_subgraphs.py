"""The blueprints in `subgraphs/`, which ComfyUI offers as nodes, held to the nodes inside.

Their form is that of ComfyUI's own blueprints: one node, which is an instance of the one definition.
`test_workflows.py` runs them.
"""

import json
from pathlib import Path

import pytest

from .workflows import BLUEPRINTS, SUBGRAPHS, read_blueprint

INPUT_NODE, OUTPUT_NODE = -10, -20
PROMISED = json.loads(Path(__file__).with_name("interfaces.json").read_text(encoding="utf-8"))
WIDGETS = {"INT", "FLOAT", "COMBO", "BOOLEAN", "STRING"}

pytestmark = pytest.mark.parametrize("name", BLUEPRINTS)


def definition_of(name):
    (definition,) = read_blueprint(name)["definitions"]["subgraphs"]
    return definition


def inner_nodes(name):
    return {node["id"]: node for node in definition_of(name)["nodes"]}


def widgets_of(node):
    """The promised options of each widget of a node, in the order of its values; the seed's control has a name too."""
    widgets = {}
    for _, name, kind, options in PROMISED[node["type"]]["inputs"]:
        if kind in WIDGETS:
            widgets[name] = options
            if options.get("control_after_generate"):
                widgets["control"] = {"options": ["fixed", "increment", "decrement", "randomize"], "default": "fixed"}
    return widgets


def slots_of(definition, end, id):
    """The slots that a link from ("origin") or to ("target") a node has, those of the subgraph's own ends included."""
    if id in (INPUT_NODE, OUTPUT_NODE):
        return definition["inputs"] if id == INPUT_NODE else definition["outputs"]
    (node,) = (node for node in definition["nodes"] if node["id"] == id)
    return node["outputs"] if end == "origin" else node["inputs"]


def links_at(slot):
    """The numbers of the links at a slot, in each of the forms that slots have."""
    found = slot.get("linkIds", slot.get("links", slot.get("link")))
    return found if isinstance(found, list) else [] if found is None else [found]


def test_the_folder_holds_these_files_and_their_text_is_ascii(name):
    """ComfyUI opens them without naming an encoding."""
    assert sorted(file.name for file in SUBGRAPHS.iterdir()) == sorted(f"{name}.json" for name in BLUEPRINTS)
    assert (SUBGRAPHS / f"{name}.json").read_text(encoding="utf-8").isascii()


def test_the_graph_is_one_node_of_the_definition_with_its_name_and_slots(name):
    blueprint, definition = read_blueprint(name), definition_of(name)
    (node,) = blueprint["nodes"]
    assert (blueprint["version"], blueprint["links"], definition["version"]) == (0.4, [], 1)
    assert node["type"] == definition["id"] and node["title"] == definition["name"] == name
    for side in ("inputs", "outputs"):
        one, other = ([(slot["name"], slot["type"]) for slot in owner[side]] for owner in (node, definition))
        assert one == other
    assert "DepthFM" in definition["description"] and definition["category"] == "Preprocessors/Depth"


def test_every_link_leads_from_a_slot_to_a_slot_of_its_type_and_both_know_of_it(name):
    definition = definition_of(name)
    for link in definition["links"]:
        for end in ("origin", "target"):
            slot = slots_of(definition, end, link[f"{end}_id"])[link[f"{end}_slot"]]
            assert link["id"] in links_at(slot)
            assert set(slot["type"].split(",")) & set(link["type"].split(","))
    slots = [slot for node in definition["nodes"] for slot in (*node["inputs"], *node["outputs"])]
    named = [number for slot in (*slots, *definition["inputs"], *definition["outputs"]) for number in links_at(slot)]
    assert sorted(named) == sorted(2 * [link["id"] for link in definition["links"]])


def test_the_nodes_inside_have_the_promised_slots_and_a_value_for_each_widget_which_is_the_default(name):
    for node in inner_nodes(name).values():
        promised = PROMISED[node["type"]]
        assert sorted(slot["name"] for slot in node["inputs"]) == sorted(i[1] for i in promised["inputs"])
        assert [[slot["type"], slot["name"]] for slot in node["outputs"]] == promised["outputs"]
        widgets = widgets_of(node)
        for value, (widget, options) in zip(node["widgets_values"], widgets.items(), strict=True):
            assert value == ("nano" if widget == "model_name" else options["default"]), widget


def test_what_is_set_outside_is_what_is_set_inside(name):
    (outer,), definition, nodes = read_blueprint(name)["nodes"], definition_of(name), inner_nodes(name)
    inside = []
    for link in sorted(definition["links"], key=lambda link: link["origin_slot"]):
        if link["origin_id"] == INPUT_NODE:
            target = nodes[link["target_id"]]
            widget = target["inputs"][link["target_slot"]].get("widget")
            if widget:
                inside.append(target["widgets_values"][list(widgets_of(target)).index(widget["name"])])
    assert outer["widgets_values"] == inside
    assert len(inside) == sum("widget" in slot for slot in outer["inputs"]) >= 4
