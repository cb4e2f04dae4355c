"""The node pack in the real ComfyUI, whose networks it computes with, needs no diffusers."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_import_facts.py", tmp_path_factory.mktemp("models"))


def test_comfyuis_start_does_not_import_diffusers(facts):
    assert not facts["imported_at_the_start"]


def test_nano_gives_the_same_depth_where_diffusers_cannot_be_imported(facts):
    assert facts["difference"] < 1e-4


@pytest.mark.parametrize("fault", ["missing", "extra", "shape"])
def test_a_wrong_tensor_of_the_autoencoder_inside_is_named(facts, fault):
    kind, text = facts["refused"][fault]
    assert kind == "CheckpointError" and fault in text and "decoder.layers.0.weight" in text


def test_an_autoencoder_of_another_kind_is_refused(facts):
    kind, text = facts["refused"]["another kind"]
    assert kind == "CheckpointError" and "VQModel" in text
