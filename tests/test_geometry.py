import math

import pytest
import torch

from depthfm_core.depth.geometry import da3_geometry, moge_geometry
from depthfm_core.depth.prediction import DepthPrediction

HEIGHT, WIDTH = 6, 9


def predict(depth):
    log_depth = depth.log()
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def hills(batch=2):
    return predict(1 + torch.rand(batch, 1, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(0)))


def pictures(batch=2):
    return torch.rand(batch, 3, HEIGHT, WIDTH, generator=torch.Generator().manual_seed(1))


def pixels(offset):
    """Column and row of every pixel's center, [H, W, 2], where the first center is at `offset`."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    return torch.stack([columns, rows], dim=-1) + offset


def project(points, intrinsics):
    """[..., 3] camera points to image coordinates [..., 2]."""
    image_points = points @ intrinsics.T
    return image_points[..., :2] / image_points[..., 2:]


@pytest.mark.parametrize("camera", [{"fov_deg": 50.0}, {"focal_px": 7.5}])
def test_moges_intrinsics_project_every_point_to_its_pixels_center(camera):
    geometry = moge_geometry(hills(), pictures(), **camera)
    for points, intrinsics in zip(geometry["points"], geometry["intrinsics"], strict=True):
        expected = pixels(0.5) / torch.tensor([WIDTH, HEIGHT])
        torch.testing.assert_close(project(points, intrinsics), expected, atol=1e-5, rtol=0)


def test_the_field_of_view_is_the_cameras_and_the_focal_length_goes_before_it():
    focal_px = WIDTH / 2 / math.tan(math.radians(25))
    by_angle = moge_geometry(hills(), pictures(), fov_deg=50.0)
    by_length = moge_geometry(hills(), pictures(), fov_deg=120.0, focal_px=focal_px)
    for key in ("points", "normal", "intrinsics"):
        torch.testing.assert_close(by_angle[key], by_length[key])
    assert by_angle["intrinsics"][0, 0, 0].item() == pytest.approx(focal_px / WIDTH)
    assert by_angle["intrinsics"][0, 1, 1].item() == pytest.approx(focal_px / HEIGHT)


def test_depth_is_the_z_of_the_points_and_ends_at_one_in_each_image():
    geometry = moge_geometry(hills(), pictures())
    assert torch.equal(geometry["depth"], geometry["points"][..., 2])
    assert torch.equal(geometry["depth"], hills().relative_depth[:, 0])
    assert geometry["depth"].amax((1, 2)).tolist() == [1, 1]


def test_x_points_right_y_down_and_z_away_from_the_camera():
    points = moge_geometry(hills(), pictures())["points"]
    assert (points[:, :, 5:, 0] > 0).all() and (points[:, :, :4, 0] < 0).all()
    assert (points[:, 3:, :, 1] > 0).all() and (points[:, :3, :, 1] < 0).all()
    assert (points[..., 2] > 0).all()


def test_the_normal_of_a_wall_that_faces_the_camera_points_back_at_it():
    normal = moge_geometry(predict(torch.full((1, 1, HEIGHT, WIDTH), 3.0)), pictures(1))["normal"]
    torch.testing.assert_close(normal, torch.tensor([0.0, 0, -1]).expand(1, HEIGHT, WIDTH, 3), atol=1e-5, rtol=0)


@pytest.mark.parametrize("normal", [(0.0, -0.8, -0.6), (0.6, 0.0, -0.8), (-0.48, 0.6, -0.64)])
def test_the_points_of_a_plane_lie_in_it_and_have_its_normal(normal):
    normal = torch.tensor(normal)
    focal_px = 20.0
    rays = torch.cat([(pixels(0.5) - torch.tensor([WIDTH, HEIGHT]) / 2) / focal_px, torch.ones(HEIGHT, WIDTH, 1)], -1)
    depth = -1 / (rays @ normal)
    assert (depth > 0).all()
    geometry = moge_geometry(predict(depth[None, None]), pictures(1), focal_px=focal_px)
    torch.testing.assert_close(geometry["normal"], normal.expand(1, HEIGHT, WIDTH, 3), atol=1e-4, rtol=0)
    distances = geometry["points"] @ normal
    torch.testing.assert_close(distances, distances[:, :1, :1].expand_as(distances), atol=1e-5, rtol=1e-4)


def test_every_pixel_is_valid_and_the_image_is_the_one_that_came():
    geometry = moge_geometry(hills(), pictures())
    assert geometry["mask"].dtype == torch.bool and geometry["mask"].shape == (2, HEIGHT, WIDTH)
    assert geometry["mask"].all()
    assert torch.equal(geometry["image"], pictures().permute(0, 2, 3, 1))


def test_depth_anythings_intrinsics_give_moges_points_with_its_count_of_pixels():
    camera = {"focal_px": 11.0}
    moge, da3 = moge_geometry(hills(), pictures(), **camera), da3_geometry(hills(), pictures(), **camera)
    assert da3["intrinsics"].shape == (1, 2, 3, 3)
    for points, intrinsics in zip(moge["points"], da3["intrinsics"][0], strict=True):
        torch.testing.assert_close(project(points, intrinsics), pixels(0.0), atol=1e-5, rtol=0)
    assert torch.equal(da3["depth"], moge["depth"]) and torch.equal(da3["image"], moge["image"])
    assert da3["mode"] == "mono"


@pytest.mark.parametrize("make", [moge_geometry, da3_geometry])
@pytest.mark.parametrize("shape", [(2, 3, HEIGHT, WIDTH + 1), (1, 3, HEIGHT, WIDTH), (2, 4, HEIGHT, WIDTH)])
def test_an_image_that_is_not_the_depths_is_refused_with_both_shapes(make, shape):
    with pytest.raises(ValueError, match=rf"\[{shape[0]}, {shape[1]}, .*\[2, 3, 6, 9\]; connect the images"):
        make(hills(), torch.zeros(shape))


@pytest.mark.parametrize("make", [moge_geometry, da3_geometry])
def test_a_camera_out_of_range_is_refused(make):
    with pytest.raises(ValueError, match="fov_deg must lie between 0 and 180"):
        make(hills(), pictures(), fov_deg=180.0)
    with pytest.raises(ValueError, match="focal_px must be a positive number"):
        make(hills(), pictures(), focal_px=-1.0)
