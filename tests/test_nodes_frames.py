"""The nodes go through a batch frame by frame: same pictures, little memory, and Cancel works. In the real ComfyUI."""

import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy

NODES = (
    "colors",
    "colors of a batch",
    "colors of a batch's percentiles",
    "normals",
    "grays",
    "masked colors",
    "masked grays of a batch",
    "grays of a batch",
    "geometry",
    "files",
    "files of a batch",
    "depth image",
    "depth of pictures",
)


@pytest.fixture(scope="module")
def facts(tmp_path_factory):
    return ask("comfyui_frames_facts.py", tmp_path_factory.mktemp("scratch"))


def test_frame_by_frame_the_pictures_are_those_of_the_whole_batch_with_every_range(facts):
    assert len(facts["differences"]) == 10
    for view, difference in facts["differences"].items():  # a convolution rounds otherwise for one frame than for many
        assert difference < (1e-4 if view == "normals" else 1e-6), view


def test_a_batch_without_any_range_is_nearest_everywhere(facts):
    assert facts["constant"] == [[0.0], [1.0]]


@pytest.mark.parametrize("node", NODES)
def test_cancel_ends_a_node_before_the_next_frame(facts, node):
    assert facts["cancelled"][node] == ["InterruptProcessingException", [1, 2]]


def test_what_was_saved_before_a_cancel_stays(facts):
    assert facts["files_at_cancel"] == 2


@pytest.mark.parametrize("node", NODES)
def test_the_bar_counts_the_frames(facts, node):
    assert facts["bar"][node] == [[frame, 5] for frame in range(1, 6)]


@pytest.mark.parametrize("node", ["sampler", "adaptive sampler", "decode"])
def test_the_bar_of_a_node_that_makes_depth_goes_one_way_and_up_to_its_end(facts, node):
    bar = facts["bar_of_whole_nodes"][node]
    assert bar == sorted(bar) and len(bar) > 5
    assert bar[-1] == 1 or node == "adaptive sampler"  # whose calls nobody can count before


def test_pictures_and_masks_lie_where_core_puts_its_own_and_depth_data_on_the_cpu(facts):
    assert facts["core_puts_its_own_on_meta"] == ["meta", "meta", "cpu"]


@pytest.mark.parametrize("node", NODES)
def test_beside_its_result_a_node_needs_the_memory_of_one_frame_however_many_there_are(facts, node):
    few, many = facts["planes_beside_the_result"][node]
    assert many < few + 0.5
    assert many < 60


def test_an_estimate_keeps_the_maps_of_each_frame_and_no_more_and_no_uncertainty_of_a_single_member(facts):
    assert facts["planes_of_estimate"] == pytest.approx([1, 2], abs=0.1)


def test_the_samplers_outputs_hold_no_zeros_for_what_a_single_member_does_not_know(facts):
    """Three planes of picture and one map; the uncertainty, and the mask that is made of it, of an ensemble only."""
    black = 64 * 64 / (60 * 77)  # of a single member
    assert facts["planes_of_outputs"] == pytest.approx([4 + black, 6], abs=0.1)


def test_without_an_ensemble_the_mask_is_load_images_for_a_picture_without_alpha_and_else_the_uncertainty(facts):
    assert facts["masks"] == {"alone": [[2, 64, 64], False], "ensemble": True, "own memory": True}
