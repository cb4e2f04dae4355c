"""Point clouds as PLY, read back as the format says."""

import re

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.depth.ply import write_ply
from depthfm_core.depth.points import unproject
from depthfm_core.replacing import OutputError


def read_ply(path):
    """Positions and colors of a binary PLY of floats and bytes, by its own header."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    told = header.decode("ascii")
    assert told.startswith("ply\nformat binary_little_endian 1.0\n")
    kinds = {"float": "<f4", "uchar": "u1"}
    fields = [(name, kinds[kind]) for kind, name in re.findall(r"property (\w+) (\w+)", told)]
    vertices = np.frombuffer(body, np.dtype(fields))
    assert len(vertices) == int(re.search(r"element vertex (\d+)", told).group(1))
    return (np.stack([vertices[name] for name in names], axis=1) for names in ("xyz", ("red", "green", "blue")))


def test_every_pixel_is_a_point_of_its_color_with_y_up_and_the_scene_before_the_viewer(tmp_path):
    points = unproject(torch.rand(1, 1, 4, 6) + 1, 5.0)[0]
    image = torch.rand(3, 4, 6)
    beyond = torch.where(image > 0.9, image + 1, image)  # as resampling may leave it
    write_ply(tmp_path / "a.ply", points, beyond)
    xyz, rgb = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(xyz, points.flatten(1).numpy().T * [1, -1, -1])
    np.testing.assert_array_equal(rgb, (beyond.clamp_max(1) * 255).round().flatten(1).numpy().T)
    assert xyz[0, 1] > 0 > xyz[-1, 1] and (xyz[:, 2] < 0).all()  # the first row is the upper one


@pytest.mark.parametrize("shapes", [((1, 3, 4, 5), (1, 3, 4, 5)), ((3, 4, 5), (3, 5, 4)), ((1, 4, 5), (1, 4, 5))])
def test_other_shapes_are_refused(tmp_path, shapes):
    with pytest.raises(ValueError, match=r"must both be \[3, H, W\]"):
        write_ply(tmp_path / "a.ply", *map(torch.zeros, shapes))
    assert not list(tmp_path.iterdir())


def test_points_that_are_nowhere_are_refused(tmp_path):
    with pytest.raises(ValueError, match="NaN or infinity"):
        write_ply(tmp_path / "a.ply", torch.full((3, 2, 2), float("nan")), torch.zeros(3, 2, 2))
    assert not list(tmp_path.iterdir())


def test_predict_writes_the_points_of_its_depth_in_the_colors_of_the_picture(saved, loaded, photo):
    _, _, folder = saved("--save", "npy,ply", "--focal", "40")
    depth = torch.from_numpy(np.load(folder / "photo.npy"))[None, None]
    xyz, rgb = read_ply(folder / "photo.ply")
    np.testing.assert_allclose(xyz[:, 2], -depth.flatten().numpy())
    np.testing.assert_allclose(xyz[:, 0], unproject(depth, 40)[0, 0].flatten().numpy(), rtol=1e-6)
    np.testing.assert_array_equal(rgb, np.asarray(Image.open(photo).convert("RGB")).reshape(-1, 3))


def test_the_name_of_a_cloud_says_that_it_is_one(tmp_path):
    with pytest.raises(ValueError, match="must end in .ply"):
        write_ply(tmp_path / "a.obj", torch.zeros(3, 2, 2), torch.zeros(3, 2, 2))
    assert list(tmp_path.iterdir()) == []


def test_a_target_that_cannot_be_written_is_named_as_itself(tmp_path):
    (tmp_path / "folder.ply").mkdir()
    for path, told in ((tmp_path / "folder.ply", "Is it a folder"), (tmp_path / "no" / "a.ply", "make it first")):
        with pytest.raises(OutputError, match=told) as caught:
            write_ply(path, torch.zeros(3, 2, 2), torch.zeros(3, 2, 2))
        assert str(path) in str(caught.value)
