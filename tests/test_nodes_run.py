"""What a run of the nodes asks of ComfyUI and tells it, with stand-ins for a GPU and its lack of memory."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_run_facts.py", tmp_path_factory.mktemp("models"))


def test_a_run_takes_every_number_of_the_models_file(facts):
    found, expected = facts["numbers_of_the_file"]
    assert found == expected


def test_on_a_gpu_a_run_has_the_memory_beside_the_models_own_weights(facts):
    assert facts["memory_on_a_gpu"] == 700


def test_what_had_room_for_one_group_of_frames_is_what_the_next_ones_begin_with(facts):
    assert facts["members_of_groups"] == [4] + 3 * [2, 2]  # it fails once in all


def test_memory_is_given_back_before_less_of_it_is_tried(facts):
    assert facts["emptied"] == [8, "emptied", 4, "emptied", 2]


def test_the_patcher_hears_of_a_runs_begin_and_end_also_when_the_network_fails(facts):
    assert facts["announced"] == [["pre_run", "network", "cleanup"]] * 2


def test_attention_multiplies_in_float32_since_the_logits_overflow_float16(facts):
    assert facts["attention_precisions"] == ["torch.float32"]
