import math

import pytest
import torch

from depthfm_core.depth.prediction import DepthPrediction


def predict(log_depth):
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def random_log_depth(seed=0, batch=2, height=5, width=7):
    return torch.rand(batch, 1, height, width, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def test_depth_is_exp_then_minimum_to_zero_and_maximum_to_one_of_each_image():
    log_depth = torch.tensor([[0.0, math.log(2), math.log(5)], [1.0, 0.0, -1.0]]).view(2, 1, 1, 3)
    depth = predict(log_depth).depth
    torch.testing.assert_close(depth[0].flatten(), torch.tensor([0.0, 0.25, 1.0]))
    middle = (1 - math.exp(-1)) / (math.exp(1) - math.exp(-1))
    torch.testing.assert_close(depth[1].flatten(), torch.tensor([1.0, middle, 0.0]))


def test_an_image_in_a_batch_gets_the_depth_that_it_gets_alone():
    log_depth = random_log_depth(batch=3)
    together = predict(log_depth)
    for i in range(3):
        alone = predict(log_depth[i : i + 1])
        assert torch.equal(together.depth[i], alone.depth[0])
        assert torch.equal(together.relative_depth[i], alone.relative_depth[0])
        assert torch.equal(together.disparity[i], alone.disparity[0])


def test_a_shift_of_log_depth_changes_neither_depth_nor_its_views():
    log_depth = random_log_depth()
    plain, shifted = predict(log_depth), predict(log_depth + 3)
    torch.testing.assert_close(plain.depth, shifted.depth)
    torch.testing.assert_close(plain.relative_depth, shifted.relative_depth)
    torch.testing.assert_close(plain.disparity, shifted.disparity)


def test_relative_depth_keeps_the_ratios_and_ends_at_one():
    log_depth = random_log_depth()
    relative = predict(log_depth).relative_depth
    assert torch.equal(relative.amax((1, 2, 3)), torch.ones(2))
    assert relative.min() > 0
    torch.testing.assert_close(relative.log().diff(dim=3), log_depth.diff(dim=3), atol=1e-5, rtol=1e-4)


def test_disparity_is_one_over_relative_depth_with_the_nearest_point_at_one():
    prediction = predict(random_log_depth())
    inverse = 1 / prediction.relative_depth
    torch.testing.assert_close(prediction.disparity, inverse / inverse.amax((1, 2, 3), keepdim=True))
    assert torch.equal(prediction.disparity.amax((1, 2, 3)), torch.ones(2))
    assert torch.equal(prediction.disparity == 1, prediction.depth == 0)


def test_shared_relative_depth_has_one_factor_for_all_images_so_that_frames_compare():
    log_depth = random_log_depth(batch=3) + torch.tensor([0.0, 1.5, -2.0]).view(3, 1, 1, 1)
    prediction = predict(log_depth)
    torch.testing.assert_close(prediction.shared_relative_depth, (log_depth - log_depth.max()).exp())
    assert prediction.shared_relative_depth.max() == 1


def test_disparity_from_one_log_depth_compares_among_images_and_is_positive():
    log_depth = torch.tensor([[-1.0, 0.5, 1.0], [0.5, 1.0, 300.0]]).view(2, 1, 1, 3)
    prediction = DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))
    disparity = prediction.disparity_from(-1.0)
    torch.testing.assert_close(disparity[..., :2], (-1 - log_depth[..., :2]).exp())
    assert disparity[0, 0, 0, 1] == disparity[1, 0, 0, 0]
    assert disparity.max() == 1 and disparity.min() > 0
    assert torch.equal(prediction.disparity_from(-1.0)[0], prediction.disparity[0])


def test_of_one_image_shared_relative_depth_is_its_own():
    prediction = predict(random_log_depth(batch=1))
    assert torch.equal(prediction.shared_relative_depth, prediction.relative_depth)


@pytest.mark.parametrize("value", [-200.0, 0.0, 1.0, 200.0])
def test_a_constant_image_has_depth_zero_and_finite_views(value):
    prediction = predict(torch.full((1, 1, 3, 4), value))
    assert torch.equal(prediction.depth, torch.zeros(1, 1, 3, 4))
    assert torch.equal(prediction.relative_depth, torch.ones(1, 1, 3, 4))
    assert torch.equal(prediction.disparity, torch.ones(1, 1, 3, 4))


def test_a_range_beyond_float32_stays_finite_and_positive():
    prediction = predict(torch.tensor([-300.0, 0.0, 300.0]).view(1, 1, 1, 3))
    for values in (prediction.depth, prediction.relative_depth, prediction.disparity):
        assert values.isfinite().all()
    assert prediction.relative_depth.min() > 0
    assert prediction.disparity.min() > 0


def test_half_precision_input_gives_float32_maps():
    prediction = DepthPrediction.from_log_depth(random_log_depth().half(), torch.zeros(2, 1, 5, 7).bfloat16())
    assert {prediction.depth.dtype, prediction.log_depth.dtype, prediction.uncertainty.dtype} == {torch.float32}


def test_log_depth_and_uncertainty_are_kept_as_they_came():
    log_depth, uncertainty = random_log_depth(), random_log_depth(1).abs()
    prediction = DepthPrediction.from_log_depth(log_depth, uncertainty)
    assert torch.equal(prediction.log_depth, log_depth)
    assert torch.equal(prediction.uncertainty, uncertainty)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("name", ["log_depth", "uncertainty"])
def test_a_nan_or_infinite_value_is_an_error_that_names_the_map_and_counts_them(name, value):
    maps = {"log_depth": random_log_depth(), "uncertainty": random_log_depth(1).abs()}
    maps[name][0, 0, 1, :2] = value
    with pytest.raises(ValueError, match=f"{name} has 2 NaN or infinite values among 70"):
        DepthPrediction.from_log_depth(**maps)


@pytest.mark.parametrize("shape", [(5, 7), (1, 5, 7), (1, 3, 5, 7), (0, 1, 5, 7), (1, 1, 0, 7)])
def test_another_shape_is_an_error_that_shows_it(shape):
    with pytest.raises(ValueError, match=r"log_depth must be \[B, 1, H, W\]"):
        predict(torch.zeros(shape))


def test_maps_of_different_shapes_are_an_error():
    with pytest.raises(ValueError, match="must have one shape"):
        DepthPrediction.from_log_depth(torch.zeros(2, 1, 5, 7), torch.zeros(1, 1, 5, 7))


def test_values_out_of_range_are_errors():
    zeros = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match="uncertainty must be >= 0"):
        DepthPrediction(zeros, zeros - 0.1)
    with pytest.raises(ValueError, match="float32"):
        DepthPrediction(zeros.double(), zeros)


def test_depth_is_computed_when_it_is_asked_for_and_not_kept():
    prediction = predict(random_log_depth())
    assert prediction.depth.shape == (2, 1, 5, 7)
    assert vars(prediction).keys() == {"log_depth", "uncertainty", "working_log_depth"}


@pytest.mark.parametrize("working", [(), (torch.zeros(2, 1, 3, 4),)])
def test_comfyuis_cache_is_told_all_maps(working):
    prediction = DepthPrediction.from_log_depth(random_log_depth(), torch.zeros(2, 1, 5, 7), *working)
    told = prediction._comfy_cache_tensors()
    assert {id(values) for values in told} == {id(values) for values in vars(prediction).values() if values is not None}


def test_ram_usage_is_that_of_all_float32_maps():
    prediction = DepthPrediction.from_log_depth(torch.rand(2, 1, 5, 7), torch.zeros(2, 1, 5, 7))
    assert prediction.get_ram_usage() == 2 * 2 * 5 * 7 * 4
    smaller = DepthPrediction.from_log_depth(torch.rand(2, 1, 5, 7), torch.zeros(2, 1, 5, 7), torch.rand(2, 1, 3, 4))
    assert smaller.get_ram_usage() == (2 * 5 * 7 + 3 * 4) * 2 * 4


def test_ram_usage_counts_an_expanded_map_as_the_value_that_it_is_in_memory():
    prediction = DepthPrediction.from_log_depth(torch.rand(2, 1, 5, 7), torch.zeros(1, 1, 1, 1).expand(2, 1, 5, 7))
    assert prediction.get_ram_usage() == 2 * 5 * 7 * 4 + 4


def test_nan_in_an_expanded_map_is_refused():
    values = torch.tensor([[[[0.0]]], [[[torch.nan]]]]).expand(2, 1, 5, 7)
    with pytest.raises(ValueError, match="uncertainty has 35 NaN"):
        DepthPrediction.from_log_depth(torch.rand(2, 1, 5, 7), values)


def test_a_map_of_other_images_is_refused_and_one_in_double_precision_is_taken():
    log_depth = torch.zeros(2, 1, 4, 4, dtype=torch.float64)
    assert DepthPrediction.from_log_depth(log_depth, log_depth, log_depth).working_log_depth.dtype == torch.float32
    with pytest.raises(ValueError, match="of the same images, but came of 1, not 2"):
        DepthPrediction.from_log_depth(log_depth, log_depth, log_depth[:1])
