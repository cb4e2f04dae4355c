"""Depth pictures as depth again: each way of reading undoes the way of writing that has its name."""

import math

import pytest
import torch

from depthfm_core.depth.controlnet import controlnet_image
from depthfm_core.depth.from_image import VALUES, depth_from_image
from depthfm_core.depth.normalize import DisplayLimits, normalize_depth
from depthfm_core.depth.prediction import DepthPrediction

NEAR, FAR = -0.7, 0.9


@pytest.fixture(scope="module")
def prediction():
    log_depth = torch.randn(2, 1, 40, 50, generator=torch.Generator().manual_seed(0))
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


def fixed_range(prediction):
    return normalize_depth(prediction, "fixed range", DisplayLimits(nearest=NEAR, farthest=FAR))


# Depth in [0, 1] between the two ends, as the views and Save Depth write it: [B, 1, H, W].
WRITTEN = {
    "depth image": lambda prediction: controlnet_image(
        prediction, "fixed range", DisplayLimits(nearest=NEAR, farthest=FAR)
    ),
    "depth": fixed_range,
    "near white": lambda prediction: 1 - fixed_range(prediction),
    "disparity": lambda prediction: prediction.disparity_from(NEAR).clamp(math.exp(NEAR - FAR), 1),
    "log depth": lambda prediction: (prediction.log_depth.clamp(NEAR, FAR) - NEAR) / (FAR - NEAR),
}


def test_every_way_of_reading_has_its_way_of_writing():
    assert list(WRITTEN) == list(VALUES)


@pytest.mark.parametrize("values", VALUES)
def test_depth_that_was_written_between_two_ends_comes_back(prediction, values):
    read = depth_from_image(WRITTEN[values](prediction), values, NEAR, FAR)
    expected = DepthPrediction.from_log_depth(prediction.log_depth.clamp(NEAR, FAR), prediction.uncertainty)
    for name in ("log_depth", "depth", "uncertainty"):
        torch.testing.assert_close(getattr(read, name), getattr(expected, name), rtol=0, atol=2e-6)
    assert read.working_log_depth is None


@pytest.mark.parametrize("bits", [8, None])
@pytest.mark.parametrize("ends", [(-1.0, 1.0), (0.0, 4.0)])
def test_a_depth_image_gives_the_same_depth_image_however_deep_it_is_said_to_be(prediction, ends, bits):
    picture = controlnet_image(prediction)
    if bits:
        picture = (picture * 255).round() / 255
    again = controlnet_image(depth_from_image(picture, "depth image", *ends))
    torch.testing.assert_close(again, picture, rtol=0, atol=5e-4)  # an eighth of a gray of 8 bits


@pytest.mark.parametrize("values", VALUES)
def test_a_ramp_stays_monotone_and_has_both_ends_in_every_reading(values):
    image = torch.linspace(0, 1, 256).expand(1, 3, 2, 256)
    log_depth = depth_from_image(image, values, NEAR, FAR).log_depth[0, 0, 0].double()
    near_is_white = values in ("depth image", "near white", "disparity")
    steps = log_depth.flip(0).diff() if near_is_white else log_depth.diff()
    if values == "disparity":  # its dark end lies beyond the farthest point
        assert (steps >= 0).all() and (steps > 0).sum() > 150
    else:
        assert (steps > 0).all()
    torch.testing.assert_close(log_depth.aminmax(), (log_depth.new_tensor(NEAR), log_depth.new_tensor(FAR)))


def test_inverting_the_picture_turns_depth_and_near_white_into_each_other(prediction):
    image = prediction.depth.expand(-1, 3, -1, -1)
    one, other = (depth_from_image(*given).log_depth for given in ((image, "depth"), (1 - image, "near white")))
    torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("values", VALUES)
@pytest.mark.parametrize("gray", [0.0, 0.4, 1.0])
@pytest.mark.parametrize("ends", [(NEAR, FAR), (-20.0, 20.0)])
def test_a_picture_of_one_gray_is_a_flat_wall_between_the_ends(values, gray, ends):
    read = depth_from_image(torch.full((1, 3, 4, 5), gray), values, *ends)
    assert (read.depth == 0).all() and read.log_depth.unique().numel() == 1
    assert ends[0] - 1e-5 <= read.log_depth[0, 0, 0, 0] <= ends[1] + 1e-5


def test_a_gray_counts_exactly_in_any_number_of_channels_and_colors_by_their_mean():
    gray = torch.rand(1, 1, 30, 30, generator=torch.Generator().manual_seed(1))
    alone = depth_from_image(gray).log_depth
    assert torch.equal(depth_from_image(gray.expand(-1, 3, -1, -1)).log_depth, alone)
    color = torch.cat([gray - 0.01, gray, gray + 0.01], dim=1)
    torch.testing.assert_close(depth_from_image(color).log_depth[gray > 0.05], alone[gray > 0.05], rtol=0, atol=1e-4)


def test_what_a_filter_left_outside_of_0_to_1_is_clipped():
    image = torch.tensor([-0.2, 0.0, 0.5, 1.0, 1.2]).view(1, 1, 1, 5)
    assert torch.equal(depth_from_image(image).log_depth, depth_from_image(image.clamp(0, 1)).log_depth)


def test_every_picture_of_a_batch_is_read_alone(prediction):
    image = controlnet_image(prediction)
    both = depth_from_image(image)
    for index, single in enumerate(image.split(1)):
        assert torch.equal(depth_from_image(single).depth, both.depth[index : index + 1])


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"values": "height"}, "Unknown values 'height'; choose one of depth image, depth, near white, disparity, log"),
        ({"nearest": 1.0}, "must have nearest < farthest, but 1.0 and 1.0 came"),
        ({"image": torch.tensor([0.3, 7.5]).view(1, 1, 1, 2)}, "from 0.3 to 7.5, but a depth picture goes from 0 to 1"),
        ({"image": torch.tensor([0.3, math.nan]).view(1, 1, 1, 2)}, "The image holds values from nan"),
    ],
)
def test_what_cannot_be_read_is_refused_with_what_to_do(given, reason):
    with pytest.raises(ValueError, match=reason):
        depth_from_image(**({"image": torch.rand(1, 3, 4, 4)} | given))
