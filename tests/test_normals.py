import math

import pytest
import torch
import torch.nn.functional as F

from depthfm_core.depth import normals as module
from depthfm_core.depth.normals import normals_from_depth, normals_to_image, unit
from depthfm_core.depth.points import focal_from_fov, unproject

from .live_bytes import LiveBytes


def rays(height, width, fov_deg):
    return unproject(torch.ones(1, 1, height, width), focal_from_fov(width, fov_deg))


def plane_depth(normal, height=9, width=12, fov_deg=60.0):
    """Depth of the plane through (0, 0, 4) with this normal in camera axes, seen by every pixel."""
    normal = torch.tensor(normal).view(1, 3, 1, 1)
    return 4 * normal[:, 2:] / (normal * rays(height, width, fov_deg)).sum(dim=1, keepdim=True)


def sphere_over_wall(size=160, fov_deg=50.0):
    """A ball of radius 1 at 4 m before a wall at 6 m: depth, camera normals, which pixels are ball."""
    directions = F.normalize(rays(size, size, fov_deg), dim=1)
    along = directions[:, 2:] * 4
    root = along**2 - (16 - 1)
    ball = root > 0
    distance = along - root.clamp_min(0).sqrt()
    points = directions * distance
    center, facing = (torch.tensor(xyz).view(1, 3, 1, 1) for xyz in ([0.0, 0, 4], [0.0, 0, -1]))
    normals = torch.where(ball, points - center, facing)
    return torch.where(ball, points[:, 2:], 6.0), normals, ball


def to_opengl(camera_normals):
    return camera_normals * torch.tensor([1.0, -1.0, -1.0]).view(1, 3, 1, 1)


def angle_deg(a, b):
    return torch.rad2deg(torch.atan2(torch.linalg.cross(a, b, dim=1).norm(dim=1), (a * b).sum(dim=1)))


TILTS = [
    (0.0, 0.0, -1.0),
    (0.6, 0.0, -0.8),
    (0.0, -0.8, -0.6),
    (0.48, 0.6, -0.64),
    (-0.9, 0.3, -0.316),
    (0.0, -0.99, -0.141),
]


@pytest.mark.parametrize("normal", TILTS)
@pytest.mark.parametrize("fov_deg", [20.0, 70.0])
def test_the_normal_of_a_plane_is_exact_at_every_tilt_and_pixel(normal, fov_deg):
    depth = plane_depth(normal, fov_deg=fov_deg)
    seen = (depth > 0) & (depth < 100)  # beyond the horizon the plane is behind the camera
    depth = depth.where(seen, 100.0)
    inner = -F.max_pool2d(-seen.float(), 3, stride=1, padding=1) > 0
    expected = to_opengl(F.normalize(torch.tensor(normal).view(1, 3, 1, 1), dim=1)).expand(1, 3, 9, 12)
    error = angle_deg(normals_from_depth(depth, fov_deg=fov_deg), expected)
    assert inner.sum() > 20
    assert error[inner[:, 0]].max() < 0.1


def test_the_field_of_view_and_the_focal_length_matter_and_agree():
    depth = plane_depth((0.6, 0.0, -0.8), fov_deg=35.0)
    normals = normals_from_depth(depth, fov_deg=35.0)
    torch.testing.assert_close(normals_from_depth(depth, focal_px=focal_from_fov(12, 35.0)), normals)
    assert angle_deg(normals, normals_from_depth(depth)).min() > 5


def test_normals_of_a_ball_over_a_wall_are_right_on_both_and_at_the_edge_between_them():
    depth, camera_normals, ball = sphere_over_wall()
    error = angle_deg(normals_from_depth(depth, fov_deg=50.0), to_opengl(F.normalize(camera_normals, dim=1)))
    facing = (-camera_normals[:, 2] > 0.5) & ball[:, 0]
    assert error[facing].max() < 1.0
    assert error[~ball[:, 0]].max() < 0.1  # the wall is not bent beside the ball
    assert error[ball[:, 0]].mean() < 1.5


def test_a_step_between_two_walls_does_not_tilt_them():
    depth = torch.tensor([[2.0, 8.0], [20.0, 60.0]]).repeat_interleave(5, 0).repeat_interleave(5, 1)[None, None]
    facing = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 10, 10)
    torch.testing.assert_close(normals_from_depth(depth), facing, atol=1e-5, rtol=0)


def test_differences_are_central_on_a_smooth_surface():
    depth, camera_normals, ball = sphere_over_wall(size=41)
    middle = (slice(None), slice(None), slice(17, 24), slice(17, 24))
    error = angle_deg(normals_from_depth(depth, fov_deg=50.0)[middle], to_opengl(camera_normals)[middle])
    assert ball[middle].all()
    assert error.max() < 0.2  # one-sided differences are off by half a pixel, 1.3 degrees here


def test_opengl_is_red_to_the_right_green_up_and_blue_to_the_viewer():
    facing_right = plane_depth((0.6, 0.0, -0.8))
    facing_up = plane_depth((0.0, -0.6, -0.8))  # camera y points down
    torch.testing.assert_close(
        normals_from_depth(facing_right)[0, :, 4, 5], torch.tensor([0.6, 0, 0.8]), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        normals_from_depth(facing_up)[0, :, 4, 5], torch.tensor([0, 0.6, 0.8]), atol=1e-4, rtol=0
    )


def test_directx_differs_from_opengl_in_the_sign_of_green_alone():
    depth = sphere_over_wall(size=40)[0]
    opengl, directx = (normals_from_depth(depth, convention=name) for name in ("opengl", "directx"))
    assert torch.equal(opengl * torch.tensor([1.0, -1, 1]).view(1, 3, 1, 1), directx)
    assert (opengl[:, 1] > 0.3).any()


def test_controlnet_is_red_to_the_left_green_up_and_blue_to_the_viewer():
    found = normals_from_depth(plane_depth((0.6, 0.0, -0.8)), convention="controlnet")[0, :, 4, 5]
    torch.testing.assert_close(found, torch.tensor([-0.6, 0, 0.8]), atol=1e-4, rtol=0)
    found = normals_from_depth(plane_depth((0.0, -0.6, -0.8)), convention="controlnet")[0, :, 4, 5]
    torch.testing.assert_close(found, torch.tensor([0, 0.6, 0.8]), atol=1e-4, rtol=0)


def test_normals_have_length_one_and_do_not_depend_on_the_unit_of_depth():
    depth = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0)) + 0.2
    normals = normals_from_depth(depth)
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 7, 9))
    for factor in (1e-6, 1e-3, 1e4):
        torch.testing.assert_close(normals_from_depth(depth * factor), normals, atol=1e-4, rtol=0)
    smoothed = normals_from_depth(depth, smoothing=2.0)
    for factor in (1e-6, 1e-3, 1e4):
        torch.testing.assert_close(normals_from_depth(depth * factor, smoothing=2.0), smoothed, atol=1e-4, rtol=0)


def test_normals_face_the_camera():
    depth = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0)) + 0.2
    assert ((to_opengl(rays(7, 9, 60.0)) * normals_from_depth(depth)).sum(dim=1) <= 1e-6).all()


def test_an_image_in_a_batch_gets_the_normals_that_it_gets_alone():
    depth = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0)) + 0.2
    torch.testing.assert_close(
        normals_from_depth(depth, smoothing=1.0)[1:], normals_from_depth(depth[1:], smoothing=1.0)
    )


@pytest.mark.parametrize("size", [1e-6, 1.0, 1e6])
def test_a_unit_is_what_pytorch_makes_of_a_vector_also_of_none(size):
    vectors = size * torch.randn(2, 3, 7, 9, generator=torch.Generator().manual_seed(0))
    vectors[1, :, 2, 3] = 0
    torch.testing.assert_close(unit(vectors), F.normalize(vectors, dim=1), atol=1e-6, rtol=0)


def plain_normals(depth, fov_deg=60.0):
    """The formula on the whole image at once, with PyTorch's own norm and cross product."""
    focal_px = focal_from_fov(depth.shape[3], fov_deg)
    points, footprint = unproject(depth, focal_px), depth / focal_px
    across, down = (F.normalize(module._tangent(points, footprint, dim), dim=1) for dim in (3, 2))
    return to_opengl(F.normalize(torch.linalg.cross(down, across, dim=1), dim=1))


@pytest.mark.parametrize("shape", [(2, 2), (7, 9), (2, 50), (50, 2), (31, 17)])
@pytest.mark.parametrize("strip_px", [1, 40, 100, 2**16])
def test_the_height_of_the_strips_changes_nothing(monkeypatch, shape, strip_px):
    depth = torch.rand(2, 1, *shape, generator=torch.Generator().manual_seed(0)) + 0.2
    monkeypatch.setattr(module, "_STRIP_PX", strip_px)
    torch.testing.assert_close(normals_from_depth(depth), plain_normals(depth), atol=1e-5, rtol=0)


def test_beside_points_and_normals_a_large_image_takes_little_memory():
    depth = torch.rand(1, 1, 1024, 768, generator=torch.Generator().manual_seed(0)) + 0.2
    with LiveBytes() as live:
        normals_from_depth(depth)
    assert live.peak < 9 * depth.nbytes


@pytest.mark.parametrize("strength", [0.25, 1.0, 3.0])
def test_strength_multiplies_the_slope(strength):
    normal = normals_from_depth(plane_depth((0.48, -0.36, -0.8)), strength=strength)[0, :, 4, 5]
    assert normal[0] / normal[2] == pytest.approx(0.6 * strength, rel=1e-3)
    assert normal[1] / normal[2] == pytest.approx(0.45 * strength, rel=1e-3)
    assert normal.norm() == pytest.approx(1)


def test_smoothing_leaves_planes_alone_up_to_their_edges():
    near = plane_depth((0.48, 0.6, -0.64), height=21, width=25)
    depth = torch.cat([near[..., :12], 3 * plane_depth((-0.6, 0.0, -0.8), height=21, width=25)[..., 12:]], dim=3)
    assert angle_deg(normals_from_depth(depth, smoothing=3.0), normals_from_depth(depth)).max() < 0.05


@pytest.mark.parametrize(("sigma_px", "frequency"), [(1.0, 0.4), (2.5, 0.15)])
def test_smoothing_damps_slow_waves_as_a_gaussian_of_this_sigma(sigma_px, frequency):
    wave = torch.cos(frequency * torch.arange(61.0)).expand(1, 1, 61, 61)
    depth = 1 / (1 + 1e-3 * torch.stack([wave[0], wave[0].mT]))  # along x, along y
    plain, smoothed = (normals_from_depth(depth, smoothing=s)[..., 10:-10, 10:-10] for s in (0, sigma_px))
    damping = math.exp(-((sigma_px * frequency) ** 2) / 2)
    for image, axis in ((0, 0), (1, 1)):
        slopes = [(n[image, axis] / n[image, 2]).norm() for n in (plain, smoothed)]
        assert (slopes[1] / slopes[0]).item() == pytest.approx(damping, rel=0.01)


def test_smoothing_calms_noise_the_more_the_larger_its_sigma():
    noise = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    facing = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1).expand(1, 3, 40, 40)
    errors = [angle_deg(normals_from_depth(2 + 0.02 * noise, smoothing=s), facing).mean() for s in (0, 1, 2, 4)]
    assert errors[0] > 2 * errors[1] > 4 * errors[2] > 8 * errors[3]


def test_smoothing_makes_slopes_of_the_steps_of_8_bits():
    log_depth = plane_depth((0.3, 0.5, -0.8124), height=120, width=160).log()
    low, high = log_depth.aminmax()
    coarse = (((log_depth - low) / (high - low) * 255).round() / 255 * (high - low) + low).exp()
    truth = normals_from_depth(log_depth.exp())
    errors = [angle_deg(normals_from_depth(coarse, smoothing=s), truth).mean() for s in (0, 2, 4)]
    assert errors[0] > 5 and errors[1] < 1 and errors[2] < 0.5


def test_a_pixel_with_edges_all_around_has_a_smoothed_normal():
    depth = torch.ones(1, 1, 9, 9)
    depth[..., 4, 4] = 50
    normals = normals_from_depth(depth, smoothing=2.0)
    assert normals.isfinite().all()
    assert angle_deg(normals, torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)).max() < 5


@pytest.mark.parametrize("shape", [(2, 2), (2, 50), (50, 2)])
def test_tiny_and_narrow_images_have_normals_also_with_wide_smoothing(shape):
    normals = normals_from_depth(torch.full((1, 1, *shape), 3.0), smoothing=10.0)
    torch.testing.assert_close(normals[:, 2], torch.ones(1, *shape), atol=1e-4, rtol=0)


def test_the_picture_of_normals_maps_minus_one_to_zero_and_one_to_one():
    normals = torch.tensor([0.0, 0.0, 1.0]).view(1, 3, 1, 1)
    torch.testing.assert_close(normals_to_image(normals).flatten(), torch.tensor([0.5, 0.5, 1.0]))
    torch.testing.assert_close(normals_to_image(-normals).flatten(), torch.tensor([0.5, 0.5, 0.0]))
    assert normals_to_image(normals * 1.000001).max() == 1


@pytest.mark.parametrize("value", [0.0, -1.0, math.nan, math.inf])
def test_depth_that_is_not_positive_and_finite_is_an_error(value):
    depth = torch.ones(1, 1, 4, 4)
    depth[0, 0, 1, 2] = value
    with pytest.raises(ValueError, match=r"positive, finite depth.*prediction\.relative_depth"):
        normals_from_depth(depth)


def test_wrong_settings_and_shapes_are_errors():
    depth = torch.ones(1, 1, 4, 4)
    with pytest.raises(ValueError, match="Unknown convention 'vulkan'; choose one of opengl, directx, controlnet"):
        normals_from_depth(depth, convention="vulkan")
    for strength in (0.0, -1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="strength must be a positive number"):
            normals_from_depth(depth, strength=strength)
    for smoothing in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="smoothing must be"):
            normals_from_depth(depth, smoothing=smoothing)
    with pytest.raises(ValueError, match="between 0 and 180"):
        normals_from_depth(depth, fov_deg=180.0)
    with pytest.raises(ValueError, match="focal_px must be a positive number"):
        normals_from_depth(depth, focal_px=0.0)
    for shape in ((1, 1, 1, 4), (1, 1, 4, 1), (1, 3, 4, 4), (4, 4)):
        with pytest.raises(ValueError, match="at least 2 x 2"):
            normals_from_depth(torch.ones(shape))
