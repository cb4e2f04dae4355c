"""Which frames of a recipe's data sets are trained on, and which are held out for checks."""

import dataclasses
import shutil

import pytest

from depthfm_core.training import sources
from depthfm_core.training.frames import split_frames
from depthfm_core.training.held_out import find_complete_frames, source_frames
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.sources import KINDS, DataSetSettings
from depthfm_core.training.stages import run_recipe

from .rgbd_files import write_list
from .test_training_recipe import with_frames, write_toy
from .training_trees import HYPERSIM, VKITTI2, names, write_pairs, write_rooms_and_streets


@pytest.fixture
def output(tmp_path):
    write_rooms_and_streets(tmp_path)
    return tmp_path


def split_names(settings, output):
    """The names of the frames to train on, and of one that is held out."""
    return [names(frames) for frames in source_frames(settings, output, 1)]


def test_frames_are_held_out_evenly_of_the_scenes_that_the_data_set_keeps_for_that(output):
    train, held_out = source_frames(HYPERSIM, output, 2)
    assert names(train) == [f"ai_001_001/cam_00/000{n}" for n in range(4)]
    assert names(held_out) == ["ai_002_001/cam_00/0000", "ai_002_001/cam_00/0002"]
    assert len(source_frames(HYPERSIM, output, 100)[1]) == 5
    assert split_names(dataclasses.replace(HYPERSIM, held_out_split="val"), output) == split_names(HYPERSIM, output)
    weathers = dataclasses.replace(VKITTI2, variations=("clone", "fog"))
    shown = [{name.split("/")[0] for name in part} for part in split_names(weathers, output)]
    assert shown == [{"Scene02", "Scene06", "Scene18", "Scene20"}, {"Scene01"}]  # one view has every weather


def test_the_first_frames_are_held_out_where_a_data_set_has_no_splits(tmp_path):
    write_pairs(tmp_path / "photos", "a", "b", "c")
    photos = DataSetSettings("pairs", "photos")
    assert split_names(photos, tmp_path) == [["b", "c"], ["a"]]
    write_list(tmp_path / "list.txt", "c", "a")
    assert split_names(dataclasses.replace(photos, frame_list="list.txt"), tmp_path) == [["a"], ["c"]]
    with pytest.raises(ValueError, match="3 frames and 3 are held out"):
        source_frames(photos, tmp_path, 3)


def test_frames_of_a_list_are_held_out_and_none_of_it_is_trained_on(output):
    write_pairs(output / "photos", "a", "b", "c", "d")
    write_list(output / "held_out.txt", "d", "b")
    photos = DataSetSettings("pairs", "photos", held_out_list="held_out.txt")
    assert split_names(photos, output) == [["a", "c"], ["d"]]
    write_list(output / "list.txt", "c", "d")
    assert split_names(dataclasses.replace(photos, frame_list="list.txt"), output) == [["c"], ["d"]]
    rooms = dataclasses.replace(HYPERSIM, held_out_list="rooms.txt")  # for who has a part of the scenes
    write_list(output / "rooms.txt", "ai_001_001/rgb_cam_00_fr0002.png")
    assert split_names(rooms, output)[1] == ["ai_001_001/cam_00/0002"] and len(split_names(rooms, output)[0]) == 3
    with pytest.raises(ValueError, match="list.txt names all frames of pairs; leave some"):
        source_frames(dataclasses.replace(photos, held_out_list="list.txt", frame_list="list.txt"), output, 1)
    with pytest.raises(ValueError, match="frames to hold out of pairs, held_out_list 'none.txt': There is no split"):
        source_frames(dataclasses.replace(photos, held_out_list="none.txt"), output, 1)
    with pytest.raises(ValueError, match="hypersim has held_out_split and held_out_list; set one"):
        dataclasses.replace(rooms, held_out_split="val")


def test_frames_of_scenes_that_are_held_out_are_not_trained_on(output):
    for settings in (
        dataclasses.replace(HYPERSIM, held_out_split="train"),
        dataclasses.replace(HYPERSIM, split="val"),
        dataclasses.replace(VKITTI2, held_out_split="train"),
    ):
        with pytest.raises(ValueError, match="would train on . frames of scenes that held-out frames are taken"):
            source_frames(settings, output, 1)
    write_list(output / "list.txt", *(f"Scene{n}/fog/frames/rgb/Camera_0/rgb_00000.jpg" for n in ("01", "02")))
    with pytest.raises(ValueError, match="on 1 frames .*, as Scene01/fog/Camera_0/00000; .*out of frame_list"):
        source_frames(dataclasses.replace(VKITTI2, frame_list="list.txt"), output, 1)


def test_missing_frames_to_hold_out_are_told_as_such(output):
    shutil.rmtree(output / "vkitti2" / "Scene01")
    with pytest.raises(ValueError, match="of vkitti2, held_out_split 'val': .*Scene01.* others in a held_out_list"):
        source_frames(VKITTI2, output, 1)
    shutil.rmtree(output / "hypersim" / "val")
    with pytest.raises(ValueError, match="of hypersim, held_out_split 'val': .*name others in a held_out_list"):
        source_frames(HYPERSIM, output, 1)


def test_streets_without_the_scene_of_val_are_held_out_by_a_list(output):
    shutil.rmtree(output / "vkitti2" / "Scene01")
    write_list(output / "held_out.txt", *(f"Scene20/clone/frames/rgb/Camera_{n}/rgb_00000.jpg" for n in (0, 1)))
    train, held_out = split_names(dataclasses.replace(VKITTI2, held_out_list="held_out.txt"), output)
    assert {name.split("/")[0] for name in train} == {"Scene02", "Scene06", "Scene18"} and len(train) == 6
    assert held_out == ["Scene20/clone/Camera_0/00000"]


def test_a_list_and_a_split_choose_the_frames(output):
    listed = dataclasses.replace(HYPERSIM, frame_list="list.txt")
    write_list(output / "list.txt", "ai_001_001/rgb_cam_00_fr0002.png ai_001_001/depth_plane_cam_00_fr0002.png")
    assert names(source_frames(listed, output, 0)[0]) == ["ai_001_001/cam_00/0002"]
    other = dataclasses.replace(HYPERSIM, split="val", held_out_split="train")
    assert len(source_frames(other, output, 0)[0]) == 5


def test_frames_with_holes_are_left_out_on_demand_and_looked_for_once(output, monkeypatch):
    complete = dataclasses.replace(HYPERSIM, complete_only=True)
    with pytest.raises(ValueError, match="run stage frames first"):
        source_frames(complete, output, 0)
    find_complete_frames(complete, output)
    assert names(source_frames(complete, output, 0)[0]) == ["ai_001_001/cam_00/0001", "ai_001_001/cam_00/0003"]
    monkeypatch.setattr(sources.hypersim, "is_complete", lambda _: pytest.fail("read again"))
    find_complete_frames(complete, output)
    with pytest.raises(ValueError, match="of another root, split or frame_list; run stage frames"):
        source_frames(dataclasses.replace(complete, split="val"), output, 0)
    monkeypatch.setattr(sources.hypersim, "is_complete", lambda _: True)
    other = dataclasses.replace(complete, split="val", held_out_split="train")
    find_complete_frames(other, output)
    assert len(source_frames(other, output, 0)[0]) == 5


def test_a_list_of_complete_frames_that_names_none_that_is_there_is_refused(output):
    complete = dataclasses.replace(HYPERSIM, complete_only=True)
    find_complete_frames(complete, output)
    path = output / "lists" / "hypersim.txt"
    path.write_text(path.read_text(encoding="utf-8").replace("ai_", "bi_"), encoding="utf-8")
    with pytest.raises(ValueError, match="delete that file"):
        source_frames(complete, output, 0)


def test_stage_frames_looks_for_complete_frames(output):
    text = '[frames]\nfolders = []\nheld_out = 1\n[[frames.datasets]]\nkind = "hypersim"\nroot = "hypersim"\n'
    recipe = read_recipe(write_toy(output, with_frames(text + "complete_only = true\n")))
    run_recipe(recipe, output, "frames")
    train, held_out = split_frames(recipe.frames, output)
    assert names(train) == ["ai_001_001/cam_00/0001", "ai_001_001/cam_00/0003"] and len(held_out) == 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_wrong_root_is_told_with_where_a_recipes_paths_start(tmp_path, kind):
    with pytest.raises(ValueError, match="There is no folder .*with the data set mine") as relative:
        source_frames(DataSetSettings(kind, "mine", "mine"), tmp_path, 1)
    assert str(tmp_path / "mine") in str(relative.value)
    assert f"relative path in a recipe starts at the output folder, {tmp_path}." in str(relative.value)
    assert "fetch" not in str(relative.value)
    with pytest.raises(ValueError, match="There is no folder .*with the data set mine") as absolute:
        source_frames(DataSetSettings(kind, str(tmp_path / "mine"), "mine"), tmp_path, 1)
    assert "relative" not in str(absolute.value)
