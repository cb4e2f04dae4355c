"""The memory that the nodes ask for against what they use, counted from live tensors. Inside the real ComfyUI."""

import pytest

from .comfyui_process import ask

pytestmark = [pytest.mark.comfy, pytest.mark.slow]  # most of a minute: many sizes, each with a call


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_memory_facts.py", tmp_path_factory.mktemp("models"))


def within_a_quarter(ratios):
    """Those that are not."""
    return {case: ratio for case, ratio in ratios.items() if abs(ratio - 1) > 0.25}


def test_the_estimate_of_the_network_is_within_a_quarter_of_what_it_uses(facts, record_property):
    record_property("ratios", facts["networks"])
    assert len(facts["networks"]) == 20
    assert not within_a_quarter(facts["networks"])


def test_with_fused_attention_the_estimate_of_the_published_network_is_exact(facts):
    fused = {case: r for case, r in facts["networks"].items() if case.startswith("published attention_pytorch")}
    assert len(fused) == 7
    assert all(ratio == pytest.approx(1, abs=0.02) for ratio in fused.values())


def test_the_loaded_model_asks_for_what_its_call_uses(facts):
    assert facts["asked_by_the_model"] == pytest.approx(1, abs=0.25)


def test_the_estimate_of_a_models_own_autoencoder_is_within_a_quarter_of_what_it_uses(facts, record_property):
    record_property("ratios", facts["autoencoders"])
    assert len(facts["autoencoders"]) == 12
    assert not within_a_quarter(facts["autoencoders"])


def test_a_foreign_vae_asks_for_what_it_likes_and_members_follow_what_its_decoder_takes(facts):
    assert facts["asked_by_a_foreign_vae"] == 123
    assert facts["decoder_of_a_foreign_vae"] == 1


def test_on_a_cpu_attention_is_fused_unless_the_user_asked_for_another(facts):
    assert facts["override"] == ["_fused_attention", None]
    assert facts["fused"] and facts["unfused_when_asked"]


def test_memory_does_not_grow_with_the_ensemble(facts):
    assert facts["peaks"]["10"] == pytest.approx(facts["peaks"]["2"], rel=0.1)
