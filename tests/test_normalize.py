import math

import numpy as np
import pytest
import torch

from depthfm_core.depth.normalize import NORMALIZATIONS, DisplayLimits, for_single_frames, normalize_depth, percentiles
from depthfm_core.depth.prediction import DepthPrediction


def predict(log_depth):
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def frames(*ranges, height=20, width=30):
    """Images whose log depth is random from one value to another, both ends present."""
    log_depth = torch.rand(len(ranges), 1, height, width, generator=torch.Generator().manual_seed(0))
    for image, (low, high) in zip(log_depth, ranges, strict=True):
        image.mul_(high - low).add_(low)
        image[0, 0, 0], image[0, 0, 1] = low, high
    return predict(log_depth)


def test_per_image_is_the_predictions_depth_and_the_default():
    prediction = frames((-1, 1), (-0.5, 0))
    assert torch.equal(normalize_depth(prediction), prediction.depth)
    assert torch.equal(normalize_depth(prediction, "per image"), prediction.depth)


def test_over_a_batch_the_nearest_pixel_of_all_is_0_the_farthest_1_and_equal_depth_is_equal():
    prediction = frames((0, math.log(2)), (math.log(2), math.log(5)))
    shown = normalize_depth(prediction, "batch")
    expected = (prediction.log_depth.exp() - 1) / 4
    torch.testing.assert_close(shown, expected, atol=1e-6, rtol=0)
    assert shown[0, 0, 0, 1].item() == pytest.approx(0.25) == shown[1, 0, 0, 0].item()


def test_over_a_batch_of_one_the_range_is_the_images_own():
    prediction = frames((-1, 1))
    torch.testing.assert_close(normalize_depth(prediction, "batch"), prediction.depth, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("low", "high"), [(2, 98), (0, 90), (30, 100)])
def test_the_share_of_pixels_beyond_the_percentiles_of_each_image_is_clipped(low, high):
    prediction = frames((-1, 1), (2, 3))
    limits = DisplayLimits(low_percentile=low, high_percentile=high)
    shown = normalize_depth(prediction, "percentile", limits)
    pixels = shown[0].numel()
    assert ((shown == 0).sum((1, 2, 3)) / pixels).tolist() == pytest.approx([low / 100] * 2, abs=2 / pixels)
    assert ((shown == 1).sum((1, 2, 3)) / pixels).tolist() == pytest.approx([1 - high / 100] * 2, abs=2 / pixels)


@pytest.mark.parametrize(("low", "high"), [(2, 98), (0, 90), (30, 100)])
def test_over_a_batch_the_share_of_all_its_pixels_beyond_the_percentiles_is_clipped(low, high):
    prediction = frames((-1, 1), (0, 2))
    limits = DisplayLimits(low_percentile=low, high_percentile=high)
    shown = normalize_depth(prediction, "batch percentile", limits)
    ends = np.percentile(prediction.log_depth.exp().numpy(), [low, high])
    expected = (prediction.log_depth.exp() - ends[0]) / (ends[1] - ends[0])
    torch.testing.assert_close(shown, expected.clamp(0, 1).float(), atol=1e-4, rtol=0)
    assert (shown == 0).float().mean().item() == pytest.approx(low / 100, abs=2 / shown.numel())
    assert (shown == 1).float().mean().item() == pytest.approx(1 - high / 100, abs=2 / shown.numel())


def test_an_outlier_in_one_frame_squeezes_a_batch_by_its_ends_but_not_by_percentiles():
    steady = frames((-0.5, 0.5), (-0.5, 0.5))
    jumped = steady.log_depth.clone()
    jumped[1, 0, 5, 5] = 5
    by_ends, by_percentiles = (normalize_depth(predict(jumped), f"batch{suffix}") for suffix in ("", " percentile"))
    assert by_ends[0].max() < 0.02
    torch.testing.assert_close(by_percentiles[0], normalize_depth(steady, "batch percentile")[0], atol=0.01, rtol=0)


def test_between_the_percentiles_depth_is_linear():
    prediction = frames((-1, 1))
    shown = normalize_depth(prediction, "percentile", DisplayLimits(low_percentile=10, high_percentile=80))
    low, high = np.percentile(prediction.depth.numpy(), [10, 80])
    expected = ((prediction.depth - low) / (high - low)).clamp(0, 1)
    torch.testing.assert_close(shown, expected, atol=1e-5, rtol=0)


def test_a_fixed_range_shows_its_ends_as_0_and_1_and_clips_what_lies_beyond():
    log_depth = torch.tensor([-0.7, -0.5, 0.0, 0.25, 0.4]).view(1, 1, 1, 5)
    shown = normalize_depth(predict(log_depth), "fixed range", DisplayLimits(nearest=-0.5, farthest=0.25))
    middle = (1 - math.exp(-0.5)) / (math.exp(0.25) - math.exp(-0.5))
    torch.testing.assert_close(shown.flatten(), torch.tensor([0, 0, middle, 1, 1]), atol=1e-6, rtol=0)


def test_in_a_fixed_range_an_image_does_not_depend_on_the_others_of_its_batch_nor_on_its_own_range():
    limits = DisplayLimits(nearest=-2, farthest=2)
    together = normalize_depth(frames((-1, 1), (-0.2, 0.3)), "fixed range", limits)
    cut = predict(frames((-1, 1), (-0.2, 0.3)).log_depth[1:, :, 5:, 5:])
    assert torch.equal(normalize_depth(cut, "fixed range", limits), together[1:, :, 5:, 5:])


def test_a_fixed_range_of_the_images_own_ends_is_the_predictions_depth():
    prediction = frames((-0.75, 0.5))
    shown = normalize_depth(prediction, "fixed range", DisplayLimits(nearest=-0.75, farthest=0.5))
    torch.testing.assert_close(shown, prediction.depth, atol=1e-6, rtol=0)


@pytest.mark.parametrize(("nearest", "farthest"), [(-200.0, 200.0), (0.0, 1e-5)])
def test_a_huge_or_tiny_fixed_range_stays_exact(nearest, farthest):
    log_depth = torch.linspace(nearest, farthest, 5).view(1, 1, 1, 5)
    shown = normalize_depth(predict(log_depth), "fixed range", DisplayLimits(nearest=nearest, farthest=farthest))
    exact = np.expm1(log_depth.double().numpy() - nearest) / np.expm1(farthest - nearest)
    np.testing.assert_allclose(shown.numpy(), exact.clip(0, 1), atol=1e-6)


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
def test_every_normalization_keeps_order_shape_and_the_range_of_0_to_1(normalization):
    prediction = frames((-1, 1), (-0.5, 1.5))
    shown = normalize_depth(prediction, normalization)
    assert shown.shape == prediction.depth.shape and shown.dtype == torch.float32
    assert shown.min() == 0 and shown.max() == 1
    for image, log_depth in zip(shown, prediction.log_depth, strict=True):
        assert (image.flatten()[log_depth.flatten().argsort()].diff() >= 0).all()


@pytest.mark.parametrize("normalization", NORMALIZATIONS)
@pytest.mark.parametrize("ranges", [((-1, 1), (-0.5, 1.5)), ((-200, 0), (0, 200)), ((0.25, 0.25), (0.25, 0.25))])
def test_for_single_frames_each_image_alone_is_shown_as_among_the_others(normalization, ranges):
    prediction = frames(*ranges)
    limits = DisplayLimits(low_percentile=5, nearest=-0.25)
    together = normalize_depth(prediction, normalization, limits)
    alone = for_single_frames(prediction, normalization, limits)
    for image, log_depth in zip(together, prediction.log_depth, strict=True):
        torch.testing.assert_close(normalize_depth(predict(log_depth[None]), *alone)[0], image, atol=1e-6, rtol=0)


@pytest.mark.parametrize("normalization", [name for name in NORMALIZATIONS if name != "fixed range"])
@pytest.mark.parametrize("value", [-300.0, 0.0, 300.0])
def test_a_constant_batch_is_0_everywhere(normalization, value):
    shown = normalize_depth(predict(torch.full((2, 1, 3, 4), value)), normalization)
    assert torch.equal(shown, torch.zeros(2, 1, 3, 4))


@pytest.mark.parametrize("normalization", [name for name in NORMALIZATIONS if name != "fixed range"])
def test_a_shift_of_log_depth_changes_nothing_but_a_fixed_range(normalization):
    prediction = frames((-1, 1), (-0.5, 0))
    torch.testing.assert_close(
        normalize_depth(prediction, normalization),
        normalize_depth(predict(prediction.log_depth + 2), normalization),
        atol=1e-5,
        rtol=0,
    )


def test_where_percentiles_coincide_they_become_the_ends_of_that_image_only():
    values = torch.zeros(2, 1, 10, 10)
    values[0, 0, 0, 0], values[0, 0, 0, 1] = -3, 7
    values[1] = torch.arange(100).view(1, 10, 10)
    low, high = percentiles(values, 10, 90)
    assert low.shape == high.shape == (2, 1, 1, 1)
    assert low.flatten().tolist() == pytest.approx([-3, 9.9]) and high.flatten().tolist() == pytest.approx([7, 89.1])


def test_settings_out_of_range_are_errors_where_they_are_used():
    prediction = frames((-1, 1))
    with pytest.raises(ValueError, match="Unknown normalization 'global'; choose one of per image, batch"):
        normalize_depth(prediction, "global")
    for low, high in ((-1, 98), (2, 101), (50, 50), (98, 2), (math.nan, 98)):
        limits = DisplayLimits(low_percentile=low, high_percentile=high)
        with pytest.raises(ValueError, match="Percentiles must be 0 <= low < high <= 100"):
            normalize_depth(prediction, "percentile", limits)
        with pytest.raises(ValueError, match="Percentiles must be 0 <= low < high <= 100"):
            normalize_depth(prediction, "batch percentile", limits)
        assert torch.equal(normalize_depth(prediction, "per image", limits), prediction.depth)
    for nearest, farthest in ((1, 1), (2, 1), (-math.inf, 0), (math.nan, 1)):
        with pytest.raises(ValueError, match="nearest < farthest"):
            normalize_depth(prediction, "fixed range", DisplayLimits(nearest=nearest, farthest=farthest))
