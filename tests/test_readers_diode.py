"""DIODE's validation set in Marigold's archive and as its own archive extracts."""

import numpy as np
import pytest

from depthfm_core.data import diode

from .rgbd_files import write_list, write_npy, write_picture

INDOORS = "indoors/scene_00021/scan_00189/00021_00189_indoors_200_010"
OUTDOOR = "outdoor/scene_00022/scan_00193/00022_00193_outdoor_000_000"
HEIGHT, WIDTH = 12, 16


def write_frame(root, stem, depth_m=None, mask=None):
    depth_m = np.full((HEIGHT, WIDTH), 4.0) if depth_m is None else depth_m
    write_picture(root / f"{stem}.png", HEIGHT, WIDTH)
    write_npy(root / f"{stem}_depth.npy", depth_m.astype(np.float32)[..., None])
    write_npy(root / f"{stem}_depth_mask.npy", np.ones((HEIGHT, WIDTH)) if mask is None else mask)


def line(stem):
    return f"{stem}.png {stem}_depth.npy {stem}_depth_mask.npy"


def read_only(root, **options):
    return diode.read(diode.list_entries(root)[0], **options)


@pytest.mark.parametrize("folder", [".", "val"])
def test_one_list_serves_both_archives_and_without_it_all_pictures_come_by_name(tmp_path, folder):
    for stem in (OUTDOOR, INDOORS):
        write_frame(tmp_path / folder, stem)
    listed = diode.list_entries(tmp_path, write_list(tmp_path / "list.txt", line(OUTDOOR), line(INDOORS)))
    assert [entry.name for entry in listed] == [OUTDOOR, INDOORS]
    assert diode.list_entries(tmp_path) == listed[::-1]
    assert listed[0].image == tmp_path / folder / f"{OUTDOOR}.png"


def test_a_picture_that_lies_in_both_layouts_is_listed_once(tmp_path):
    for folder in (".", "val"):
        write_frame(tmp_path / folder, INDOORS)
    assert [entry.name for entry in diode.list_entries(tmp_path)] == [INDOORS]


def test_the_mask_alone_decides_and_no_range_does(tmp_path):
    depth_m = np.full((HEIGHT, WIDTH), 4.0)
    depth_m[0, :3] = 0.1, 400, 0.0
    mask = np.ones((HEIGHT, WIDTH))
    mask[5] = 0
    write_frame(tmp_path, INDOORS, depth_m, mask)
    sample = read_only(tmp_path)
    assert sample.depth_m[0, 0, :2].tolist() == pytest.approx([0.1, 400])
    assert sample.valid[0, 0, :4].tolist() == [True, True, False, True]  # 0 has no logarithm
    assert not sample.valid[0, 5].any()
    assert sample.valid.sum() == HEIGHT * WIDTH - WIDTH - 1


def test_the_gradient_filter_takes_out_the_pixels_at_both_sides_of_a_step(tmp_path):
    depth_m = np.full((HEIGHT, WIDTH), 4.0)
    depth_m[:, 8:] = 4.1  # Sobel: 4 * 0.1 = 0.4 at the columns 7 and 8
    write_frame(tmp_path, INDOORS, depth_m)
    assert read_only(tmp_path).valid.all()
    filtered = read_only(tmp_path, gradient_filter=True).valid
    assert (~filtered[0]).any(0).nonzero().flatten().tolist() == [7, 8]
    assert not filtered[0, :, 7:9].any()


@pytest.mark.parametrize(
    ("across_m", "down_m", "kept"),
    [(0.017, 0.017, True), (0.02, 0.02, False), (0.036, 0, True), (-0.02, -0.02, False), (0.02, -0.02, False)],
)
def test_the_filter_sums_both_gradients_of_a_slope_eight_times_the_step_each(tmp_path, across_m, down_m, kept):
    rows, columns = np.mgrid[:HEIGHT, :WIDTH]
    write_frame(tmp_path, INDOORS, 4 + across_m * columns + down_m * rows)  # 8 * (across + down) against 0.3
    assert read_only(tmp_path, gradient_filter=True).valid[0, 1:-1, 1:-1].all().item() is kept


def test_with_the_filter_the_range_counts_too_and_its_ends_are_outside(tmp_path):
    for depth_m, valid in ((0.59, False), (0.61, True), (349.9, True), (350.0, False)):
        write_frame(tmp_path, INDOORS, np.full((HEIGHT, WIDTH), depth_m))
        assert read_only(tmp_path, gradient_filter=True).valid.all().item() is valid
        assert read_only(tmp_path).valid.all()


def test_a_mask_of_another_size_is_refused(tmp_path):
    write_frame(tmp_path, INDOORS, mask=np.ones((HEIGHT, 3)))
    with pytest.raises(ValueError, match=r"_depth_mask\.npy is \[12, 3\]"):
        read_only(tmp_path)


def test_a_list_without_masks_is_refused_with_an_example(tmp_path):
    write_frame(tmp_path, INDOORS)
    with pytest.raises(ValueError, match="3 fields.*NAME_depth_mask"):
        diode.list_entries(tmp_path, write_list(tmp_path / "list.txt", f"{INDOORS}.png {INDOORS}_depth.npy"))


def test_a_missing_mask_is_named(tmp_path):
    write_frame(tmp_path, INDOORS)
    (tmp_path / f"{INDOORS}_depth_mask.npy").unlink()
    with pytest.raises(ValueError, match=r"looked for .*_depth_mask\.npy"):
        diode.list_entries(tmp_path)


def test_an_empty_folder_says_what_was_looked_for(tmp_path):
    with pytest.raises(ValueError, match="scene_.*_depth.npy"):
        diode.list_entries(tmp_path)
