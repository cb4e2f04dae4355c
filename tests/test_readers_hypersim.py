"""Hypersim as downloaded (HDF5) and as Marigold's preprocessing writes it (PNG)."""

import math

import numpy as np
import pytest
import torch

from depthfm_core.data import hypersim

from .rgbd_files import write_list
from .training_trees import write_hypersim, write_hypersim_processed

LINE = "ai_001_001/rgb_cam_00_fr0000.png ai_001_001/depth_plane_cam_00_fr0000.png"
HEADER = "scene_name,camera_name,frame_id,included_in_public_release,exclude_reason,split_partition_name"
ROWS = (
    "ai_001_001,cam_00,0,True,,train",
    "ai_001_001,cam_00,1,False,CONTENT FLAGGED FOR REMOVAL,",
    "ai_001_001,cam_00,2,True,,train",
    "ai_001_001,cam_00,3,False,BROKEN,train",
    "ai_003_010,cam_01,7,True,,val",
    "ai_004_001,cam_00,0,True,,test",
)


def read_raw(tmp_path, **arrays):
    write_hypersim(tmp_path, "ai_001_001", "cam_00", 0, **arrays)
    (entry,) = hypersim.list_entries(tmp_path, "train", write_list(tmp_path / "list.txt", LINE))
    return hypersim.read(entry)


@pytest.fixture
def download(tmp_path):
    """The public frames of ROWS in the original layout, with the table of splits."""
    write_list(tmp_path / hypersim.CSV_NAME, HEADER, *ROWS)
    for row in ROWS:
        scene, camera, number, public = row.split(",")[:4]
        if public == "True":
            write_hypersim(tmp_path, scene, camera, int(number))
    return tmp_path


def names(*args):
    return [entry.name for entry in hypersim.list_entries(*args)]


def test_the_table_of_splits_says_which_public_frames_are_of_a_split(download):
    assert names(download) == ["ai_001_001/cam_00/0000", "ai_001_001/cam_00/0002"]
    assert names(download, "val") == ["ai_003_010/cam_01/0007"]
    assert names(download, "test") == ["ai_004_001/cam_00/0000"]


def test_the_files_of_a_frame_are_those_of_the_download(download):
    entry = hypersim.list_entries(download, "val")[0]
    images = download / "ai_003_010" / "images"
    assert entry.image == images / "scene_cam_01_final_hdf5" / "frame.0007.color.hdf5"
    assert entry.depth == images / "scene_cam_01_geometry_hdf5" / "frame.0007.depth_meters.hdf5"


def test_a_filtered_list_of_processed_frames_picks_the_same_frames_of_the_download(download):
    listed = write_list(download / "list.txt", LINE.replace("fr0000", "fr0002"))
    assert names(download, "train", listed) == ["ai_001_001/cam_00/0002"]


@pytest.mark.parametrize("below", ["train", "."])
def test_processed_frames_lie_in_the_folder_of_their_split_or_in_the_root(tmp_path, below):
    write_hypersim_processed(tmp_path / below, "ai_001_001", "cam_00", 0, np.full((6, 8), 2345))
    (entry,) = hypersim.list_entries(tmp_path, "train", write_list(tmp_path / "list.txt", LINE))
    assert entry.name == "ai_001_001/cam_00/0000" and entry.depth.parent == tmp_path / below / "ai_001_001"


def test_without_lists_the_processed_frames_in_the_folder_of_a_split_are_taken(tmp_path):
    for split, number in (("train", 4), ("train", 2), ("val", 9)):
        write_hypersim_processed(tmp_path / split, "ai_001_001", "cam_00", number, np.full((6, 8), 2345))
    assert names(tmp_path) == ["ai_001_001/cam_00/0002", "ai_001_001/cam_00/0004"]
    assert names(tmp_path, "val") == ["ai_001_001/cam_00/0009"]


def test_processed_depth_is_in_millimetres_and_its_saturated_end_and_zero_do_not_count(tmp_path):
    depth_mm = np.array([[0, 1, 2345, 64999, 65000, 65535]])
    write_hypersim_processed(tmp_path / "train", "ai_001_001", "cam_00", 0, depth_mm)
    sample = hypersim.read(hypersim.list_entries(tmp_path)[0])
    assert sample.depth_m[0, 0].tolist() == pytest.approx([0, 0.001, 2.345, 64.999, 65, 65.535])
    assert sample.valid[0, 0].tolist() == [False, True, True, True, False, False]
    assert sample.image[:, 0, 0].tolist() == pytest.approx([1, 0, 0.2])


def test_at_the_corner_of_the_picture_the_depth_is_81_hundredths_of_the_distance():
    planar = hypersim.planar_depth_m(np.full((768, 1024), 10.0))
    # The corner's pixel is 511.5 columns and 383.5 rows off the middle; sqrt(511.5^2 + 383.5^2 + 886.81^2) = 1093.223.
    assert planar[0, 0] == pytest.approx(8.11189, abs=1e-5)
    assert planar[0, 0] == planar[-1, -1] == planar[0, -1] == planar[-1, 0]
    assert planar[0, 0] == pytest.approx(10 * 886.81 / math.hypot(511.5, 383.5, 886.81), rel=1e-6)
    # No pixel lies in the middle itself; the nearest are half a pixel off, both ways.
    assert planar[383, 511] == pytest.approx(10 * 886.81 / math.hypot(0.5, 0.5, 886.81), rel=1e-7)
    assert planar.argmax() in [383 * 1024 + 511, 383 * 1024 + 512, 384 * 1024 + 511, 384 * 1024 + 512]


def test_the_distances_to_a_wall_become_one_depth():
    y, x = np.mgrid[:768, :1024] - np.array([383.5, 511.5])[:, None, None]
    distance_m = 4 * np.sqrt(x**2 + y**2 + 886.81**2) / 886.81
    np.testing.assert_allclose(hypersim.planar_depth_m(distance_m), 4, rtol=1e-6)


def test_a_smaller_copy_of_a_frame_has_the_depth_of_the_frame():
    small, whole = (hypersim.planar_depth_m(np.full(size, 10.0)) for size in ((192, 256), (768, 1024)))
    corner = whole[:4, :4].mean()
    assert small[0, 0] == pytest.approx(corner, rel=1e-4)


def test_the_raw_reader_gives_planar_depth_and_leaves_out_what_the_renderer_did_not_hit(tmp_path):
    distance_m = np.full((768, 1024), 10.0)
    distance_m[0, 1] = np.nan
    entities = np.full((768, 1024), 12)
    entities[0, 2] = -1
    distance_m[100, 0] = 90.0
    sample = read_raw(
        tmp_path, distance_m=distance_m, entities=entities, radiance=np.zeros((768, 1024, 3)), size=(768, 1024)
    )
    assert sample.depth_m[0, 0, 0] == pytest.approx(8.11189, abs=1e-5)
    assert sample.depth_m[0, 0, 1:3].tolist() == [0, 0]
    assert sample.depth_m[0, 100, 0] > 65
    assert (~sample.valid[0]).nonzero().tolist() == [[0, 1], [0, 2], [100, 0]]


@pytest.mark.parametrize(("part", "named"), [("radiance", "color.hdf5"), ("entities", "render_entity_id.hdf5")])
def test_files_of_one_frame_that_differ_in_size_are_named(tmp_path, part, named):
    other = {"radiance": np.zeros((5, 8, 3)), "entities": np.zeros((5, 8))}
    with pytest.raises(ValueError, match=f"{named} is 8x5 pixels, but its depth map is 8x6"):
        read_raw(tmp_path, **{part: other[part]})


def test_without_the_map_of_entities_a_number_for_a_distance_is_a_hit(tmp_path):
    distance_m = np.full((6, 8), 3.0)
    distance_m[2, 2:4] = np.nan, np.inf
    sample = read_raw(tmp_path, distance_m=distance_m)
    assert (~sample.valid[0]).nonzero().tolist() == [[2, 2], [2, 3]]


def test_the_tone_mapped_90th_percentile_of_brightness_is_0_8():
    # 11 grays 0, 0.1, ..., 1: the 90th percentile is 0.9, so gray g becomes (g / 0.9)^(1/2.2) * 0.8, cut at 1.
    gray = np.arange(11)[None, :, None].repeat(3, -1) / 10
    image = hypersim.tone_map(gray, np.ones((1, 11), bool))
    expected = [0.8 * (g / 9) ** (1 / 2.2) for g in range(11)]
    assert image.shape == (3, 1, 11) and image.dtype == torch.float32
    assert image[0, 0].tolist() == pytest.approx(expected, abs=1e-5)
    assert image[0, 0, 9] == pytest.approx(0.8) and image[0, 0, 10] == pytest.approx(0.8392, abs=1e-3)
    assert torch.equal(image[0], image[1]) and torch.equal(image[0], image[2])


def test_brightness_weighs_red_green_and_blue_and_each_channel_is_mapped_alone():
    color = np.array([0.2, 0.4, 0.1])
    image = hypersim.tone_map(np.broadcast_to(color, (2, 2, 3)), np.ones((2, 2), bool))
    brightness = 0.3 * 0.2 + 0.59 * 0.4 + 0.11 * 0.1  # 0.307
    assert image[:, 0, 0].tolist() == pytest.approx([0.8 * (c / brightness) ** (1 / 2.2) for c in color], abs=1e-5)


def test_brightness_is_measured_over_what_was_hit_and_bright_light_is_cut():
    radiance = np.full((1, 10, 3), 0.5)
    radiance[0, 5:] = 100.0
    hit = np.arange(10)[None] < 5
    assert hypersim.tone_map(radiance, hit)[0, 0].tolist() == pytest.approx([0.8] * 5 + [1.0] * 5)
    assert hypersim.tone_map(radiance, ~hit)[0, 0, 9] == pytest.approx(0.8)


def test_a_dark_picture_is_black_and_one_without_a_hit_is_not_scaled():
    radiance = np.full((2, 2, 3), 5e-5)
    assert hypersim.tone_map(radiance, np.ones((2, 2), bool)).eq(0).all()
    assert hypersim.tone_map(radiance + 0.2, np.zeros((2, 2), bool))[0, 0, 0] == pytest.approx(0.2**0.4545, abs=1e-3)


def test_negative_and_undefined_light_is_black(tmp_path):
    radiance = np.full((6, 8, 3), 0.25)
    radiance[0, 0], radiance[0, 1] = -1, np.nan
    sample = read_raw(tmp_path, radiance=radiance)
    assert sample.image[:, 0, :2].eq(0).all() and sample.image[0, 3, 3] == pytest.approx(0.8, abs=1e-3)


def test_a_frame_is_complete_when_every_pixel_has_a_depth(tmp_path):
    hole, far = np.full((6, 8), 3.0), np.full((6, 8), 300.0)
    hole[1, 1] = np.nan
    for number, distance_m in enumerate((far, hole)):
        write_hypersim(tmp_path, "ai_001_001", "cam_00", number, distance_m=distance_m)
    for number, depth_mm in enumerate((65535, 0)):
        write_hypersim_processed(tmp_path, "ai_002_001", "cam_00", number, np.full((1, 1), depth_mm))
    lines = [
        LINE.replace("_001/", f"_{s}/").replace("ai_001", f"ai_{a}").replace("fr0000", f"fr000{n}")
        for a, s, n in (("001", "001", 0), ("001", "001", 1), ("002", "001", 0), ("002", "001", 1))
    ]
    entries = hypersim.list_entries(tmp_path, "train", write_list(tmp_path / "list.txt", *lines))
    assert [hypersim.is_complete(entry) for entry in entries] == [True, False, True, False]


@pytest.mark.parametrize(("distance_m", "entity", "complete"), [(3, 5, True), (3, -1, False), (np.nan, 5, False)])
def test_a_pixel_has_a_depth_where_something_was_hit_at_a_known_distance(tmp_path, distance_m, entity, complete):
    distances, entities = np.full((6, 8), 3.0), np.full((6, 8), 7)
    distances[2, 2], entities[2, 2] = distance_m, entity
    write_hypersim(tmp_path, "ai_001_001", "cam_00", 0, distance_m=distances, entities=entities)
    (entry,) = hypersim.list_entries(tmp_path, "train", write_list(tmp_path / "list.txt", LINE))
    assert hypersim.is_complete(entry) == complete == hypersim.read(entry).valid.all()


def test_what_is_missing_or_of_another_form_is_named(download):
    with pytest.raises(ValueError, match="'training'.*train, val, test"):
        hypersim.list_entries(download, "training")
    with pytest.raises(ValueError, match="'nothing' in .*rgb_cam_00_fr0000.png"):
        hypersim.list_entries(download, "train", write_list(download / "list.txt", "nothing"))
    (download / "ai_001_001/images/scene_cam_00_geometry_hdf5/frame.0002.depth_meters.hdf5").unlink()
    with pytest.raises(ValueError, match=r"ai_001_001/cam_00/0002 is missing; looked for .*color\.hdf5"):
        hypersim.list_entries(download)
    write_list(download / hypersim.CSV_NAME, HEADER, ROWS[0])
    with pytest.raises(ValueError, match="no frame of the split val"):
        hypersim.list_entries(download, "val")
    write_list(download / hypersim.CSV_NAME, "scene,frame", "a,1")
    with pytest.raises(ValueError, match="not Hypersim's list of splits"):
        hypersim.list_entries(download)
    (download / hypersim.CSV_NAME).unlink()
    with pytest.raises(ValueError, match="metadata_images_split_scene_v1.csv in the repository"):
        hypersim.list_entries(download)


def test_a_folder_of_something_else_and_a_broken_file_are_named(tmp_path):
    with pytest.raises(ValueError, match="nothing of Hypersim"):
        hypersim.list_entries(tmp_path)
    write_hypersim(tmp_path, "ai_001_001", "cam_00", 0)
    (entry,) = hypersim.list_entries(tmp_path, "train", write_list(tmp_path / "list.txt", LINE))
    entry.image.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"color\.hdf5 cannot be read"):
        hypersim.read(entry)
