"""Virtual KITTI 2 with its two archives merged and side by side."""

import numpy as np
import pytest

from depthfm_core.data import vkitti2
from depthfm_core.training.target import NormalizationSettings, normalize_target

from .rgbd_files import write_list, write_numbered_picture, write_picture
from .training_trees import write_vkitti2

LINE = "rgb/Scene02/clone/frames/rgb/Camera_0/rgb_00000.jpg depth/Scene02/clone/frames/depth/Camera_0/depth_00000.png"


def write_tree(root, layout="merged"):
    """Two frames of every scene, variation and camera, numbered from behind."""
    for scenes in vkitti2.SPLITS.values():
        for scene in scenes:
            for variation in vkitti2.VARIATIONS:
                for camera in (0, 1):
                    for number in (3, 1):
                        write_vkitti2(root, scene, variation, camera, number, layout=layout, size=(1, 1))


@pytest.mark.parametrize("layout", ["merged", "side by side"])
def test_four_scenes_in_six_variations_from_two_cameras_are_for_training(tmp_path, layout):
    write_tree(tmp_path, layout)
    entries = vkitti2.list_entries(tmp_path)
    names = [entry.name for entry in entries]
    assert len(names) == len(set(names)) == 4 * 6 * 2 * 2
    assert {name.split("/")[0] for name in names} == {"Scene02", "Scene06", "Scene18", "Scene20"}
    assert {name.split("/")[1] for name in names} == set(vkitti2.MARIGOLD_VARIATIONS)
    assert names[:3] == [f"Scene02/15-deg-left/Camera_{c}/{n}" for c, n in ((0, "00001"), (0, "00003"), (1, "00001"))]
    assert all(entry.image.is_file() and entry.depth.is_file() for entry in entries)


def test_the_rest_is_for_validation_and_variations_can_be_chosen(tmp_path):
    write_tree(tmp_path)
    assert {entry.name.split("/")[0] for entry in vkitti2.list_entries(tmp_path, "val")} == {"Scene01"}
    chosen = vkitti2.list_entries(tmp_path, "train", ["rain", "fog"])
    assert [entry.name.split("/")[1] for entry in chosen[:8]] == ["fog"] * 4 + ["rain"] * 4
    assert len(chosen) == 4 * 2 * 2 * 2


@pytest.mark.parametrize("layout", ["merged", "side by side"])
def test_a_list_names_the_frames_of_both_layouts(tmp_path, layout):
    image = write_vkitti2(tmp_path, "Scene02", "clone", 0, 0, layout=layout)
    (entry,) = vkitti2.list_entries(tmp_path, listed=write_list(tmp_path / "list.txt", LINE))
    assert (entry.name, entry.image) == ("Scene02/clone/Camera_0/00000", image)


def test_depth_is_in_centimetres_and_the_sky_and_80_metres_are_out_of_range(tmp_path):
    units = np.array([[0, 1, 2000, 7999, 8000, 65535]])
    write_vkitti2(tmp_path, "Scene01", "clone", 0, 0, units)
    (entry,) = vkitti2.list_entries(tmp_path, listed=write_list(tmp_path / "l.txt", LINE.replace("Scene02", "Scene01")))
    sample = vkitti2.read(entry)
    assert sample.depth_m[0, 0].tolist() == pytest.approx([0, 0.01, 20, 79.99, 80, 655.35])
    assert sample.valid[0, 0].tolist() == [False, True, True, True, False, False]
    # What is out of range becomes the far plane and does not stretch the range of the rest.
    whole = NormalizationSettings(0.0, 100.0)
    assert normalize_target(sample.depth_m, sample.valid, whole)[0, 0].tolist() == pytest.approx(
        [1, -1, 2 * np.log(2000) / np.log(7999) - 1, 1, 1, 1], abs=1e-5
    )


def test_the_crop_is_the_lowest_352_rows_and_the_middle_1216_columns(tmp_path):
    rows, columns = np.mgrid[:375, :1242]
    image = write_vkitti2(tmp_path, "Scene02", "clone", 0, 0, rows * 20 + columns % 20)
    write_numbered_picture(image.with_suffix(".png"), 375, 1242)
    image.with_suffix(".png").replace(image)  # Pillow goes by content; a JPEG would blur the numbers
    (entry,) = vkitti2.list_entries(tmp_path, listed=write_list(tmp_path / "list.txt", LINE))
    whole, cropped = vkitti2.read(entry), vkitti2.read(entry, crop=True)
    assert whole.image.shape == (3, 375, 1242) and cropped.image.shape == (3, 352, 1216)
    assert (cropped.image[:2, 0, 0] * 255).tolist() == pytest.approx([13, 23])  # 1242 - 1216 = 2 * 13, 375 - 352 = 23
    assert cropped.depth_m[0, 0, 0] * 100 == pytest.approx(23 * 20 + 13)
    assert cropped.depth_m[0, 351, 1215] * 100 == pytest.approx(374 * 20 + 1228 % 20)
    assert cropped.valid.shape == (1, 352, 1216)


@pytest.mark.parametrize("crop", [False, True])
def test_a_depth_map_of_another_size_is_named_also_when_both_are_cropped(tmp_path, crop):
    image = write_vkitti2(tmp_path, "Scene02", "clone", 0, 0, np.full((375, 1242), 2000))
    write_picture(image, 380, 1250)
    (entry,) = vkitti2.list_entries(tmp_path, listed=write_list(tmp_path / "list.txt", LINE))
    with pytest.raises(ValueError, match="rgb_00000.jpg is 1250x380 pixels, but its depth map is 1242x375"):
        vkitti2.read(entry, crop=crop)


def test_what_is_missing_or_unknown_is_named(tmp_path):
    with pytest.raises(ValueError, match="nothing of Virtual KITTI 2.*Scene02/15-deg-left"):
        vkitti2.list_entries(tmp_path)
    write_tree(tmp_path)
    with pytest.raises(ValueError, match="'test'.*train, val"):
        vkitti2.list_entries(tmp_path, "test")
    with pytest.raises(ValueError, match=r"\['snow'\].*clone.*fog"):
        vkitti2.list_entries(tmp_path, "train", ["clone", "snow"])
    with pytest.raises(ValueError, match="choose out of"):
        vkitti2.list_entries(tmp_path, "train", [])
    with pytest.raises(ValueError, match="'one' in .*rgb_00000.jpg"):
        vkitti2.list_entries(tmp_path, listed=write_list(tmp_path / "list.txt", "one two"))
    (tmp_path / "Scene20/sunset/frames/depth/Camera_1/depth_00003.png").unlink()
    with pytest.raises(ValueError, match=r"looked for .*Camera_1/depth_00003\.png"):
        vkitti2.list_entries(tmp_path)
