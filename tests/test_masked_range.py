"""A mask around what counts: the range of colors and grays is taken of its inside, and its outside is far."""

import pytest
import torch

from depthfm_core.depth.controlnet import GRAY_RANGES, controlnet_image, gray_range
from depthfm_core.depth.normalize import NORMALIZATIONS, DisplayLimits, for_single_frames, normalize_depth
from depthfm_core.depth.prediction import DepthPrediction

LIMITS = DisplayLimits(5.0, 90.0, -0.4, 0.6)
VIEWS = [("colors", kind) for kind in NORMALIZATIONS] + [("grays", kind) for kind in GRAY_RANGES]


def show(view, normalization, prediction, mask=None):
    """Depth for display, or the gray picture turned around, so that far is 1 in both: [B, 1, H, W]."""
    if view == "colors":
        return normalize_depth(prediction, normalization, LIMITS, mask)
    return 1 - controlnet_image(prediction, normalization, LIMITS, mask)[:, :1]


def predict(log_depth):
    return DepthPrediction.from_log_depth(log_depth, torch.zeros_like(log_depth))


@pytest.fixture(scope="module")
def log_depth():
    spread = torch.tensor([0.6, 1.0]).view(2, 1, 1, 1)
    return torch.randn(2, 1, 30, 40, generator=torch.Generator().manual_seed(0)) * spread


@pytest.fixture(scope="module")
def mask():
    """Without the last eight columns."""
    mask = torch.ones(1, 1, 30, 40)
    mask[..., -8:] = 0
    return mask


@pytest.mark.parametrize(("view", "normalization"), VIEWS)
@pytest.mark.parametrize("stripe", [-6.0, 6.0])
def test_a_stripe_outside_changes_nothing_inside_and_is_far(log_depth, mask, view, normalization, stripe):
    striped = log_depth.clone()
    striped[..., -8:] = stripe
    shown = show(view, normalization, predict(striped), mask)
    alone = show(view, normalization, predict(log_depth[..., :-8].contiguous()))
    torch.testing.assert_close(shown[..., :-8], alone, rtol=0, atol=2e-3 if "percentile" in normalization else 2e-6)
    assert (shown[..., -8:] == 1).all()


@pytest.mark.parametrize(("view", "normalization"), VIEWS)
def test_a_mask_of_everything_shows_what_no_mask_shows(log_depth, view, normalization):
    prediction = predict(log_depth)
    one, other = (show(view, normalization, prediction, given) for given in (torch.ones(1, 1, 30, 40), None))
    torch.testing.assert_close(one, other, rtol=0, atol=2e-3 if "percentile" in normalization else 2e-6)


@pytest.mark.parametrize(("view", "normalization"), [shown for shown in VIEWS if shown != ("grays", "batch")])
def test_frame_by_frame_the_masked_pictures_are_those_of_the_whole_batch(log_depth, mask, view, normalization):
    masks, prediction = torch.cat([mask, mask.flip(3)]), predict(log_depth)
    whole = show(view, normalization, prediction, masks)
    shown = for_single_frames(prediction, normalization, LIMITS, masks)
    for index in range(2):
        frame, part = predict(log_depth[index : index + 1]), masks[index : index + 1]
        if view == "colors":
            alone = normalize_depth(frame, *shown, part)
        else:
            alone = show(view, normalization, frame, part)
        torch.testing.assert_close(alone, whole[index : index + 1], rtol=0, atol=2e-6)


def test_frame_by_frame_the_grays_of_a_masked_batch_have_its_range(log_depth, mask):
    masks, prediction = torch.cat([mask, mask.flip(3)]), predict(log_depth)
    whole = controlnet_image(prediction, normalization="batch", mask=masks)
    grays = gray_range(prediction, normalization="batch", mask=masks)
    for index in range(2):
        alone = controlnet_image(predict(log_depth[index : index + 1]), grays=grays, mask=masks[index : index + 1])
        torch.testing.assert_close(alone, whole[index : index + 1], rtol=0, atol=2e-6)


@pytest.mark.parametrize(("view", "normalization"), VIEWS)
def test_half_inside_is_half_as_near(log_depth, mask, view, normalization):
    soft = mask.clone()
    soft[..., :5] = 0.6
    hard, shown = (show(view, normalization, predict(log_depth), given) for given in (mask, soft))
    torch.testing.assert_close(1 - shown[..., :5], 0.6 * (1 - hard[..., :5]), rtol=0, atol=2e-6)


@pytest.mark.parametrize(("view", "normalization"), VIEWS)
def test_an_empty_mask_is_far_everywhere_and_a_flat_inside_is_near(log_depth, mask, view, normalization):
    assert (show(view, normalization, predict(log_depth), torch.zeros_like(mask)) == 1).all()
    flat = log_depth.clone()
    flat[..., :-8] = -0.4
    assert show(view, normalization, predict(flat), mask)[..., :-8].amax() < 1e-6


@pytest.mark.parametrize("shape", [(3, 1, 30, 40), (1, 1, 30, 39), (30, 40)])
@pytest.mark.parametrize(("view", "normalization"), VIEWS)
def test_a_mask_of_another_shape_is_refused(log_depth, view, normalization, shape):
    with pytest.raises(ValueError, match="give one mask for all images, or one for each, of their size"):
        show(view, normalization, predict(log_depth), torch.ones(shape))
