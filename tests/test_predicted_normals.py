"""Normals of a prediction, which are computed at the size that the network saw the picture at."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch.utils._python_dispatch import TorchDispatchMode

from depthfm_core import EstimationSettings, load_pipeline
from depthfm_core.depth.normals import normals_from_depth
from depthfm_core.depth.points import focal_from_fov
from depthfm_core.depth.predicted_normals import predicted_normals
from depthfm_core.depth.prediction import DepthPrediction, exp_below_max
from depthfm_core.resize import enlarge

from .test_normals import angle_deg, sphere_over_wall, to_opengl

HEIGHT, WIDTH, FOV_DEG = 120, 160, 60.0
TILTS = [(0.0, 0.0, -1.0), (0.6, 0.0, -0.8), (0.0, -0.6, -0.8), (0.3, 0.5, -0.812)]


def log_depth_of_plane(normal, height, width):
    """Of the plane through (0, 0, 4), on a grid of any aspect over the picture."""
    focal_px = focal_from_fov(WIDTH, FOV_DEG)
    x = ((torch.arange(width) + 0.5) * WIDTH / width - WIDTH / 2) / focal_px
    y = ((torch.arange(height) + 0.5) * HEIGHT / height - HEIGHT / 2) / focal_px
    inverse = (normal[0] * x + normal[1] * y[:, None] + normal[2]) / (4 * normal[2])
    return -inverse.log()[None, None]


def prediction_of(log_depth, working_log_depth):
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth), working_log_depth)


@pytest.mark.parametrize("normal", TILTS)
@pytest.mark.parametrize("working_size", [(60, 80), (64, 80), (60, 90)])
def test_the_normal_of_a_plane_is_exact_where_the_picture_was_stretched_too(normal, working_size):
    plane = prediction_of(log_depth_of_plane(normal, HEIGHT, WIDTH), log_depth_of_plane(normal, *working_size))
    wanted = to_opengl(torch.tensor(normal).view(1, 3, 1, 1)).expand(1, 3, HEIGHT, WIDTH)
    assert angle_deg(predicted_normals(plane, fov_deg=FOV_DEG), F.normalize(wanted, dim=1)).max() < 0.1


def test_a_ball_before_a_wall_is_nearer_to_the_truth_than_by_its_enlarged_depth():
    working = sphere_over_wall(160)[0].log()
    _, normals, _ = sphere_over_wall(400)
    prediction = prediction_of(enlarge(working, (400, 400)), working)
    plain = normals_from_depth(prediction.relative_depth, fov_deg=50.0)
    ours, truth = predicted_normals(prediction, fov_deg=50.0), to_opengl(normals)
    assert angle_deg(ours, truth).mean() < 0.75 * angle_deg(plain, truth).mean()


def test_settings_in_pixels_are_of_the_whole_picture():
    working = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    prediction = prediction_of(enlarge(working, (120, 160)), working)
    by_focal = predicted_normals(prediction, focal_px=focal_from_fov(160, 50.0))
    torch.testing.assert_close(by_focal, predicted_normals(prediction, fov_deg=50.0))
    small = normals_from_depth(exp_below_max(working), fov_deg=60.0, smoothing=2.0, strength=1.5, convention="directx")
    found = predicted_normals(prediction, smoothing=8.0, strength=1.5, convention="directx")
    torch.testing.assert_close(found, F.normalize(enlarge(small, (120, 160)), dim=1))


def test_normals_are_units():
    working = torch.rand(2, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    normals = predicted_normals(prediction_of(enlarge(working, (90, 120)), working))
    torch.testing.assert_close(normals.norm(dim=1), torch.ones(2, 90, 120))


class Operators(TorchDispatchMode):
    """While it is entered: `names` of PyTorch's operators that ran."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # noqa: ARG002
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


def test_none_of_pytorchs_norms_is_taken_which_over_three_planes_are_slow():
    working = torch.rand(1, 1, 30, 40, generator=torch.Generator().manual_seed(0))
    prediction = prediction_of(enlarge(working, (120, 160)), working)
    with Operators() as ran:
        predicted_normals(prediction)
    assert "aten::div.Tensor" in ran.names and not [name for name in ran.names if "norm" in name]


@pytest.mark.parametrize("working_size", [None, (1, 1)])
def test_without_a_smaller_map_they_are_the_depth_maps(working_size):
    log_depth = torch.rand(1, 1, 120, 160, generator=torch.Generator().manual_seed(0))
    working = None if working_size is None else enlarge(log_depth, working_size)
    prediction = prediction_of(log_depth, working)
    assert torch.equal(predicted_normals(prediction), normals_from_depth(prediction.relative_depth))


def test_a_prediction_has_the_map_that_it_was_enlarged_from():
    settings = EstimationSettings(num_steps=1, ensemble_size=2, sharpen_edges=False)
    prediction = load_pipeline("nano")(torch.rand(1, 3, 300, 480), settings)
    assert prediction.working_log_depth.shape == (1, 1, 224, 352)
    assert torch.equal(enlarge(prediction.working_log_depth, (300, 480)), prediction.log_depth)


def test_a_picture_that_was_not_shrunk_has_no_second_map():
    pipeline, settings = load_pipeline("nano"), EstimationSettings(num_steps=1, processing_resolution=64)
    for size in ((64, 96), (40, 60), (64, 64)):
        assert pipeline(torch.rand(1, 3, *size), settings).working_log_depth is None


def test_a_broken_map_is_refused():
    log_depth = torch.zeros(1, 1, 4, 4)
    with pytest.raises(ValueError, match="working_log_depth has 1 NaN"):
        prediction_of(log_depth, torch.tensor([[[[math.nan]]]]))
