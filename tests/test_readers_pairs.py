"""A folder of pictures with depth, in four layouts; and what all readers share."""

import dataclasses
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.data import diode, entries, eth3d, kitti, nyu, pairs, rasters, scannet
from depthfm_core.data.folder import read_frame, write_frame
from depthfm_core.data.sample import DepthSample

from .rgbd_files import write_list, write_npy, write_picture, write_png16

READERS = (nyu, kitti, eth3d, scannet, diode, pairs)
METRES = np.array([[0.0, 2.0, 3.5], [np.nan, np.inf, 70.0]], np.float32)


def write_metres(root, picture, depth):
    write_picture(root / picture, 2, 3)
    if depth.endswith(".npy"):
        write_npy(root / depth, METRES)
    else:
        write_png16(root / depth, np.nan_to_num(METRES * 1000, nan=0, posinf=0).clip(0, 65535))


@pytest.mark.parametrize(
    ("picture", "depth", "name"),
    [
        ("room/image.png", "room/depth.npy", "room"),
        ("a.png", "a.npy", "a"),
        ("a.JPG", "a.npy", "a"),
        ("below/a.jpeg", "below/a.npy", "below/a"),
        ("a.jpg", "a_depth.png", "a"),
        ("a_rgb.jpg", "a_depth_mm.png", "a"),
        ("room/image.webp", "room/depth.npy", "room"),
        ("a.webp", "a.npy", "a"),
        ("a.TIF", "a_depth.png", "a"),
        ("a_RGB.bmp", "a_depth_mm.png", "a"),
    ],
)
def test_every_layout_gives_the_pair_its_name_and_metres(tmp_path, picture, depth, name):
    write_metres(tmp_path, picture, depth)
    (entry,) = pairs.list_entries(tmp_path)
    assert entry == entries.Entry(name, tmp_path / picture, tmp_path / depth)
    sample = pairs.read(entry)
    farthest = 70 if depth.endswith(".npy") else 65.535
    assert sample.depth_m.flatten().tolist() == pytest.approx([0, 2, 3.5, 0, 0, farthest])
    is_known = depth.endswith(".npy")  # 65.535 m stands for all that a PNG cannot hold
    assert sample.valid.flatten().tolist() == [False, True, True, False, False, is_known]


def test_a_synthetic_frame_is_read_as_it_was_written(tmp_path):
    depth_m = torch.full((1, 4, 6), 2.5)
    write_frame(tmp_path / "a", DepthSample(torch.zeros(3, 4, 6), depth_m, depth_m > 0))
    assert torch.equal(pairs.read(pairs.list_entries(tmp_path)[0]).depth_m, depth_m)


def test_depth_that_a_frame_could_not_hold_is_not_taken_for_measured(tmp_path):
    depth_m = torch.tensor([[[65.534, 65.535, 171.0, 2.0]]]).expand(1, 4, 4)
    write_frame(tmp_path / "a", DepthSample(torch.zeros(3, 4, 4), depth_m, depth_m > 0))
    for sample in (pairs.read(pairs.list_entries(tmp_path)[0]), read_frame(tmp_path / "a")):
        assert sample.valid[0, 0].tolist() == [True, False, False, True]


def test_pairs_are_listed_by_path_and_pictures_of_depth_or_without_it_left_out(tmp_path):
    for name in ("b", "a"):
        write_metres(tmp_path, f"{name}/image.png", f"{name}/depth.npy")
        write_picture(tmp_path / name / "depth.png", 2, 3)  # a picture of the depth, beside depth.npy
    write_metres(tmp_path, "c.png", "c_depth.png")
    write_npy(tmp_path / "c_depth.npy", METRES)
    write_picture(tmp_path / "alone.png", 2, 3)
    assert [entry.name for entry in pairs.list_entries(tmp_path)] == ["a", "b", "c"]


def test_beside_a_photograph_its_original_and_a_preview_are_left_out(tmp_path):
    for name in ("a.jpg", "a.tif", "a.gif"):
        write_metres(tmp_path, name, "a.npy")
    (entry,) = pairs.list_entries(tmp_path)
    assert entry.image == tmp_path / "a.jpg" and "2 other pictures" in pairs.describe_others(tmp_path, 1)


@pytest.mark.parametrize(
    "files",
    [
        [("a.jpg", "a.npy"), ("a.png", "a.npy")],
        [("a.webp", "a.npy"), ("a.tif", "a.npy")],
        [("a_rgb.jpg", "a_rgb.npy"), ("a_rgb.jpg", "a_depth_mm.png")],
        [("s/image.png", "s/depth.npy"), ("s/image.png", "s/image.npy")],
    ],
    ids=str,
)
def test_two_pairs_of_one_name_or_picture_are_refused_by_their_files(tmp_path, files):
    for picture, depth in files:
        write_metres(tmp_path, picture, depth)
    with pytest.raises(ValueError, match="more than one picture or depth map") as refusal:
        pairs.list_entries(tmp_path)
    assert all(f"{picture} with {depth}" in str(refusal.value) for picture, depth in files)


def test_pictures_without_a_depth_map_are_counted_and_those_of_depth_are_not(tmp_path):
    for name in ("a.jpg", "below/b.webp"):
        write_metres(tmp_path, name, f"{name.partition('.')[0]}.npy")
    assert pairs.describe_others(tmp_path, 2) is None
    for name in ("c.jpg", "c_depth.tif", "below/depth.png", "below/._b.jpg"):
        write_picture(tmp_path / name, 2, 3)
    assert pairs.describe_others(tmp_path, len(pairs.list_entries(tmp_path))).startswith("1 other picture without")
    write_picture(tmp_path / "below" / "mask.png", 2, 3)
    assert pairs.describe_others(tmp_path, 2).startswith("2 other pictures without")


def test_a_list_of_names_takes_a_part_in_its_order(tmp_path):
    for name in "abc":
        write_metres(tmp_path, f"{name}.png", f"{name}.npy")
    chosen = pairs.list_entries(tmp_path, write_list(tmp_path / "list.txt", "c", "a"))
    assert [entry.name for entry in chosen] == ["c", "a"]
    with pytest.raises(ValueError, match="'d' in .* is no pair .*a, b, c"):
        pairs.list_entries(tmp_path, write_list(tmp_path / "list.txt", "a", "d"))


def test_two_depth_maps_for_one_picture_are_refused(tmp_path):
    write_metres(tmp_path, "a.png", "a.npy")
    write_metres(tmp_path, "a.png", "a_depth.png")
    with pytest.raises(ValueError, match="a in .* more than one"):
        pairs.list_entries(tmp_path)


def test_a_picture_with_an_upright_tag_is_turned_before_it_meets_its_depth(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (2, 3)).save(tmp_path / "a.jpg", exif=exif)
    write_npy(tmp_path / "a.npy", METRES)
    assert pairs.read(pairs.list_entries(tmp_path)[0]).image.shape == (3, 2, 3)


def test_files_of_different_sizes_are_named_with_both(tmp_path):
    write_metres(tmp_path, "a.png", "a.npy")
    write_picture(tmp_path / "a.png", 4, 6)
    with pytest.raises(ValueError, match=r"a\.png is 6x4 pixels.*3x2"):
        pairs.read(pairs.list_entries(tmp_path)[0])


def test_a_folder_without_pairs_says_which_layouts_were_looked_for(tmp_path):
    write_picture(tmp_path / "a.png", 2, 3)
    with pytest.raises(ValueError, match=r"NAME/image\.jpg \(\.png, \.\.\.\) with NAME/depth\.npy"):
        pairs.list_entries(tmp_path)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.NAME)
def test_a_folder_that_is_missing_or_an_archive_is_named(reader, tmp_path):
    with pytest.raises(ValueError, match="no folder .*nowhere"):
        reader.list_entries(tmp_path / "nowhere")
    if reader is pairs:  # of the user's own, so that nothing is to be fetched
        with pytest.raises(ValueError, match="with your data set's files; name the one that holds them.$"):
            reader.list_entries(tmp_path / "nowhere")
    archive = tmp_path / "files.tar"
    archive.touch()
    with pytest.raises(ValueError, match="files.tar is a file; extract it"):
        reader.list_entries(archive)


@pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.NAME)
@pytest.mark.parametrize(("content", "message"), [(None, "no split list"), (b"\n \n", "empty"), (b"\xff", "text file")])
def test_a_split_list_without_a_line_is_refused(reader, tmp_path, content, message):
    write_metres(tmp_path, "a.png", "a.npy")
    split = tmp_path / "list.txt"
    if content is not None:
        split.write_bytes(content)
    with pytest.raises(ValueError, match=message):
        reader.list_entries(tmp_path, split)


def test_an_entry_cannot_be_changed(tmp_path):
    with pytest.raises(dataclasses.FrozenInstanceError):
        entries.Entry("a", tmp_path, tmp_path).name = "b"


@pytest.mark.parametrize("length", [0, 7, 20, 40, 60, 80, 200, 300])
def test_a_png_cut_short_at_any_place_is_named(tmp_path, length):
    path = tmp_path / "a.png"
    write_png16(path, np.random.default_rng(0).integers(0, 65535, (16, 16)))
    path.write_bytes(path.read_bytes()[:length])
    with pytest.raises(ValueError, match=r"a\.png cannot be read"):
        rasters.read_png_m(path, 1000)


def test_a_png_larger_than_pillow_opens_is_named(tmp_path, monkeypatch):
    write_png16(tmp_path / "a.png", np.ones((16, 16)))
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 100)
    with pytest.raises(ValueError, match=r"a\.png cannot be read as a picture .*exceeds limit"):
        rasters.read_png_m(tmp_path / "a.png", 1000)


def test_depth_in_a_png_of_8_bits_is_refused(tmp_path):
    write_picture(tmp_path / "a.png", 2, 3)
    with pytest.raises(ValueError, match="RGB.*16-bit") as error:
        rasters.read_png_m(tmp_path / "a.png", 1000)
    assert "cannot be read" not in str(error.value)


@pytest.mark.parametrize("shape", [(2, 3), (2, 3, 1), (1, 2, 3)])
def test_an_array_may_carry_one_axis_of_length_one(tmp_path, shape):
    write_npy(tmp_path / "a.npy", np.arange(6.0).reshape(shape))
    assert rasters.read_npy(tmp_path / "a.npy").tolist() == [[[0, 1, 2], [3, 4, 5]]]


@pytest.mark.parametrize("values", [np.ones(4), np.ones((2, 3, 3)), np.array(["a"]), np.array([None])])
def test_an_array_of_another_kind_is_refused_with_its_file(tmp_path, values):
    write_npy(tmp_path / "a.npy", values)
    with pytest.raises(ValueError, match=r"a\.npy"):
        rasters.read_npy(tmp_path / "a.npy")


def test_a_list_may_hold_names_with_spaces_and_begin_with_a_byte_order_mark(tmp_path):
    for name in ("living room", "kitchen"):
        write_metres(tmp_path, f"{name}.png", f"{name}.npy")
    split = tmp_path / "split.txt"
    split.write_bytes(b"\xef\xbb\xbfliving room\r\n\r\nkitchen  \r\n")
    assert [entry.name for entry in pairs.list_entries(tmp_path, split)] == ["living room", "kitchen"]


@pytest.mark.parametrize("hidden", ["._a.png", ".trash/a.png", "__MACOSX/._a.png"])
def test_hidden_files_are_no_pairs(tmp_path, hidden):
    for picture in ("a.png", hidden):
        write_metres(tmp_path, picture, picture.replace(".png", ".npy"))
    assert [entry.name for entry in pairs.list_entries(tmp_path)] == ["a"]


@pytest.mark.skipif(sys.platform != "linux", reason="only there a file name may be any bytes")
@pytest.mark.parametrize(("name", "told"), [(b"a\xe9", r"'a\\udce9'"), (b"a\nb", r"'a\\nb'"), (b"a\rb", r"'a\\rb'")])
def test_a_name_that_no_table_can_hold_is_refused(tmp_path, name, told):
    write_metres(tmp_path, "a.png", "a.npy")
    for suffix in (".png", ".npy"):
        os.rename(tmp_path / f"a{suffix}", os.fsencode(tmp_path) + b"/" + name + suffix.encode())
    with pytest.raises(ValueError, match=f"{told} in .* is no line of UTF-8 text, as a table needs; rename it"):
        pairs.list_entries(tmp_path)
