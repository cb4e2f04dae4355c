"""The small autoencoder: a standard TAESD, and each of its settings decides something."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny

from depthfm_core.data.sample import DepthSample
from depthfm_core.model.codec import LatentCodec
from depthfm_core.model.codec_parts import codec_tensors
from depthfm_core.training import autoencoder as module
from depthfm_core.training.augment import PhotometricSettings
from depthfm_core.training.autoencoder import (
    AutoencoderData,
    AutoencoderSettings,
    Pictures,
    build_autoencoder,
    train_autoencoder,
)
from depthfm_core.training.loop import LoopSettings
from depthfm_core.training.losses import whitening_loss
from depthfm_core.training.sources import Frame
from depthfm_core.training.target import NormalizationSettings

SETTINGS = AutoencoderSettings(crop_px=32)


def frame(seed):
    """Noise in color, whose depth has an edge in the middle."""
    rng = np.random.default_rng(seed)
    depth_m = torch.ones(1, 48, 64)
    depth_m[..., 32:] = 3
    return DepthSample(torch.from_numpy(rng.random((3, 48, 64))).float(), depth_m, torch.ones_like(depth_m).bool())


@pytest.fixture
def data():
    frames = [Frame("made up", str(seed), lambda seed=seed: frame(seed)) for seed in range(3)]
    return AutoencoderData(frames[:2], frames[2:], PhotometricSettings(), NormalizationSettings())


@pytest.fixture(scope="module")
def batch():
    generator = torch.Generator().manual_seed(0)
    return Pictures(torch.rand(4, 3, 32, 32, generator=generator) * 2 - 1, torch.randn(4, 4, 4, 4, generator=generator))


def test_a_new_autoencoder_codes_a_thumbnail_in_color():
    autoencoder = build_autoencoder(AutoencoderSettings(), seed=0)
    color = torch.tensor([0.9, 0.3, 0.5])[:, None, None].expand(3, 64, 64)[None] * 2 - 1
    with torch.no_grad():
        decoded = autoencoder.decoder(autoencoder.encoder(color))
    assert (decoded - color)[..., 24:40, 24:40].abs().max() < 0.2


def test_an_autoencoder_of_other_block_numbers_keeps_its_own_tensors():
    autoencoder = AutoencoderTiny(num_decoder_blocks=(2, 2, 2, 1), num_encoder_blocks=(1, 1, 2, 1))
    saved = codec_tensors(LatentCodec(autoencoder))
    assert saved.keys() == autoencoder.state_dict().keys()


def test_the_idle_blocks_are_zero_in_the_file_and_diffusers_computes_the_same_with_it():
    settings = AutoencoderSettings()
    autoencoder = build_autoencoder(settings, seed=0)
    standard = AutoencoderTiny()
    standard.load_state_dict(codec_tensors(LatentCodec(autoencoder)))
    image = torch.rand(1, 3, 32, 32) * 2 - 1
    with torch.no_grad():
        assert torch.allclose(standard.encoder(image), autoencoder.encoder(image), atol=1e-5)
        latent = torch.randn(1, 4, 4, 4)
        assert torch.allclose(standard.decoder(latent), autoencoder.decoder(latent), atol=1e-5)
    idle = sum(not any(p.any() for p in m.parameters()) for m in standard.modules() if hasattr(m, "fuse"))
    assert idle == 20 - sum(settings.encoder_blocks) - sum(settings.decoder_blocks)


def test_more_active_blocks_than_taesd_has_are_refused():
    with pytest.raises(ValueError, match="1, 3, 3, 3"):
        build_autoencoder(AutoencoderSettings(encoder_blocks=(2, 1, 2, 3)), seed=0)


@pytest.mark.parametrize(
    ("name", "term"), [("edge_weight", "edge"), ("coarse_weight", "coarse"), ("whitening_weight", "whitening")]
)
def test_a_weight_multiplies_its_own_loss_and_no_other(batch, name, term):
    autoencoder = build_autoencoder(SETTINGS, seed=0)
    with torch.no_grad():
        before = module._losses(autoencoder, batch, SETTINGS)
        after = module._losses(autoencoder, batch, replace(SETTINGS, **{name: 3 * getattr(SETTINGS, name)}))
    assert {key: round(float(after[key] / before[key]), 4) for key in before} == dict.fromkeys(before, 1) | {term: 3}


def test_the_decoder_gets_latents_with_noise(batch):
    autoencoder = build_autoencoder(SETTINGS, seed=0)
    with torch.no_grad():
        quiet, noisy = (
            module._losses(autoencoder, batch, replace(SETTINGS, latent_noise=noise)) for noise in (0.0, 0.5)
        )
    assert quiet["absolute"] != noisy["absolute"] and quiet["whitening"] == noisy["whitening"]
    silent = Pictures(batch.pictures, torch.zeros_like(batch.noise))
    with torch.no_grad():
        assert module._losses(autoencoder, silent, replace(SETTINGS, latent_noise=0.5))["absolute"] == quiet["absolute"]


@pytest.mark.parametrize("change", [{"seed": 1}, {"learning_rate": 2e-3}, {"batch_size": 1}])
def test_a_run_follows_its_loop(data, tmp_path, change):
    """The same twice, and something else with another seed, rate or batch."""
    loop = LoopSettings(num_steps=2, batch_size=2, learning_rate=1e-3)
    trained = [
        train_autoencoder(SETTINGS, data, how, tmp_path / str(index)).decoder.layers[0].weight
        for index, how in enumerate((loop, loop, replace(loop, **change)))
    ]
    assert torch.equal(trained[0], trained[1]) and not torch.equal(trained[0], trained[2])


def test_crops_are_as_large_as_asked_and_no_smaller_part_of_a_frame_than_asked(data):
    """Depth has one edge in the middle, which every crop of a whole frame's height sees."""
    rng = np.random.default_rng(0)
    for crop_px in (32, 40):
        drawn = module._draw_pictures(data.frames, data, replace(SETTINGS, crop_px=crop_px), rng)
        assert drawn.shape == (4, 3, crop_px, crop_px)
    edges = {}
    for min_scale in (0.05, 1.0):
        settings = replace(SETTINGS, min_scale=min_scale)
        drawn = [module._draw_pictures(data.held_out, data, settings, rng)[1] for _ in range(12)]
        edges[min_scale] = sum(bool(depth.std() > 0) for depth in drawn)
    assert edges[0.05] < edges[1.0] == 12


@pytest.mark.parametrize(("sky_is_far", "farthest"), [(False, -1), (True, 1)])
def test_holes_of_a_sensor_are_filled_as_in_the_latents_and_the_sky_is_far(data, monkeypatch, sky_is_far, farthest):
    """All that was seen is equally near; the other half of the rows, which every whole crop sees, has no depth."""
    depth_m = torch.ones(1, 32, 32)
    valid = (torch.arange(32)[:, None] < 16).expand_as(depth_m)
    sample = DepthSample(torch.rand(3, 32, 32), depth_m * valid, valid)
    holed = Frame("made up", "holed", lambda: sample, sky_is_far=sky_is_far)
    monkeypatch.setattr(module, "_change_range", lambda depth, rng: depth)
    whole = replace(SETTINGS, min_scale=1.0)
    depth = module._draw_pictures([holed], data, whole, np.random.default_rng(0))[1]
    assert depth.min() == -1 and depth.max() == farthest


def test_the_whitening_loss_is_computed_in_full_precision():
    latent = torch.randn(2, 4, 16, 16, generator=torch.Generator().manual_seed(0)) + 3
    with torch.autocast("cpu", torch.bfloat16):
        inside = whitening_loss(latent)
    assert inside.dtype == torch.float32 and torch.equal(inside, whitening_loss(latent))


def test_the_whitening_loss_is_zero_for_white_channels_only():
    white = torch.from_numpy(np.random.default_rng(0).normal(size=(8, 4, 32, 32))).float()
    assert whitening_loss(white) < 1e-3
    same = white[:, :1].expand(-1, 4, -1, -1)
    assert whitening_loss(same) > 0.5  # correlated
    assert whitening_loss(white + 1) == pytest.approx(1, abs=0.05)  # a mean
    assert whitening_loss(white * 2) > 0.5  # a variance


@pytest.mark.parametrize("streamed", [False, True])
def test_half_of_the_depth_maps_have_another_contrast_offset_and_sign(monkeypatch, streamed):
    """Depth grows downwards, which no crop and no mirror changes."""
    ramp = torch.linspace(-1, 1, 64)[:, None].expand(64, 64)

    class Views:
        def __init__(self, *_):
            pass

        def draw(self, count, view, rng):
            return torch.zeros(count, 3, 64, 64), ramp.expand(count, 1, 64, 64)

    monkeypatch.setattr(module, "StreamedViews", Views)
    sample = DepthSample(torch.zeros(3, 64, 64), ramp.exp()[None], torch.ones(1, 64, 64).bool())
    one = Frame("made up", "ramp", lambda: sample)
    data = AutoencoderData(
        [one], [], PhotometricSettings(), NormalizationSettings(), stream=object() if streamed else None
    )
    depths = module._draw_batch(200, data, SETTINGS, np.random.default_rng(0))[200:]
    assert depths.min() >= -1 and depths.max() <= 1 and torch.equal(depths[:, :1].expand(-1, 3, -1, -1), depths)
    near, far = depths[:, 0, 0].mean(-1), depths[:, 0, -1].mean(-1)
    assert ((near < -0.99) & (far > 0.99)).float().mean() == pytest.approx(0.5, abs=0.1)
    assert (near > far).float().mean() == pytest.approx(0.25, abs=0.1)
