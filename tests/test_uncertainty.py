import math

import numpy as np
import pytest
import torch
from scipy.stats import norm, spearmanr

from depthfm_core.depth.align import align
from depthfm_core.evaluation.uncertainty import log_error, measure_uncertainty

FRACTIONS = 50


def maps(seed=0, batch=3, height=14, width=19, steps=None):
    """Errors, a sigma that knows something about them, and a mask; with steps, both rounded so that many are equal."""
    rng = np.random.default_rng(seed)
    sigma = rng.gamma(2.0, 0.1, (batch, 1, height, width))
    error = np.abs(sigma * rng.standard_normal(sigma.shape))
    if steps:
        sigma, error = np.ceil(sigma * steps) / steps, np.ceil(error * steps) / steps
    valid = rng.random(sigma.shape) < 0.7
    return torch.from_numpy(error), torch.from_numpy(sigma), torch.from_numpy(valid)


def row(*values):
    return torch.tensor(values, dtype=torch.float64).view(1, 1, 1, -1)


def everywhere(values):
    return torch.ones_like(values, dtype=torch.bool)


def sparsify(error, by):
    """Mean error of the pixels left, those with the largest `by` left out, as a share of the mean error of all.

    Pixels with equal `by` are left out in every order, which on average is as if each had the mean error of them.
    """
    error = np.array([error[by == value].mean() for value in by])
    falling = error[np.argsort(-by, kind="stable")]
    left = [falling[math.floor(i * len(error) / FRACTIONS) :].mean() for i in range(FRACTIONS)]
    return np.array([*left, 0.0]) / error.mean()


@pytest.mark.parametrize("steps", [None, 10])
@pytest.mark.parametrize("seed", range(2))
def test_the_rank_correlation_is_that_of_scipy(seed, steps):
    error, sigma, valid = maps(seed, steps=steps)
    found = measure_uncertainty(error, sigma, valid).spearman
    expected = [spearmanr(error[i][valid[i]], sigma[i][valid[i]]).statistic for i in range(len(error))]
    assert found.dtype == torch.float64
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("steps", [None, 10])
@pytest.mark.parametrize("seed", range(2))
def test_the_sparsification_equals_an_independent_one(seed, steps):
    error, sigma, valid = maps(seed, steps=steps)
    found = measure_uncertainty(error, sigma, valid)
    np.testing.assert_allclose(found.removed.numpy(), np.arange(FRACTIONS + 1) / FRACTIONS, rtol=1e-12)
    for i in range(len(error)):
        e, s = error[i][valid[i]].numpy(), sigma[i][valid[i]].numpy()
        curve, oracle = sparsify(e, s), sparsify(e, e)
        np.testing.assert_allclose(found.curve[i].numpy(), curve, rtol=1e-9)
        np.testing.assert_allclose(found.oracle[i].numpy(), oracle, rtol=1e-9)
        gap = curve - oracle
        area = sum((gap[k] + gap[k + 1]) / 2 / FRACTIONS for k in range(FRACTIONS))
        assert found.ause[i].item() == pytest.approx(area, rel=1e-9)


def test_the_shares_within_one_two_and_three_sigma_are_counted():
    found = measure_uncertainty(row(0.9, 1.0, 1.1, 2.5, 3.5, 0.0), row(1, 1, 1, 1, 1, 0), everywhere(row(*range(6))))
    np.testing.assert_allclose(found.within.numpy(), [[3 / 6, 4 / 6, 5 / 6]], rtol=1e-12)
    expected = norm.cdf([1, 2, 3]) - norm.cdf([-1, -2, -3])
    np.testing.assert_allclose(found.expected_within.numpy(), expected, rtol=1e-12)
    assert found.sigmas.tolist() == [1, 2, 3]
    difference = np.mean(np.abs(np.array([3, 4, 5]) / 6 - expected))
    assert found.calibration_error.item() == pytest.approx(difference, rel=1e-12)


def test_normal_errors_of_deviation_sigma_are_calibrated_and_those_of_another_are_not():
    rng = np.random.default_rng(0)
    sigma = torch.from_numpy(rng.uniform(0.5, 2.0, (1, 1, 200, 200)))
    error = (sigma * torch.from_numpy(rng.standard_normal((1, 1, 200, 200)))).abs()
    assert measure_uncertainty(error, sigma, everywhere(error)).calibration_error.item() < 0.005
    for factor in (0.5, 2.0):
        assert measure_uncertainty(error, sigma * factor, everywhere(error)).calibration_error.item() > 0.1


def test_fifty_pixels_in_the_order_of_their_errors_sparsify_to_what_one_finds_by_hand():
    # Of the errors 1 to 50 those up to k are left: their mean is (k + 1) / 2, that of all 51 / 2.
    error = row(*range(1, 51))
    found = measure_uncertainty(error, error * 7, everywhere(error))
    np.testing.assert_allclose(found.curve[0].numpy(), [*((k + 1) / 51 for k in range(50, 0, -1)), 0], rtol=1e-12)
    assert (found.spearman.item(), found.ause.item()) == (pytest.approx(1), 0)


def test_a_sigma_that_ranks_backwards_is_worse_than_chance():
    error = row(*range(1, 51))
    found = measure_uncertainty(error, 51 - error, everywhere(error))
    constant = measure_uncertainty(error, torch.ones_like(error), everywhere(error))
    assert found.spearman.item() == pytest.approx(-1)
    assert found.ause.item() > constant.ause.item() > 0


def test_a_constant_sigma_leaves_the_error_as_it_is_and_has_no_rank():
    error, sigma, valid = maps()
    found = measure_uncertainty(error, torch.ones_like(sigma), valid)
    np.testing.assert_allclose(found.curve[:, :-1].numpy(), 1, rtol=1e-12)
    assert found.spearman.isnan().all()


def test_no_error_at_all_leaves_nothing_to_gain():
    error, sigma, valid = maps()
    found = measure_uncertainty(torch.zeros_like(error), sigma, valid)
    assert found.ause.tolist() == [0, 0, 0]
    assert (found.within == 1).all()


def test_the_order_of_pixels_has_no_influence_even_among_equal_sigmas():
    error, sigma, valid = maps(steps=5)
    expected = measure_uncertainty(error, sigma, valid)
    shuffled = torch.randperm(error[0].numel(), generator=torch.Generator().manual_seed(0))
    moved = (values.flatten(1)[:, shuffled].view(values.shape) for values in (error, sigma, valid))
    found = measure_uncertainty(*moved)
    for name in ("spearman", "curve", "oracle", "within", "ause"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12)


def test_the_unit_of_sigma_matters_to_the_calibration_alone():
    error, sigma, valid = maps()
    expected, found = measure_uncertainty(error, sigma, valid), measure_uncertainty(error, sigma * 4, valid)
    for name in ("spearman", "curve", "ause"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=1e-9, atol=1e-12)
    assert (found.within[:, 0] > expected.within[:, 0] + 0.1).all()


@pytest.mark.parametrize("broken", [torch.nan, torch.inf, -1.0])
def test_pixels_that_are_not_valid_have_no_influence(broken):
    error, sigma, valid = maps()
    expected = measure_uncertainty(error, sigma, valid)
    found = measure_uncertainty(error.where(valid, broken), sigma.where(valid, broken), valid)
    for name in ("spearman", "curve", "oracle", "within"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name), rtol=0, atol=0)


def test_an_image_without_valid_pixels_is_nan_and_its_neighbors_are_not():
    error, sigma, valid = maps()
    valid[1] = False
    found = measure_uncertainty(error, sigma, valid)
    for name in ("spearman", "curve", "oracle", "within", "ause", "calibration_error"):
        broken = getattr(found, name).isnan()
        assert [rows.any().item() for rows in broken] == [rows.all().item() for rows in broken] == [False, True, False]


def test_one_valid_pixel_is_enough_for_all_but_the_rank():
    found = measure_uncertainty(row(2.0), row(1.5), everywhere(row(2.0)))
    assert found.within.tolist() == [[0, 1, 1]]
    assert found.curve[0].tolist() == [1.0] * FRACTIONS + [0]
    assert found.spearman.isnan().all()


def test_the_error_in_log_depth_is_that_of_the_log_alignment_and_sigma_is_scaled_with_it():
    rng = np.random.default_rng(0)
    target = torch.from_numpy(rng.uniform(1, 9, (2, 1, 6, 7)))
    valid = torch.from_numpy(rng.random(target.shape) < 0.8)
    log_depth = -0.25 * target.log() + 3 + 0.01 * torch.from_numpy(rng.standard_normal(target.shape))
    spread = torch.from_numpy(rng.uniform(0, 0.1, target.shape))
    error, sigma = log_error(log_depth, spread, target.where(valid, torch.nan), valid)
    aligned = align(log_depth, target, valid, "log", dtype=torch.float64)
    torch.testing.assert_close(error[valid], (aligned.log() - target.log()).abs()[valid], rtol=1e-9, atol=1e-12)
    for i in range(2):
        slope = np.polyfit(log_depth[i][valid[i]], target[i][valid[i]].log(), 1)[0]
        torch.testing.assert_close(sigma[i], spread[i] * abs(slope), rtol=1e-9, atol=0)
    assert error.isfinite().all()


def test_what_is_no_deviation_is_an_error():
    error, sigma, valid = maps()
    with pytest.raises(ValueError, match="sigma must be finite and >= 0"):
        measure_uncertainty(error, -sigma, valid)
    for value in (torch.nan, torch.inf, -1.0):
        with pytest.raises(ValueError, match="error must be finite and >= 0"):
            measure_uncertainty(error.where(~valid, value), sigma, valid)
    with pytest.raises(ValueError, match=r"must be \[B, 1, H, W\] of one size"):
        measure_uncertainty(error[:1], sigma, valid)
    with pytest.raises(ValueError, match=r"must be \[B, 1, H, W\] of one size"):
        measure_uncertainty(error[:, 0], sigma[:, 0], valid[:, 0])
    with pytest.raises(ValueError, match="bool mask"):
        measure_uncertainty(error, sigma, valid.double())
