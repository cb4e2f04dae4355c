"""Frames on disk."""

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.data.folder import list_frames, read_frame, write_frame
from depthfm_core.data.sample import DepthSample


def frame(height=12, width=16, depth_m=3.0):
    y = torch.linspace(0, 1, height)[:, None].expand(height, width)
    depth = torch.full((1, height, width), depth_m) + y
    return DepthSample(torch.stack([y, 1 - y, y]), depth, torch.ones(1, height, width, dtype=torch.bool))


def test_a_frame_comes_back_with_depth_to_half_a_millimetre(tmp_path):
    sample = frame()
    write_frame(tmp_path / "a", sample)
    back = read_frame(tmp_path / "a")
    assert (back.depth_m - sample.depth_m).abs().max() <= 0.5001e-3
    assert (back.image - sample.image).abs().max() < 0.1  # JPEG
    assert back.valid.all()


def test_sky_comes_back_as_not_valid_and_far_depth_stops_at_the_end_of_the_format(tmp_path):
    sample = frame(depth_m=100.0)
    valid = sample.valid.clone()
    valid[:, :3] = False
    write_frame(tmp_path / "a", DepthSample(sample.image, sample.depth_m, valid))
    back = read_frame(tmp_path / "a")
    assert not back.valid.any()  # neither the sky nor what is too far to be told
    assert (back.depth_m[valid] == 65.535).all()
    assert (back.depth_m[~valid] == 0).all()


def test_a_millimetre_or_less_is_still_measured(tmp_path):
    sample = frame()
    write_frame(tmp_path / "a", DepthSample(sample.image, torch.full_like(sample.depth_m, 1e-5), sample.valid))
    assert read_frame(tmp_path / "a").valid.all()


def test_frames_are_listed_by_name_folder_after_folder_without_half_written_ones(tmp_path):
    for name in ("y/b", "y/a", "x/c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        write_frame(tmp_path / name, frame())
    (tmp_path / "y" / "d_rgb.jpg").write_bytes(b"picture without depth")
    listed = list_frames([tmp_path / "y", tmp_path / "x"])
    assert listed == [tmp_path / "y" / "a", tmp_path / "y" / "b", tmp_path / "x" / "c"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(ValueError, match="nowhere"):
        list_frames([tmp_path / "nowhere"])


def test_a_picture_and_a_depth_map_of_different_sizes_are_refused(tmp_path):
    write_frame(tmp_path / "a", frame())
    Image.fromarray(np.ones((5, 5), np.uint16)).save(tmp_path / "a_depth_mm.png")
    with pytest.raises(ValueError, match="a_rgb.jpg is .* but its depth map is"):
        read_frame(tmp_path / "a")
