"""The node pack in the real ComfyUI, whose networks it computes with, needs no diffusers."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_import_facts.py", tmp_path_factory.mktemp("models"))


def test_comfyuis_start_does_not_import_diffusers(facts):
    assert not facts["imported_at_the_start"]


@pytest.mark.parametrize("model", ["nano", "kl", "kl in LDM's names"])
def test_a_model_gives_the_same_depth_where_diffusers_cannot_be_imported(facts, model):
    assert facts["differences"][model] < 1e-4


@pytest.mark.parametrize("fault", ["missing", "extra", "shape", "integers"])
@pytest.mark.parametrize(("inside", "tensor"), [("tiny", "decoder.layers.0.weight"), ("kl", "decoder.conv_in.weight")])
def test_a_wrong_tensor_of_the_autoencoder_inside_is_named(facts, inside, tensor, fault):
    kind, text = facts["refused"][f"{inside} {fault}"]
    said = {"extra": "unexpected", "shape": "of another shape", "integers": "not plain floating point"}
    assert kind == "CheckpointError" and said.get(fault, fault) in text and tensor in text


@pytest.mark.parametrize("inside", ["tiny", "kl"])
def test_an_autoencoder_of_another_kind_is_refused(facts, inside):
    kind, text = facts["refused"][f"{inside} kind"]
    assert kind == "CheckpointError" and "VQModel" in text


@pytest.mark.parametrize(
    ("fault", "said"),
    [("groups", "norm_num_groups is 16, not 32"), ("levels", "3 levels"), ("layers", "fits no AutoencoderKL")],
)
def test_a_configuration_that_comfyuis_network_would_not_follow_is_refused(facts, fault, said):
    kind, text = facts["refused"][f"kl {fault}"]
    assert kind == "CheckpointError" and said in text
