"""Crops at their limits, and each photometric effect's known answers, for one picture and for many at once."""

import dataclasses
import io

import numpy as np
import pytest
import torch
from PIL import Image

from depthfm_core.data.sample import DepthSample
from depthfm_core.training.augment import PhotometricSettings, ViewSettings, change_photometry, draw_view
from depthfm_core.training.batched_views import change_photometry_of_batch

from .test_training_data import STILL, scene


def test_a_crop_may_lie_at_every_edge():
    depth_m = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
    sample, pixel = DepthSample(depth_m.expand(3, 2, 2) / 4, depth_m, depth_m > 0), ViewSettings(1, 1, min_scale=0.5)
    seen = {draw_view(sample, pixel, np.random.default_rng(seed)).depth_m.item() for seed in range(50)}
    assert seen == {1.0, 2.0, 3.0, 4.0}


def of_one(image, settings, rng):
    return change_photometry(image, settings, rng)


def of_many(image, settings, rng):
    return change_photometry_of_batch(image.expand(3, -1, -1, -1), settings, rng)[1]


one_and_many = pytest.mark.parametrize("change", [of_one, of_many])


@one_and_many
def test_photometry_without_strength_changes_nothing(change):
    image = scene().image
    assert torch.allclose(change(image, STILL, np.random.default_rng(0)), image, atol=1e-4)


def luma(image):
    return torch.einsum("c,chw->hw", torch.tensor([0.299, 0.587, 0.114]), image)[None]


class Strongest:
    """Draws every effect at its upper end, and lets all happen that may."""

    def random(self, size=()):
        return np.zeros(size)[()]

    def integers(self, _high, size=()):
        return np.zeros(size, int)[()]

    def uniform(self, _low, high, size=()):
        return np.full(size, high)[()]

    def normal(self, _mean, deviation, size):
        return np.full(size, deviation)

    def standard_normal(self, size, dtype):
        return np.ones(size, dtype)


STRONGEST = {
    "exposure_stops": (1.0, lambda image: image * 2 ** (1 / 2.2)),
    "gamma": (2.0, lambda image: image**2),
    "contrast": (0.5, lambda image: 1.5 * image - 0.5 * image.mean()),
    "white_balance": (0.3, lambda image: image * np.exp(0.3 / 2.2)),
    "saturation": (0.5, lambda image: 1.5 * image - 0.5 * luma(image)),
    "hue_deg": (120.0, lambda image: luma(image) + (image - luma(image)).roll(1, 0)),  # red becomes green
    "grey_probability": (1.0, lambda image: luma(image).expand_as(image)),
}


@one_and_many
@pytest.mark.parametrize("effect", STRONGEST)
def test_an_effect_at_its_strongest_is_what_its_name_says(change, effect):
    image, (strength, expected) = scene().image * 0.2 + 0.4, STRONGEST[effect]
    changed = change(image, dataclasses.replace(STILL, **{effect: strength}), Strongest())
    assert torch.allclose(changed, expected(image), atol=1e-4)


@one_and_many
def test_the_effects_of_lens_and_sensor_at_their_strongest_are_what_their_names_say(change):
    def strongest(image, **effect):
        settings = dataclasses.replace(STILL, probability=1.0, jpeg_quality=100, **effect)
        return change(image, settings, Strongest())

    grey, line = torch.full((3, 64, 64), 0.5), torch.zeros(3, 64, 64)
    assert (strongest(grey, noise=0.2) - grey).square().mean().sqrt() == pytest.approx(0.2, abs=0.01)
    shaded = strongest(grey, vignette=0.8)
    assert shaded[0, 32, 32] == pytest.approx(0.5, abs=0.01) and shaded[0, 0, 0] == pytest.approx(0.1, abs=0.01)
    line[:, :, 16] = 1
    blurred = strongest(line, blur_px=1.0)
    assert blurred[0, 16, 16:19].tolist() == pytest.approx([0.399, 0.242, 0.054], abs=0.015)  # the normal density


def test_the_worst_jpeg_has_the_quality_that_is_asked_for():
    pixels, file = (scene().image * 255).round().byte(), io.BytesIO()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(file, "JPEG", quality=5)
    expected = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    settings = dataclasses.replace(STILL, probability=1.0, jpeg_quality=5)
    assert torch.equal(change_photometry(pixels / 255, settings, Strongest()), expected)


@one_and_many
def test_changed_pictures_stay_in_range_and_are_those_of_their_seed(change):
    wild = PhotometricSettings(probability=1.0, exposure_stops=2.0, contrast=1.0, noise=0.3, border_probability=0.5)
    changed, again = (
        torch.stack([change(scene().image, wild, np.random.default_rng(seed)) for seed in range(8)]) for _ in range(2)
    )
    assert changed.min() >= 0 and changed.max() <= 1 and torch.equal(changed, again)


@one_and_many
def test_a_border_covers_the_edges_and_leaves_the_middle(change):
    image = scene().image
    bordered = dataclasses.replace(STILL, border_probability=1.0, border=0.25)
    changed = change(image, bordered, np.random.default_rng(0))
    assert torch.allclose(changed[:, 8:-8, 12:-12], image[:, 8:-8, 12:-12], atol=1e-4)
    assert not torch.allclose(changed[:, 0], image[:, 0], atol=0.01)
