"""What depends on the ComfyUI around the pack: nodes for newer versions only, its command line, links to menus."""

import numpy as np
import pytest

from .comfyui_process import ask

pytestmark = pytest.mark.comfy


RARELY_USED = {
    "DepthFM_LoadModel": ["attention"],
    "DepthFM_Sampler": ["grid", "reduction", "frames_at_once"],
    "DepthFM_Decode": ["reduction"],
    "DepthFM_FromImage": [],
    "DepthFM_Colorize": ["low_percentile", "high_percentile", "nearest", "farthest"],
    "DepthFM_Normal": ["focal_px"],
    "DepthFM_ControlNetImage": ["low_percentile", "high_percentile", "nearest", "farthest"],
    "DepthFM_Save": ["nearest", "farthest"],
    "DepthFM_Geometry": ["focal_px"],
}


@pytest.fixture(scope="module")
def scratch(tmp_path_factory):
    return tmp_path_factory.mktemp("scratch")


@pytest.fixture(scope="module")
def facts(scratch):
    return ask("comfyui_view_facts.py", scratch)


def test_the_geometry_node_is_offered_exactly_where_comfyui_has_the_moge_nodes(facts):
    assert facts["offered_without"] == facts["comfyui_has_moge"]
    assert facts["offered_with"]


def test_exactly_the_rarely_used_inputs_are_advanced_where_comfyui_knows_the_word(facts):
    assert facts["advanced"]["where_it_is_known"] == RARELY_USED
    here = facts["advanced"]["here"]
    assert here == {name: RARELY_USED[name] for name in here} or not any(here.values())


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


@pytest.mark.parametrize(("values", "nearest"), [("depth", 0), ("near white", 65535), ("disparity", 65535)])
def test_over_a_batch_equal_log_depth_is_the_same_16_bit_value_in_both_files(facts, values, nearest):
    first, second = facts["equal_depth"][f"{values}, batch"]
    assert first[1:-1] == second[1:-1] and len(set(first)) == 20
    assert first[0] == nearest != second[0]  # the nearest point of all is in the first file only
    one, other = facts["equal_depth"][f"{values}, per image"]
    assert one[0] == other[0] == nearest and one[1:-1] != other[1:-1]


@pytest.mark.parametrize("view", ["grays", "depth", "near white", "depth image", "disparity"])
def test_the_clips_of_a_cut_video_fit_together_in_a_fixed_range(facts, view):
    clips = facts["clips"][view]
    assert clips["fixed range is the core's"] < 1 / 65535
    assert clips["clips are as in the whole"] == {"batch": False, "fixed range": True}


def test_a_fixed_range_without_extent_is_refused_where_it_is_used_and_nothing_is_written(facts):
    for values, message in facts["no_extent"]["refused"].items():
        assert "must have nearest < farthest, but 0.5 and 0.5 came" in message, values
    assert facts["no_extent"]["files"] == [] and facts["no_extent"]["where it is not used"] == 2


def test_the_graph_is_saved_unless_comfyui_was_told_not_to(facts):
    assert facts["texts"] == {"usual": {"prompt": '{"a": 1}', "workflow": "[2]"}, "disable_metadata": {}}


def test_save_depth_hands_on_the_depth_that_it_saved(facts):
    assert facts["handed_on"]


def test_a_choice_that_comes_by_a_link_is_checked_when_it_comes(facts):
    assert facts["linked"]["passes before the run"]
    assert "choose the format exr or npy" in facts["linked"]["at the run"]
    assert "Unknown noise 'per_frame'; choose one of shared, per frame" in facts["linked"]["noise"]


def test_a_date_is_written_as_comfyuis_front_end_writes_it(facts):
    """Expected: what `formatDate` of comfyui_frontend_package 1.32.9 gives for this time."""
    assert facts["dates"] == {
        "%date:yyyy-MM-dd%/x": "2026-03-04/x",
        "%date:yy.M.d%_%date:hhmmss%": "26.3.4_050607",
        "%date:h-m-s%": "5-6-7",
        "%date:y MMM%": "y 033",
        "%year%_%width%": "%year%_%width%",
        "100% %date:yyyy%": "100% 2026",
    }


def test_a_nodes_title_or_type_and_a_widget_in_a_prefix_become_its_value(facts):
    """Expected: what becomes "_" in a value is that of `applyTextReplacements`, comfyui_frontend_package 1.32.9."""
    assert {prefix: written for prefix, (written, _) in facts["widgets"].items()} == {
        "%DepthFM_Sampler.seed%": "0",
        "x/%Two.seed%_%Two.cfg%": "x/1_1.5",
        "%KSampler.seed%": "3",  # a title goes before a type
        "%Photo: one.image%": "a_b_c_.png [input]",
        "%Two.model%": "%Two.model%",
        "%Two.steps%": "%Two.steps%",
        "%Three.seed%": "%Three.seed%",
        "%date:yy.MM%": "%date:yy.MM%",
        "50% of %Two.seed%": "50% of 1",
        "%Two.seed": "%Two.seed",
    }
    assert all(prefix == written for prefix, (_, written) in facts["widgets"].items())


def test_a_prefix_with_a_colon_that_comes_by_a_link_is_refused_when_it_comes(facts):
    assert "names on Windows hold no ':'" in facts["linked"]["colon"]


@pytest.mark.usefixtures("facts")
def test_without_the_package_openexr_pyav_writes_the_same_values_and_the_graph_lies_beside_them(scratch):
    OpenEXR = pytest.importorskip("OpenEXR")
    files = {path.name for path in (scratch / "pyav").iterdir()}
    assert files == {
        f"{kind}_0000{n}_.{ending}" for kind in ("exr", "npy") for n in (1, 2) for ending in (kind, "json")
    }
    for number in (1, 2):
        written = scratch / "pyav" / f"exr_0000{number}_.exr"
        with OpenEXR.File(str(written)) as file:
            channels = {name: channel.pixels for name, channel in file.channels().items()}
        assert list(channels) == ["Y"] and channels["Y"].dtype == np.float32
        assert np.array_equal(channels["Y"], np.load(scratch / "pyav" / f"npy_0000{number}_.npy"))
        assert written.with_suffix(".json").read_text(encoding="utf-8") == "[2]"


def test_with_neither_openexr_nor_pyav_saving_an_exr_says_what_to_install_and_writes_nothing(facts):
    message, written = facts["no_exr"]
    assert "Writing EXR needs the package av (PyAV)" in message and "`pip install -U OpenEXR`" in message
    assert "choose the format npy" in message and written == []
