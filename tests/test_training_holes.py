"""Holes of a sensor: what takes their place, and that the cells beside them learn what they would without them."""

import dataclasses

import pytest
import torch

from depthfm_core.loading import load_pipeline
from depthfm_core.training.latents import encode
from depthfm_core.training.target import NormalizationSettings, fill_holes, is_stretched
from depthfm_core.training.views import depth_picture, valid_cells

from .test_training_data import scene

PERCENTILES = NormalizationSettings()


@pytest.mark.parametrize("share", [0.02, 0.5, 1.0])
def test_a_hole_takes_the_value_of_the_nearest_pixel_in_steps_along_rows_and_columns(share):
    places = torch.cartesian_prod(torch.arange(9), torch.arange(13))
    valid = torch.rand(9, 13, generator=torch.Generator().manual_seed(1)) <= share
    filled = fill_holes(torch.arange(9 * 13.0).view(1, 9, 13), valid[None])
    taken = places[filled.flatten().long()]
    nearest = (places[:, None] - places[valid.flatten()]).abs().sum(-1).amin(1)
    assert valid.flatten()[filled.flatten().long()].all()
    assert torch.equal((places - taken).abs().sum(-1), nearest)


def test_a_picture_without_depth_is_filled_with_nothing():
    values = torch.rand(1, 3, 4)
    assert torch.equal(fill_holes(values, torch.zeros(1, 3, 4, dtype=torch.bool)), values)


def test_cells_beside_a_hole_have_the_latents_of_the_frame_without_it():
    """And not where a hole is the far plane, which the autoencoder carries into them."""
    whole = scene(height=64, width=96)
    valid = torch.rand(1, 64, 96, generator=torch.Generator().manual_seed(0)) > 0.3
    valid[:, 16:44, 24:60] = False  # ends within cells
    holed = dataclasses.replace(whole, depth_m=whole.depth_m.where(valid, 0.0), valid=valid)
    counted = valid_cells(holed, sky_is_far=False)[0]
    sky_is_far = (True, False)
    depths = [depth_picture(whole, PERCENTILES, sky_is_far=True)]
    depths += [depth_picture(holed, PERCENTILES, sky_is_far=far) for far in sky_is_far]
    reference, far, filled = encode(load_pipeline("nano").codec, torch.stack(depths))[:, :, counted]
    off = [float((latent - reference).square().mean().sqrt()) for latent in (far, filled)]
    assert off[0] > 0.5 and off[1] < 0.1


@pytest.mark.parametrize(("farthest_m", "stretched"), [(90.0, False), (110.0, True)])
def test_depth_over_more_than_1_to_1000_is_told_as_stretched(farthest_m, stretched):
    depth_m = torch.tensor([0.1, farthest_m]).repeat_interleave(500).view(1, 10, 100)
    assert is_stretched(depth_m, depth_m > 0, PERCENTILES) == stretched
