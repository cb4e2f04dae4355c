import math

import pytest
import torch

from depthfm_core.depth.points import focal_from_fov, focal_length, fov_from_film_focal, unproject


def test_a_field_of_view_of_90_degrees_has_a_focal_length_of_half_the_width():
    assert focal_from_fov(640, 90.0) == pytest.approx(320)
    assert focal_from_fov(640, 60.0) == pytest.approx(320 * math.sqrt(3))


def test_pixel_centers_lie_at_half_integers_around_the_center_of_the_image():
    points = unproject(torch.ones(1, 1, 2, 4), 2.0)
    assert points.shape == (1, 3, 2, 4)
    torch.testing.assert_close(points[0, 0, 0], torch.tensor([-0.75, -0.25, 0.25, 0.75]))
    torch.testing.assert_close(points[0, 1, :, 0], torch.tensor([-0.25, 0.25]))


def test_the_central_pixel_of_an_odd_image_lies_on_the_axis():
    points = unproject(torch.full((1, 1, 5, 7), 3.0), 5.0)
    torch.testing.assert_close(points[0, :, 2, 3], torch.tensor([0.0, 0.0, 3.0]))


def test_x_points_right_y_down_and_z_forward():
    points = unproject(torch.ones(1, 1, 4, 6), 5.0)
    assert (points[0, 0].diff(dim=1) > 0).all()
    assert (points[0, 1].diff(dim=0) > 0).all()
    assert torch.equal(points[0, 2], torch.ones(4, 6))


def test_points_project_back_to_their_pixels():
    depth = torch.rand(2, 1, 5, 8, generator=torch.Generator().manual_seed(0)) + 0.5
    x, y, z = unproject(depth, 6.0).unbind(dim=1)
    columns, rows = torch.arange(8) + 0.5, torch.arange(5)[:, None] + 0.5
    torch.testing.assert_close(6 * x / z + 4, columns.expand_as(x))
    torch.testing.assert_close(6 * y / z + 2.5, rows.expand_as(y))
    assert torch.equal(z, depth[:, 0])


def test_the_outer_edges_of_the_image_span_the_field_of_view():
    left, right = unproject(torch.ones(1, 1, 1, 400), focal_from_fov(400, 50.0))[0, 0, 0, [0, -1]].tolist()
    half_pixel = (right - left) / 399 / 2
    assert math.degrees(math.atan(right + half_pixel) - math.atan(left - half_pixel)) == pytest.approx(50, abs=1e-3)


def test_a_focal_length_goes_before_a_field_of_view():
    assert focal_length(10, 40.0, 7.0) == 7.0
    assert focal_length(10, 40.0, None) == focal_from_fov(10, 40.0)


def test_points_scale_with_depth():
    depth = torch.rand(1, 1, 3, 4, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(unproject(depth * 5, 3.0), unproject(depth, 3.0) * 5)


def test_wrong_cameras_and_shapes_are_errors():
    for fov_deg in (0.0, 180.0, -10.0, math.nan):
        with pytest.raises(ValueError, match="between 0 and 180"):
            focal_length(2, fov_deg, None)
    for focal_px in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="focal_px must be a positive number"):
            focal_length(2, 60.0, focal_px)
    with pytest.raises(ValueError, match=r"must be \[B, 1, H, W\]"):
        unproject(torch.ones(2, 2), 1.0)


@pytest.mark.parametrize(
    ("size", "focal_mm", "fov_deg"),
    [
        ((6000, 4000), 18, 90.0),  # 36 mm across
        ((4000, 6000), 12, 90.0),  # 24 mm
        ((4000, 3000), math.hypot(36, 24) * 0.4, 90.0),  # 4 : 3 : 5, so four fifths of film's diagonal
        ((3000, 4000), math.hypot(36, 24) * 0.3, 90.0),
        ((600, 400), 50, 39.6),  # as lens tables have it
    ],
)
def test_a_focal_length_on_film_gives_the_field_of_view_of_film_with_the_pictures_diagonal(size, focal_mm, fov_deg):
    assert fov_from_film_focal(focal_mm, *size) == pytest.approx(fov_deg, abs=0.01)
