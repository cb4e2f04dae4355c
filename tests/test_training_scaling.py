"""The factor that an autoencoder's latents are multiplied by, of latents whose spread is known."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch

from depthfm_core.data.sample import DepthSample
from depthfm_core.training.autoencoder import AutoencoderData
from depthfm_core.training.scaling import measure_scaling_factor
from depthfm_core.training.sources import Frame
from depthfm_core.training.target import NormalizationSettings

from .test_training_batched_views import NOTHING


def frame(seed):
    """A black picture, whose depth is one of two in every pixel, at random."""
    depth_m = torch.from_numpy(np.random.default_rng(seed).choice([1.0, 3.0], (1, 64, 64))).float()
    return DepthSample(torch.zeros(3, 64, 64), depth_m, torch.ones(1, 64, 64).bool())


@pytest.mark.parametrize("gain", [1.0, 3.0])
def test_latents_of_pictures_and_depth_together_get_a_standard_deviation_of_one(gain):
    """Pictures are -1 everywhere, depth is -1 and 1 equally often: their variance together is 1 - 0.5 ** 2."""
    frames = [Frame("made up", str(seed), lambda seed=seed: frame(seed)) for seed in range(8)]
    data = AutoencoderData(frames, [], NOTHING, NormalizationSettings())
    factor = measure_scaling_factor(SimpleNamespace(encoder=lambda pictures: gain * pictures), data, crop_px=48)
    assert factor * gain == pytest.approx(0.75**-0.5, rel=0.02)
