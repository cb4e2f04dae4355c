"""NYU Depth v2 in Marigold's archive and in the original .mat files."""

import sys

import h5py
import numpy as np
import pytest
import scipy.io

from depthfm_core.data import nyu

from .rgbd_files import bounds, write_list, write_numbered_picture, write_picture, write_png16

LINES = (
    "test/office_0005/rgb_0009.png test/office_0005/depth_0009.png test/office_0005/filled_0009.png",
    "test/kitchen_0004/rgb_0001.png test/kitchen_0004/depth_0001.png test/kitchen_0004/filled_0001.png",
)


@pytest.fixture
def archive(tmp_path):
    """Two images of the test set and one of the training set, which the archive also holds."""
    for name in ("test/kitchen_0004/{}_0001", "test/office_0005/{}_0009", "train/cafe_0001/{}_0003"):
        write_picture(tmp_path / f"{name.format('rgb')}.png", 480, 640)
        write_png16(tmp_path / f"{name.format('depth')}.png", np.full((480, 640), 2500))
        write_png16(tmp_path / f"{name.format('filled')}.png", np.full((480, 640), 7000))
    return tmp_path


@pytest.fixture
def labeled(tmp_path):
    """The layout of nyu_depth_v2_labeled.mat as HDF5 shows it, with MATLAB's axes reversed, and splits.mat beside."""
    rows, columns = np.mgrid[:480, :640]
    with h5py.File(tmp_path / "nyu_depth_v2_labeled.mat", "w") as file:
        images = file.create_dataset("images", (4, 3, 640, 480), np.uint8)
        raw = file.create_dataset("rawDepths", (4, 640, 480), np.float32)
        file.create_dataset("depths", (4, 640, 480), np.float32, fillvalue=9.0)
        for i in range(4):
            images[i, 0], images[i, 1], images[i, 2] = columns.T % 256, rows.T % 256, i
            raw[i] = (1 + i + rows / 1000).T
        raw[1, 100, 200] = 0  # a hole at row 200, column 100
    scipy.io.savemat(tmp_path / "splits.mat", {"testNdxs": [[2], [4]], "trainNdxs": [[1], [3]]})
    return tmp_path


def test_the_lists_order_is_kept_and_the_first_two_files_of_a_line_are_taken(archive):
    entries = nyu.list_entries(archive, write_list(archive / "list.txt", *LINES))
    assert [entry.name for entry in entries] == ["test/office_0005/rgb_0009", "test/kitchen_0004/rgb_0001"]
    assert entries[0].depth == archive / "test/office_0005/depth_0009.png"


def test_without_a_list_the_test_folder_alone_is_listed_by_name(archive):
    entries = nyu.list_entries(archive)
    assert [entry.name for entry in entries] == ["test/kitchen_0004/rgb_0001", "test/office_0005/rgb_0009"]
    assert entries[0].depth == archive / "test/kitchen_0004/depth_0001.png"


def test_depth_is_in_thousandths_and_the_raw_map_not_the_filled_one(archive):
    sample = nyu.read(nyu.list_entries(archive)[0])
    assert sample.image.shape == (3, 480, 640)
    assert (sample.depth_m == 2.5).all()
    assert sample.image[:, 7, 9].tolist() == pytest.approx([1, 0, 0.2])


def test_eigens_crop_keeps_426_by_560_pixels_from_row_45_and_column_41(archive):
    valid = nyu.read(nyu.list_entries(archive)[0]).valid
    assert bounds(valid) == (45, 470, 41, 600)
    assert valid.sum() == 426 * 560


def test_one_millimetre_and_ten_metres_are_outside_of_the_range_and_the_values_beside_them_inside(archive):
    units = np.zeros((480, 640))
    units[100, 100:106] = 0, 1, 2, 9999, 10000, 10001
    write_png16(archive / "test/kitchen_0004/depth_0001.png", units)
    valid = nyu.read(nyu.list_entries(archive)[0]).valid
    assert valid[0, 100, 100:106].tolist() == [False, False, True, True, False, False]
    assert valid.sum() == 2


def test_the_mat_file_gives_the_test_images_of_splits_mat_which_count_from_one(labeled):
    entries = nyu.list_entries(labeled)
    assert [entry.name for entry in entries] == ["0002", "0004"]
    assert nyu.list_entries(labeled / "nyu_depth_v2_labeled.mat") == entries


def test_the_mat_files_axes_are_put_right_and_its_raw_depth_with_holes_is_the_truth(labeled):
    sample = nyu.read(nyu.list_entries(labeled)[0])
    assert sample.image.shape == (3, 480, 640)
    assert (sample.image[:, 200, 100] * 255).tolist() == pytest.approx([100, 200, 1])  # the second image of the file
    assert sample.depth_m[0, 300, 5].item() == pytest.approx(2.3)
    assert bounds(sample.valid) == (45, 470, 41, 600)
    assert not sample.valid[0, 200, 100]
    assert sample.valid.sum() == 426 * 560 - 1


@pytest.mark.parametrize("lines", [("3", "1"), ("test/a/rgb_0003.png x y", "test/b/rgb_0001.png x y")])
def test_numbers_and_marigolds_list_choose_from_the_mat_file(labeled, lines):
    entries = nyu.list_entries(labeled, write_list(labeled / "list.txt", *lines))
    assert [entry.name for entry in entries] == ["0003", "0001"]
    assert nyu.read(entries[0]).depth_m[0, 0, 0] == 3


def test_a_splits_file_elsewhere_can_be_named(labeled):
    (labeled / "splits.mat").rename(labeled / "mine.mat")
    assert len(nyu.list_entries(labeled, labeled / "mine.mat")) == 2


def test_the_mat_file_alone_does_not_say_which_images_are_for_testing(labeled):
    (labeled / "splits.mat").unlink()
    with pytest.raises(ValueError, match=r"needs a split list.*no splits\.mat.*filename_list_test\.txt"):
        nyu.list_entries(labeled)


@pytest.mark.parametrize("line", ["0", "kitchen"])
def test_a_number_below_one_or_none_is_refused(labeled, line):
    with pytest.raises(ValueError, match="number"):
        nyu.list_entries(labeled, write_list(labeled / "list.txt", line))


def test_a_number_beyond_the_file_is_refused_with_the_number(labeled):
    entries = nyu.list_entries(labeled, write_list(labeled / "list.txt", "5"))
    with pytest.raises(ValueError, match="Image 5 of .*labeled.mat cannot be read"):
        nyu.read(entries[0])


def test_damaged_mat_files_are_named(labeled):
    entries = nyu.list_entries(labeled)
    (labeled / "nyu_depth_v2_labeled.mat").write_bytes(b"cut short")
    with pytest.raises(ValueError, match="labeled.mat cannot be read"):
        nyu.read(entries[0])


@pytest.mark.parametrize("damage", ["cut", "changed", "other"])
def test_a_damaged_splits_file_is_named(labeled, damage):
    path = labeled / "splits.mat"
    scipy.io.savemat(path, {"testNdxs": np.arange(654.0)[:, None]}, do_compression=True)
    whole = path.read_bytes()
    contents = {"cut": whole[:300], "changed": whole[:150] + b"\xff\xff\xff" + whole[153:], "other": b"text"}
    path.write_bytes(contents[damage])
    with pytest.raises(ValueError, match="is not NYU's splits.mat"):
        nyu.list_entries(labeled)


@pytest.mark.parametrize(("package", "action"), [("h5py", "read"), ("scipy.io", "list")])
def test_a_missing_package_is_named_with_how_to_get_it(labeled, monkeypatch, package, action):
    entries = nyu.list_entries(labeled)
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(ValueError, match=r"pip install -e \"\.\[eval\]\""):
        nyu.read(entries[0]) if action == "read" else nyu.list_entries(labeled)


def test_a_map_of_another_size_is_refused_because_the_crop_would_be_wrong(archive):
    write_numbered_picture(archive / "test/kitchen_0004/rgb_0001.png", 240, 320)
    write_png16(archive / "test/kitchen_0004/depth_0001.png", np.full((240, 320), 2500))
    with pytest.raises(ValueError, match="480 x 640"):
        nyu.read(nyu.list_entries(archive)[0])


def test_a_file_of_the_list_that_is_missing_is_named_with_its_place(archive):
    (archive / "test/kitchen_0004/depth_0001.png").unlink()
    with pytest.raises(ValueError, match=r"looked for .*kitchen_0004.depth_0001\.png"):
        nyu.list_entries(archive, write_list(archive / "list.txt", *LINES))


def test_a_folder_without_the_data_set_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="rgb_.*nyu_depth_v2_labeled.mat"):
        nyu.list_entries(tmp_path)
