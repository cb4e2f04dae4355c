"""The blur within surfaces: how wide it is, and what it does not cross."""

import pytest
import torch

from depthfm_core.depth.smoothing import smooth_within_surfaces


@pytest.mark.parametrize("sigma_px", [0.3, 1.0, 2.0, 5.3])
def test_on_even_depth_a_point_becomes_a_spot_of_this_sigma(sigma_px):
    point = torch.zeros(1, 1, 101, 101)
    point[..., 50, 50] = 1
    spot = smooth_within_surfaces(point, torch.full_like(point, 1.1), sigma_px)[0, 0]
    offset = torch.arange(101.0) - 50
    assert spot.sum() == pytest.approx(1, abs=1e-4)
    for profile in (spot.sum(0), spot.sum(1)):
        assert (profile * offset**2).sum().sqrt() == pytest.approx(sigma_px, rel=1e-3)
        assert torch.allclose(profile, profile.flip(0), atol=1e-6)


def test_next_to_no_sigma_changes_next_to_nothing():
    values, log_depth = torch.rand(2, 1, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(smooth_within_surfaces(values, log_depth, 1e-6), values)


def test_constant_values_stay_whatever_the_depth():
    log_depth = torch.rand(2, 1, 7, 9, generator=torch.Generator().manual_seed(0))
    values = torch.tensor([0.3, -5.0]).view(1, 2, 1, 1).expand(2, 2, 7, 9)
    torch.testing.assert_close(smooth_within_surfaces(values, log_depth, 4.0), values)


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("width", [1, 8])
def test_a_step_of_depth_keeps_two_sides_apart_and_so_does_a_ramp(width, upright):
    log_depth = ((torch.arange(40.0) - 19.5) / width + 0.5).clamp(0, 1).expand(1, 1, 40, 40)
    values = (torch.arange(40) >= 20).float().expand(1, 1, 40, 40)
    log_depth, values = (of if upright else of.mT for of in (log_depth, values))
    smoothed = smooth_within_surfaces(values, log_depth, 6.0)
    assert smoothed[log_depth == 0].max() < 0.03
    assert smoothed[log_depth == 1].min() > 0.97


def test_values_mix_freely_on_either_side():
    values = torch.randn(1, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    log_depth = (torch.arange(40) >= 20).float().expand(1, 1, 40, 40)
    assert smooth_within_surfaces(values, log_depth, 6.0).std() < 0.1


@pytest.mark.parametrize("shift", [-7.0, 9.0])
def test_the_unit_of_depth_does_not_matter(shift):
    values, log_depth = torch.rand(2, 1, 1, 20, 30, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        smooth_within_surfaces(values, log_depth + shift, 3.0),
        smooth_within_surfaces(values, log_depth, 3.0),
        atol=1e-5,
        rtol=0,
    )


def test_what_comes_in_is_not_changed():
    values, log_depth = torch.rand(2, 1, 1, 5, 6, generator=torch.Generator().manual_seed(0))
    before = values.clone(), log_depth.clone()
    smooth_within_surfaces(values, log_depth, 3.0)
    assert torch.equal(values, before[0]) and torch.equal(log_depth, before[1])


def test_a_gradient_goes_through():
    values = torch.rand(1, 2, 5, 6, generator=torch.Generator().manual_seed(0)).requires_grad_()
    smooth_within_surfaces(values, torch.zeros(1, 1, 5, 6), 2.0).sum().backward()
    assert values.grad.sum() == pytest.approx(values.numel(), rel=1e-5)
