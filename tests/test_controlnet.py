import math

import numpy as np
import pytest
import torch

from depthfm_core.depth.controlnet import SIZINGS, controlnet_image, gray_range
from depthfm_core.depth.normalize import DisplayLimits
from depthfm_core.depth.prediction import DepthPrediction


def prediction_of(depth):
    log_depth = depth.log()
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def random_prediction(batch=2, height=30, width=41):
    generator = torch.Generator().manual_seed(0)
    return prediction_of(10 ** torch.rand(batch, 1, height, width, generator=generator))


def test_gray_is_linear_in_inverse_depth_with_near_white_and_far_black():
    prediction = prediction_of(torch.tensor([1.0, 2.0, 4.0, 10.0]).view(1, 1, 1, 4))
    image = controlnet_image(prediction, limits=DisplayLimits(0, 100))
    expected = (torch.tensor([1.0, 0.5, 0.25, 0.1]) - 0.1) / 0.9
    for channel in image[0]:
        torch.testing.assert_close(channel[0], expected, atol=1e-6, rtol=1e-5)


def test_the_picture_has_three_equal_channels_in_0_to_1_and_the_size_of_the_prediction():
    image = controlnet_image(random_prediction())
    assert image.shape == (2, 3, 30, 41)
    assert image.dtype == torch.float32
    assert image.min() == 0
    assert image.max() == 1
    assert torch.equal(image[:, 0], image[:, 1])
    assert torch.equal(image[:, 0], image[:, 2])


@pytest.mark.parametrize(("low", "high"), [(2, 98), (0, 90), (25, 100)])
def test_the_share_of_pixels_beyond_the_percentiles_is_clipped(low, high):
    image = controlnet_image(random_prediction(), limits=DisplayLimits(low, high))[:, 0]
    pixels = image[0].numel()
    assert ((image == 0).sum((1, 2)) / pixels).tolist() == pytest.approx([low / 100] * 2, abs=2 / pixels)
    assert ((image == 1).sum((1, 2)) / pixels).tolist() == pytest.approx([1 - high / 100] * 2, abs=2 / pixels)


def test_the_default_percentiles_are_2_and_98():
    prediction = random_prediction()
    explicit = controlnet_image(prediction, limits=DisplayLimits(2, 98))
    assert torch.equal(controlnet_image(prediction), explicit)


def test_one_extreme_pixel_does_not_change_the_others_much():
    depth = 2 + torch.rand(1, 1, 20, 20, generator=torch.Generator().manual_seed(0))
    spoiled = depth.clone()
    spoiled[0, 0, 3, 4] = 0.01
    difference = controlnet_image(prediction_of(depth)) - controlnet_image(prediction_of(spoiled))
    difference[0, :, 3, 4] = 0
    assert difference.abs().max() < 0.02


def test_an_image_in_a_batch_gets_the_picture_that_it_gets_alone():
    prediction = random_prediction(batch=3)
    together = controlnet_image(prediction)
    for i in range(3):
        alone = DepthPrediction.from_log_depth(prediction.log_depth[i : i + 1], prediction.uncertainty[i : i + 1])
        assert torch.equal(together[i], controlnet_image(alone)[0])


def test_scale_and_unit_of_depth_do_not_matter():
    depth = 10 ** torch.rand(1, 1, 9, 9, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(
        controlnet_image(prediction_of(depth)), controlnet_image(prediction_of(depth * 50)), atol=1e-5, rtol=0
    )


def test_a_constant_image_is_white():
    assert torch.equal(controlnet_image(prediction_of(torch.full((1, 1, 4, 5), 3.0))), torch.ones(1, 3, 4, 5))


def test_where_the_percentiles_coincide_the_whole_range_is_shown():
    depth = torch.full((1, 1, 10, 20), 4.0)
    depth[0, 0, 0, 0], depth[0, 0, 0, 1] = 1.0, 8.0
    image = controlnet_image(prediction_of(depth))[0, 0]
    assert (image[0, 0], image[0, 1]) == (1, 0)
    assert image[5, 5] == pytest.approx((1 / 4 - 1 / 8) / (1 - 1 / 8), abs=1e-5)


@pytest.mark.parametrize("multiple", [1, 8, 64])
def test_a_multiple_pads_right_and_bottom_by_the_last_column_and_row(multiple):
    prediction = random_prediction(height=30, width=65)
    plain, padded = controlnet_image(prediction), controlnet_image(prediction, multiple=multiple)
    assert padded.shape[2:] == tuple(multiple * math.ceil(side / multiple) for side in (30, 65))
    assert torch.equal(padded[..., :30, :65], plain)
    assert torch.equal(padded[..., :30, 64:], plain[..., 64:].expand_as(padded[..., :30, 64:]))
    assert torch.equal(padded[..., 29:, :], padded[..., 29:30, :].expand_as(padded[..., 29:, :]))


def test_a_side_that_is_a_multiple_already_is_not_padded():
    assert controlnet_image(random_prediction(height=64, width=128), multiple=64).shape == (2, 3, 64, 128)


def test_over_a_batch_equal_depth_has_equal_gray_and_the_percentiles_count_all_images():
    log_depth = random_prediction().log_depth + torch.tensor([0.0, 2.0]).view(2, 1, 1, 1)
    prediction = DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))
    image = controlnet_image(prediction, "batch", DisplayLimits(10, 70))
    disparity = (-log_depth).exp()
    low, high = np.percentile(disparity.numpy(), [10, 70])
    expected = ((disparity - low) / (high - low)).clamp(0, 1).expand(-1, 3, -1, -1)
    torch.testing.assert_close(image, expected, atol=1e-5, rtol=0)


@pytest.mark.parametrize("shift", [2.0, 200.0])
def test_with_the_grays_of_its_batch_an_image_alone_is_as_among_the_others(shift):
    log_depth = random_prediction().log_depth + torch.tensor([0.0, shift]).view(2, 1, 1, 1)
    prediction = DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))
    together = controlnet_image(prediction, "batch", DisplayLimits(10, 70))
    grays = gray_range(prediction, "batch", DisplayLimits(10, 70))
    for image, own in zip(together, log_depth, strict=True):
        alone = DepthPrediction.from_log_depth(own[None], torch.zeros_like(own[None]))
        torch.testing.assert_close(controlnet_image(alone, grays=grays)[0], image, atol=1e-6, rtol=0)
        assert not torch.equal(controlnet_image(alone)[0], image)


def test_a_fixed_range_is_linear_in_disparity_from_white_at_nearest_to_black_at_farthest_and_cut_beyond():
    nearest, farthest = -0.5, 0.7
    log_depth = torch.tensor([-200.0, -1, nearest, 0, 0.3, farthest, 2, 200]).view(1, 1, 2, 4)
    prediction = DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))
    limits = DisplayLimits(99, 1, nearest, farthest)  # looks at no percentiles
    image = controlnet_image(prediction, "fixed range", limits)
    inside = [(math.exp(-x) - math.exp(-farthest)) / (math.exp(-nearest) - math.exp(-farthest)) for x in (0, 0.3)]
    expected = torch.tensor([1, 1, 1, *inside, 0, 0, 0]).view(1, 1, 2, 4).expand(-1, 3, -1, -1)
    torch.testing.assert_close(image, expected, atol=1e-6, rtol=0)


def test_in_a_fixed_range_an_image_alone_is_as_among_others():
    prediction = random_prediction()
    fixed = "fixed range", DisplayLimits(nearest=0.2, farthest=2.0)
    together = controlnet_image(prediction, *fixed)
    for image, own in zip(together, prediction.log_depth, strict=True):
        alone = DepthPrediction.from_log_depth(own[None], torch.zeros_like(own[None]))
        assert torch.equal(controlnet_image(alone, *fixed)[0], image)


def test_over_a_batch_of_one_the_picture_is_the_images_own():
    prediction = random_prediction(batch=1)
    assert torch.equal(controlnet_image(prediction, normalization="batch"), controlnet_image(prediction))


def test_crop_keeps_the_center_and_as_much_as_the_multiple_allows():
    prediction = random_prediction(height=30, width=41)
    image = controlnet_image(prediction, multiple=8, sizing="crop")
    assert torch.equal(image, controlnet_image(prediction)[..., 3:27, 0:40])


@pytest.mark.parametrize(
    ("size", "multiple", "expected"),
    [((30, 41), 8, (32, 40)), ((12, 11), 8, (16, 8)), ((3, 200), 64, (64, 192)), ((64, 32), 32, (64, 32))],
)
def test_stretch_scales_each_side_to_its_nearest_multiple_but_never_to_nothing(size, multiple, expected):
    prediction = random_prediction(height=size[0], width=size[1])
    assert controlnet_image(prediction, multiple=multiple, sizing="stretch").shape == (2, 3, *expected)


def test_stretch_keeps_all_that_there_is_to_see():
    depth = torch.linspace(1, 2, 100).reciprocal().expand(1, 1, 90, 100)  # gray rises evenly from left to right
    image = controlnet_image(prediction_of(depth), limits=DisplayLimits(0, 100), multiple=64, sizing="stretch")
    assert image.shape == (1, 3, 64, 128)
    expected = ((torch.arange(128) + 0.5) / 128 * 100 - 0.5).clamp(0, 99) / 99
    torch.testing.assert_close(image[0, 0, 30], expected, atol=1e-3, rtol=0)


def test_stretching_to_a_smaller_size_averages_instead_of_skipping_pixels():
    stripes = torch.tensor([1.0, 2.0]).repeat(95)[:189].expand(1, 1, 189, 189)
    image = controlnet_image(prediction_of(stripes), multiple=128, sizing="stretch")
    assert image.shape[-1] == 128
    assert (image[0, 0, 64, 8:-8] - 0.5).abs().max() < 0.35  # skipping would leave stripes of black and white


@pytest.mark.parametrize("sizing", SIZINGS)
def test_without_a_multiple_the_sizing_changes_nothing(sizing):
    prediction = random_prediction()
    for multiple in (None, 1):
        assert torch.equal(controlnet_image(prediction, multiple=multiple, sizing=sizing), controlnet_image(prediction))


def test_an_image_too_small_to_be_cropped_is_an_error_that_offers_the_others():
    with pytest.raises(ValueError, match="41 x 30 pixels cannot be cropped to a multiple of 32; choose.*'pad'"):
        controlnet_image(random_prediction(height=30, width=41), multiple=32, sizing="crop")


def test_images_beyond_the_limit_of_torch_quantile_work():
    side = 4097  # 4097 * 4097 > 2**24
    row = torch.linspace(-1, 1, side).expand(1, 1, side, side)
    image = controlnet_image(DepthPrediction.from_log_depth(row, torch.zeros(1, 1, side, side)))
    disparity = torch.exp(-row[0, 0, 0] - 1)
    low, high = np.percentile(disparity.numpy(), [2, 98])
    middle = ((disparity[side // 2] - low) / (high - low)).item()
    assert image[0, 0, 0, side // 2].item() == pytest.approx(middle, abs=1e-4)


def test_settings_out_of_range_are_errors():
    prediction = random_prediction()
    for low, high in ((-1, 98), (2, 101), (50, 50), (98, 2), (math.nan, 98)):
        with pytest.raises(ValueError, match="Percentiles must be 0 <= low < high <= 100"):
            controlnet_image(prediction, limits=DisplayLimits(low, high))
    for nearest, farthest in ((0.5, 0.5), (1, -1), (math.nan, 1), (0, math.inf)):
        with pytest.raises(ValueError, match="fixed range must have nearest < farthest, but"):
            controlnet_image(prediction, "fixed range", DisplayLimits(nearest=nearest, farthest=farthest))
    for multiple in (0, -64):
        with pytest.raises(ValueError, match="multiple must be None or 1 or more"):
            controlnet_image(prediction, multiple=multiple)
    with pytest.raises(ValueError, match="Unknown sizing 'fit'; choose one of pad, crop, stretch"):
        controlnet_image(prediction, multiple=64, sizing="fit")
    with pytest.raises(ValueError, match="Unknown normalization 'video'; choose one of per image, batch"):
        controlnet_image(prediction, normalization="video")
