"""Crops, chances and flat targets, the same for views of one frame and of many at once."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from depthfm_core.data.sample import DepthSample
from depthfm_core.training.augment import PhotometricSettings, ViewSettings, change_photometry, draw_view
from depthfm_core.training.batched_views import change_photometry_of_batch, draw_views, normalize_targets
from depthfm_core.training.target import NormalizationSettings, normalize_target

from .test_training_batched_views import NOTHING

SIZE = (192, 256)  # a picture's red is the pixel's column, its green the row, of 255
CANVAS = 16
COUNT = 200


def ramps():
    rows, columns = torch.meshgrid(*(torch.arange(side, dtype=torch.uint8) for side in SIZE), indexing="ij")
    return torch.stack([columns, rows, torch.zeros_like(rows)])


def views_of_one(settings, rng):
    sample = DepthSample(ramps() / 255, torch.ones(1, *SIZE), torch.ones(1, *SIZE).bool())
    return torch.stack([draw_view(sample, settings, rng).image for _ in range(COUNT)])


def views_of_many(settings, rng):
    return draw_views(ramps().expand(COUNT, -1, -1, -1), torch.ones(COUNT, 1, *SIZE), settings, rng)[0]


def boxes(views):
    """[COUNT, 2] centers and sizes of the crops, across and down, in pixels of the frame."""
    low, high = 4, CANVAS - 1 - 4  # away from the crop's border, where resampling sees no further
    across = torch.stack([views[:, 0, 8, low], views[:, 0, 8, high]], dim=1)
    down = torch.stack([views[:, 1, low, 8], views[:, 1, high, 8]], dim=1)
    ends = 255 * torch.stack([across, down], dim=1).double()  # [COUNT, 2, 2]
    return ends.mean(-1) + 0.5, (ends[..., 1] - ends[..., 0]).abs() * CANVAS / (high - low)


@pytest.mark.parametrize("draw", [views_of_one, views_of_many])
def test_crops_take_all_sizes_aspects_and_places_that_they_may_have(draw):
    settings = ViewSettings(CANVAS, CANVAS, min_scale=0.3, aspect_jitter=0.25)
    centers, sizes = boxes(draw(settings, np.random.default_rng(0)))
    width, height = sizes.T
    shares = height / SIZE[0]
    assert 0.3 - 0.01 < shares.min() < 0.35 and 0.95 < shares.max() < 1 + 0.01
    aspects = width / height
    assert 1 / 1.25 - 0.03 < aspects.min() < 0.85 and 1.2 < aspects.max() < 1.25 + 0.03
    frame = torch.tensor([SIZE[1], SIZE[0]])
    room = (frame - sizes) / 2  # each way from the middle
    places = (centers - frame / 2) / room
    for place in (places[:, i][room[:, i] > 20] for i in range(2)):
        assert -1.05 < place.min() < -0.8 and 0.8 < place.max() < 1.05 and place.mean().abs() < 0.2


def photometry_of_one(images, settings, rng):
    return torch.stack([change_photometry(image, settings, rng) for image in images])


@pytest.mark.parametrize("probability", [0, 0.2])
@pytest.mark.parametrize("change", [photometry_of_one, change_photometry_of_batch])
def test_each_effect_that_need_not_happen_happens_as_often_as_asked(change, probability):
    images = torch.rand(COUNT, 3, 16, 24, generator=torch.Generator().manual_seed(0))
    effects = {name: getattr(PhotometricSettings(), name) for name in ("vignette", "blur_px", "noise", "jpeg_quality")}
    settings = replace(NOTHING, **effects, probability=probability)
    changed = change(images, settings, np.random.default_rng(0)) - images
    unchanged = changed.abs().amax((1, 2, 3)) < 1e-5
    assert unchanged.float().mean() == pytest.approx((1 - probability) ** 4, abs=0.1 * (probability > 0))


def test_a_wall_seen_head_on_does_not_fill_the_range():
    depth_m = 5 * (1 + 0.001 * torch.linspace(-1, 1, 64).expand(1, 64, 64))
    alone = normalize_target(depth_m, depth_m > 0, NormalizationSettings())
    together = normalize_targets(depth_m[None], NormalizationSettings())[0]
    for target in (alone, together):
        assert 0.1 < target.max() - target.min() < 0.3


@pytest.mark.parametrize("draw", [views_of_one, views_of_many])
def test_the_largest_crop_of_a_wide_frame_lies_anywhere_across(draw):
    centers, _ = boxes(draw(ViewSettings(CANVAS, CANVAS, min_scale=1, aspect_jitter=0), np.random.default_rng(0)))
    across, down = (centers - torch.tensor([SIZE[1], SIZE[0]]) / 2).T
    room = (SIZE[1] - SIZE[0]) / 2
    assert -1.05 < across.min() / room < -0.9 and 0.9 < across.max() / room < 1.05 and down.abs().max() < 1
