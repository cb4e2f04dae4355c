"""ETH3D in Marigold's archive and as its own archives extract."""

import numpy as np
import pytest
from PIL import Image

from depthfm_core.data import eth3d

from .rgbd_files import write_list, write_picture

LINE = (
    "rgb/{0}/images/dslr_images/{1}.JPG depth/{0}_dslr_depth/{0}/ground_truth_depth/dslr_images/{1}.JPG"  # as published
)
LAYOUTS = {"Marigold": ("rgb", "depth/{}_dslr_depth"), "original": (".", ".")}
HEIGHT, WIDTH = 8, 12


def write_frame(root, layout, scene="office", name="DSC_0219", values=None):
    images, depths = LAYOUTS[layout]
    write_picture(root / images / scene / "images/dslr_images" / f"{name}.JPG", HEIGHT, WIDTH)
    path = root / depths.format(scene) / scene / "ground_truth_depth/dslr_images" / f"{name}.JPG"
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.arange(HEIGHT * WIDTH) if values is None else values
    path.write_bytes(np.asarray(values, dtype="<f4").tobytes())
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
def test_one_list_serves_both_layouts_in_its_own_order(tmp_path, layout):
    for scene, name in (("office", "DSC_0219"), ("meadow", "DSC_6535")):
        write_frame(tmp_path, layout, scene, name)
    lines = LINE.format("office", "DSC_0219"), LINE.format("meadow", "DSC_6535")
    entries = eth3d.list_entries(tmp_path, write_list(tmp_path / "list.txt", *lines))
    assert [entry.name for entry in entries] == ["office/DSC_0219", "meadow/DSC_6535"]
    assert [entry.name for entry in eth3d.list_entries(tmp_path)] == ["meadow/DSC_6535", "office/DSC_0219"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_depth_is_raw_floats_row_after_row_at_the_pictures_size(tmp_path, layout):
    write_frame(tmp_path, layout)
    sample = eth3d.read(eth3d.list_entries(tmp_path)[0])
    assert sample.image.shape == (3, HEIGHT, WIDTH)
    assert sample.depth_m[0, 2].tolist() == list(range(24, 36))


def test_infinite_depth_becomes_zero_and_is_not_valid_while_every_finite_one_is(tmp_path):
    values = np.full(HEIGHT * WIDTH, 5.0)
    values[:6] = np.inf, 0, 1e-5, 2e-5, 5000, np.nan
    write_frame(tmp_path, "Marigold", values=values)
    sample = eth3d.read(eth3d.list_entries(tmp_path)[0])
    assert sample.valid[0, 0, :7].tolist() == [False, False, False, True, True, False, True]
    assert sample.depth_m[0, 0, 0] == sample.depth_m[0, 0, 5] == 0
    assert sample.valid.sum() == HEIGHT * WIDTH - 4


def test_a_depth_map_that_was_cut_short_is_refused_with_both_sizes(tmp_path):
    write_frame(tmp_path, "Marigold", values=np.ones(95))
    with pytest.raises(ValueError, match="95 numbers.*12x8"):
        eth3d.read(eth3d.list_entries(tmp_path)[0])


def test_an_upright_tag_does_not_turn_the_picture_away_from_its_depth(tmp_path):
    write_frame(tmp_path, "Marigold")
    path = tmp_path / "rgb/office/images/dslr_images/DSC_0219.JPG"
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by a quarter
    Image.new("RGB", (WIDTH, HEIGHT)).save(path, exif=exif)
    assert eth3d.read(eth3d.list_entries(tmp_path)[0]).image.shape == (3, HEIGHT, WIDTH)


def test_a_missing_picture_is_named_in_both_layouts(tmp_path):
    write_frame(tmp_path, "original").parents[2].joinpath("images/dslr_images/DSC_0219.JPG").unlink()
    with pytest.raises(ValueError, match=r"looked for .*rgb.office.*, .*images.dslr_images.DSC_0219\.JPG"):
        eth3d.list_entries(tmp_path)


def test_lines_of_another_list_are_refused_with_an_example(tmp_path):
    with pytest.raises(ValueError, match="no picture of ETH3D.*DSC_0219"):
        eth3d.list_entries(tmp_path, write_list(tmp_path / "list.txt", "color/000300.jpg depth/000300.png"))


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="ground_truth_depth"):
        eth3d.list_entries(tmp_path)
