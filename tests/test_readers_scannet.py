"""ScanNet's sampled frames in Marigold's archive and as its exporter writes them."""

import numpy as np
import pytest
from PIL import Image

from depthfm_core.data import scannet

from .rgbd_files import write_list, write_picture, write_png16

LINES = (
    "scene0406_02/color/000300.jpg scene0406_02/depth/000300.png",
    "scene0015_00/color/000000.jpg scene0015_00/depth/000000.png",
)


def write_frames(root, digits, size=(480, 640)):
    for scene, number in (("scene0406_02", 300), ("scene0015_00", 0)):
        write_picture(root / scene / "color" / f"{number:0{digits}d}.jpg", *size, color=(128, 128, 128))
        write_png16(root / scene / "depth" / f"{number:0{digits}d}.png", np.full((480, 640), 1234))


def test_the_lists_order_is_kept_and_without_it_frames_come_by_scene(tmp_path):
    write_frames(tmp_path, digits=6)
    names = ["scene0406_02/color/000300", "scene0015_00/color/000000"]
    listed = scannet.list_entries(tmp_path, write_list(tmp_path / "list.txt", *LINES))
    assert [entry.name for entry in listed] == names
    assert scannet.list_entries(tmp_path) == listed[::-1]


def test_depth_is_in_thousandths_between_one_millimetre_and_ten_metres_both_excluded(tmp_path):
    write_frames(tmp_path, digits=6)
    units = np.full((480, 640), 1234)
    units[0, :6] = 0, 1, 2, 9999, 10000, 65535
    write_png16(tmp_path / "scene0015_00/depth/000000.png", units)
    sample = scannet.read(scannet.list_entries(tmp_path)[0])
    assert sample.valid[0, 0, :6].tolist() == [False, False, True, True, False, False]
    assert sample.valid.sum() == 480 * 640 - 4
    assert sample.depth_m[0, 7, 7].item() == pytest.approx(1.234)


def test_the_same_list_finds_exported_frames_and_keeps_their_names(tmp_path):
    write_frames(tmp_path, digits=1)
    entries = scannet.list_entries(tmp_path, write_list(tmp_path / "list.txt", *LINES))
    assert [entry.name for entry in entries] == ["scene0406_02/color/000300", "scene0015_00/color/000000"]
    assert entries[0].image == tmp_path / "scene0406_02/color/300.jpg"
    assert entries[1].depth == tmp_path / "scene0015_00/depth/0.png"


def test_exported_scenes_need_the_list_because_they_hold_every_frame(tmp_path):
    write_frames(tmp_path, digits=1)
    with pytest.raises(ValueError, match=r"needs a split list.*scannet_val_sampled_list_800_1\.txt"):
        scannet.list_entries(tmp_path)


def test_a_larger_exported_picture_is_scaled_to_the_depth_map_which_stays_as_it_is(tmp_path):
    write_frames(tmp_path, digits=1, size=(968, 1296))
    sample = scannet.read(scannet.list_entries(tmp_path, write_list(tmp_path / "list.txt", *LINES))[0])
    assert sample.image.shape == (3, 480, 640)
    assert (sample.image - 128 / 255).abs().max() < 1e-5
    assert (sample.depth_m == np.float32(1.234)).all()


@pytest.mark.parametrize("size", [(640, 480), (240, 320), (1296, 968), (720, 1280)])
def test_a_picture_that_is_rotated_or_smaller_or_of_another_shape_is_refused(tmp_path, size):
    write_frames(tmp_path, digits=6, size=size)
    with pytest.raises(ValueError, match=rf"color.000000\.jpg is {size[1]}x{size[0]} .* depth map is 640x480"):
        scannet.read(scannet.list_entries(tmp_path)[0])


def test_scaling_down_averages_stripes_that_are_finer_than_the_depth_map(tmp_path):
    stripes = np.zeros((1440, 1920, 3), np.uint8)
    stripes[:, ::3] = 240
    write_frames(tmp_path, digits=1)
    Image.fromarray(stripes).save(tmp_path / "scene0406_02/color/300.jpg", quality=100, subsampling=0)
    sample = scannet.read(scannet.list_entries(tmp_path, write_list(tmp_path / "list.txt", *LINES))[0])
    assert sample.image[:, 5:-5, 5:-5].mean().item() == pytest.approx(80 / 255, abs=0.01)


def test_a_missing_frame_is_named_in_both_spellings(tmp_path):
    write_frames(tmp_path, digits=6)
    (tmp_path / "scene0406_02/depth/000300.png").unlink()
    with pytest.raises(ValueError, match=r"depth.000300\.png, .*depth.300\.png"):
        scannet.list_entries(tmp_path, write_list(tmp_path / "list.txt", *LINES))


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="SCENE/color"):
        scannet.list_entries(tmp_path)
