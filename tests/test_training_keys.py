"""Keys of a recipe and options of its commands arrive where they have their effect."""

import dataclasses

import pytest
import torch

import depthfm_core.cli.precompute as precompute_command
import depthfm_core.training.frames as frames_module
from depthfm_core.__main__ import main
from depthfm_core.data import synthetic
from depthfm_core.data.sample import DepthSample
from depthfm_core.share import ALL
from depthfm_core.training import record, stages
from depthfm_core.training.first_weights import first_network
from depthfm_core.training.frames import FrameSettings
from depthfm_core.training.lora import LoraSettings, add_lora
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.stream import StreamSettings
from depthfm_core.training.target import NormalizationSettings
from depthfm_core.training.velocity import build_network
from depthfm_core.training.views import depth_picture, valid_cells

from .sd_prior import HYPER
from .test_training_recipe import TOY, write_toy

FRAMES = FrameSettings(count=5, first_seed=7, height_px=48, width_px=64, workers=3, held_out=2)


def test_the_keys_of_rendered_frames_reach_the_renderer(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(synthetic, "write_frames", lambda *args, **options: calls.append((args, options)) or [])
    frames_module.make_frames(FRAMES, tmp_path)
    assert calls == [((tmp_path / "frames", range(7, 12), (48, 64)), {"workers": 3})]


def test_the_keys_of_rendered_frames_reach_the_stream(monkeypatch):
    calls = []
    monkeypatch.setattr(frames_module, "FrameStream", lambda *args: calls.append(args))
    frames_module.open_stream(dataclasses.replace(FRAMES, stream=StreamSettings()), ALL)
    assert calls[0][:3] == (range(9, 12), (48, 64), 3)


def test_the_table_of_a_stream_is_read(tmp_path):
    table = (
        "[frames]\ncount = 9\n[frames.stream]\nfirst_frames = 3\nfirst_views = 4\nkept_views = 5\nfresh_share = 0.5\n"
    )
    text = table + TOY[TOY.index("held_out") :].replace("held_out = 2\n", "").replace("frames_per_shard = 2\n", "")
    with_stream = text.replace("count = 9", "count = 9\nheld_out = 2")
    assert read_recipe(write_toy(tmp_path, with_stream)).frames.stream == StreamSettings(3, 4, 5, 0.5)


def test_the_seed_of_the_network_gives_its_first_weights(tmp_path):
    def weights(seed):
        recipe = read_recipe(write_toy(tmp_path, TOY.replace("[network]", f"[network]\nseed = {seed}")))
        return first_network(recipe.network, tmp_path).unet.conv_in.weight

    assert torch.equal(weights(1), weights(1)) and not torch.equal(weights(1), weights(2))


def test_lora_goes_to_the_named_layers_and_no_others():
    network = build_network(HYPER, 2, seed=0)
    add_lora(network.unet, LoraSettings(rank=2, layers=("to_q",)), seed=0)
    trained = [name for name, parameter in network.named_parameters() if parameter.requires_grad]
    assert trained and all(".to_q.lora_" in name for name in trained)


def half_sky():
    """A slope from 1 to 9 m, above which is sky."""
    depth_m = torch.linspace(1, 9, 32)[None, :, None].repeat(1, 1, 32)
    valid = torch.ones(1, 32, 32, dtype=torch.bool)
    valid[:, 16:] = False
    return DepthSample(torch.rand(3, 32, 32), depth_m.where(valid, 0.0), valid)


def test_sky_counts_as_far_only_where_it_is_asked_for():
    assert valid_cells(half_sky(), sky_is_far=True).all()
    assert valid_cells(half_sky(), sky_is_far=False).float().mean() == 0.5


def test_percentiles_change_the_depth_that_is_encoded():
    percentiles = [NormalizationSettings(low, 100 - low) for low in (2.0, 25.0)]
    near, wide = (depth_picture(half_sky(), settings, sky_is_far=True) for settings in percentiles)
    assert (near != wide).float().mean() > 0.2


def test_the_device_of_precompute_reaches_the_latents(tmp_path, monkeypatch):
    devices = []
    monkeypatch.setattr(precompute_command, "usable_device", lambda device: f"usable {device}")
    monkeypatch.setattr(stages, "prepare_frames", lambda *_args: None)
    monkeypatch.setattr(stages, "prepare_latents", lambda *args: devices.append(args[-1]) or 0)
    monkeypatch.setattr(precompute_command, "_report", lambda *_args: "")
    monkeypatch.setattr(record, "write_record", lambda *_args: None)
    assert main(["precompute", str(write_toy(tmp_path)), "--output", str(tmp_path), "--device", "cpu"]) == 0
    assert devices == ["usable cpu"]


@pytest.mark.parametrize("workers", [1, 3])
def test_the_workers_of_synth_reach_the_renderer(tmp_path, monkeypatch, workers):
    calls = []
    monkeypatch.setattr(synthetic, "write_frames", lambda *_args, **options: calls.append(options) or [])
    assert main(["synth", str(tmp_path), "--count", "2", "--workers", str(workers)]) == 0
    assert calls == [{"antialias": False, "workers": workers}]
