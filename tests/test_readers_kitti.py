"""KITTI's Eigen split in Marigold's archive and in the original downloads."""

import numpy as np
import pytest

from depthfm_core.data import kitti

from .rgbd_files import bounds, write_list, write_numbered_picture, write_picture, write_png16

DRIVE = "2011_09_26_drive_0002_sync"
IMAGE = f"2011_09_26/{DRIVE}/image_02/data/0000000069.png"
DEPTH = f"{DRIVE}/proj_depth/groundtruth/image_02/0000000069.png"
LINE = f"{IMAGE} {DEPTH} 721.5377"


@pytest.fixture
def archive(tmp_path):
    """One image of the common size in Marigold's layout, 20 m everywhere."""
    write_numbered_picture(tmp_path / IMAGE, 375, 1242)
    write_png16(tmp_path / DEPTH, np.full((375, 1242), 20 * 256))
    return tmp_path


def read_only(root, **options):
    return kitti.read(kitti.list_entries(root)[0], **options)


def test_a_depth_map_of_another_size_is_named_though_both_are_cropped(archive):
    write_numbered_picture(archive / IMAGE, 376, 1241)
    with pytest.raises(ValueError, match="0000000069.png is 1241x376 pixels, but its depth map is 1242x375"):
        read_only(archive)


def test_of_697_listed_images_the_652_with_depth_are_read(tmp_path):
    lines = []
    for i in range(697):
        image, depth = IMAGE.replace("0069", f"{i:04d}"), DEPTH.replace("0069", f"{i:04d}")
        lines.append(f"{image} {'None' if i % 15 == 14 and i < 675 else depth} 721.5377")
        for path in (tmp_path / image, tmp_path / depth):
            path.parent.mkdir(parents=True, exist_ok=True)
            path.touch()
    assert sum(" None " in line for line in lines) == 45
    entries = kitti.list_entries(tmp_path, write_list(tmp_path / "list.txt", *lines))
    assert len(entries) == len({entry.name for entry in entries}) == 652
    assert entries[14].name == f"{DRIVE}/image_02/0000000015"  # number 14 has no depth


def test_a_line_gives_the_name_and_the_focal_length(archive):
    (entry,) = kitti.list_entries(archive, write_list(archive / "list.txt", LINE))
    assert (entry.name, entry.extra["focal_px"]) == (f"{DRIVE}/image_02/0000000069", 721.5377)
    assert (entry.image, entry.depth) == (archive / IMAGE, archive / DEPTH)


def test_without_a_list_the_archives_depth_maps_are_listed_with_their_pictures(archive):
    write_picture(archive / IMAGE.replace("0069", "0070"), 375, 1242)  # a picture without depth
    (entry,) = kitti.list_entries(archive)
    assert (entry.name, entry.image, entry.depth) == (f"{DRIVE}/image_02/0000000069", archive / IMAGE, archive / DEPTH)


@pytest.mark.parametrize("part", ["train", "val"])
@pytest.mark.parametrize("folder", ["", "data_depth_annotated/"])
@pytest.mark.parametrize("raw", ["", "raw/"])
def test_the_original_downloads_are_found_in_train_and_val(tmp_path, raw, folder, part):
    write_picture(tmp_path / raw / IMAGE, 375, 1242)
    write_png16(tmp_path / folder / part / DEPTH, np.full((375, 1242), 5 * 256))
    (entry,) = kitti.list_entries(tmp_path, write_list(tmp_path / "list.txt", LINE))
    assert kitti.read(entry).depth_m[0, 0, 0] == 5


def test_the_original_downloads_need_the_list_because_they_hold_all_of_kitti(tmp_path):
    write_png16(tmp_path / "data_depth_annotated/val" / DEPTH, np.ones((4, 4)))
    with pytest.raises(ValueError, match=r"needs a split list.*eigen_test_files_with_gt\.txt"):
        kitti.list_entries(tmp_path)


@pytest.mark.parametrize(
    ("height", "width", "top", "left"),
    [(375, 1242, 23, 13), (370, 1226, 18, 5), (374, 1238, 22, 11), (376, 1241, 24, 12), (352, 1216, 0, 0)],
)
def test_picture_and_depth_are_cut_to_the_lowest_rows_and_the_middle_columns(tmp_path, height, width, top, left):
    write_numbered_picture(tmp_path / IMAGE, height, width)
    rows, columns = np.mgrid[:height, :width]
    write_png16(tmp_path / DEPTH, rows * 100 + columns % 100)
    sample = read_only(tmp_path)
    assert sample.image.shape == (3, 352, 1216)
    assert (sample.image[:2, 0, 0] * 255).tolist() == pytest.approx([left % 256, top % 256])
    assert sample.depth_m[0, 0, 0] * 256 == top * 100 + left
    assert sample.depth_m[0, 351, 1215] * 256 == (height - 1) * 100 + (left + 1215) % 100


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, (117, 320, 43, 1171)),  # 0.3324324 * 352 = 117.02, 0.91351351 * 352 = 321.56
        ({"mask": "eigen"}, (117, 320, 43, 1171)),  # 0.0359477 * 1216 = 43.71, 0.96405229 * 1216 = 1172.29
        ({"mask": "garg"}, (143, 348, 43, 1171)),  # 0.40810811 * 352 = 143.65, 0.99189189 * 352 = 349.15
        ({"mask": "none"}, (0, 351, 0, 1215)),
    ],
)
def test_the_masks_are_shares_of_the_cropped_map_rounded_down(archive, options, expected):
    valid = read_only(archive, **options).valid
    first_row, last_row, first_col, last_col = bounds(valid)
    assert (first_row, last_row, first_col, last_col) == expected
    assert valid.sum() == (last_row - first_row + 1) * (last_col - first_col + 1)


def test_depth_is_in_256ths_and_nothing_measured_and_80_metres_are_outside_of_the_range(archive):
    units = np.zeros((375, 1242))
    units[200, 500:505] = 0, 1, 20479, 20480, 65535
    write_png16(archive / DEPTH, units)
    sample = read_only(archive)
    row, columns = 200 - 23, slice(487, 492)
    assert sample.depth_m[0, row, columns].tolist() == [0, 1 / 256, 20479 / 256, 80, 65535 / 256]
    assert sample.valid[0, row, columns].tolist() == [False, True, True, False, False]
    assert sample.valid.sum() == 2


def test_an_unknown_mask_is_refused_with_the_known_ones(archive):
    with pytest.raises(ValueError, match="'egien'.*eigen, garg, none"):
        read_only(archive, mask="egien")


def test_a_picture_smaller_than_the_crop_is_refused(archive):
    write_picture(archive / IMAGE, 300, 1242)
    write_png16(archive / DEPTH, np.full((300, 1242), 20 * 256))
    with pytest.raises(ValueError, match="1242x300.*1216x352"):
        read_only(archive)


@pytest.mark.parametrize(("line", "message"), [("one", "2 fields"), (f"{IMAGE} {DEPTH} far", "'far'.*focal length")])
def test_a_line_of_another_form_is_shown_with_an_example(archive, line, message):
    with pytest.raises(ValueError, match=rf"{message}.*2011_09_26_drive_0002"):
        kitti.list_entries(archive, write_list(archive / "list.txt", line))


def test_a_missing_depth_map_is_named_with_all_places_that_were_looked_at(archive):
    (archive / DEPTH).unlink()
    with pytest.raises(ValueError, match="looked for .*data_depth_annotated"):
        kitti.list_entries(archive, write_list(archive / "list.txt", LINE))
    with pytest.raises(ValueError, match="nothing of KITTI"):
        kitti.list_entries(archive)
