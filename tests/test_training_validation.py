"""What held-out frames are measured with: pictures as the autoencoder knows them, noise as the stage was trained."""

import pytest
import torch
from torch import nn

from depthfm_core.data.sample import DepthSample
from depthfm_core.training import stages, validation, velocity
from depthfm_core.training.augment import ViewSettings
from depthfm_core.training.recipe import read_recipe
from depthfm_core.training.sources import Frame
from depthfm_core.training.validation import HeldOut, check_estimates, encode_held_out

from .test_training_recipe import write_toy, write_toy_frames


class RecordingCodec(nn.Module):
    """Averages pixels down to cells; remembers what it was asked to encode."""

    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1))  # says the device
        self.seen = []

    def encode(self, pictures):
        self.seen.append(pictures)
        return nn.functional.avg_pool2d(pictures.mean(1, keepdim=True), 8).expand(-1, 4, -1, -1)


def test_the_codec_sees_held_out_pictures_from_minus_one_to_one():
    image = (torch.arange(48) >= 24).float().expand(3, 32, 48)  # black beside white
    sample, codec = DepthSample(image, 1 + image[:1], torch.ones(1, 32, 48).bool()), RecordingCodec()
    held_out = encode_held_out([Frame("made up", "edge", lambda: sample)], ViewSettings(32, 48), codec)
    (seen,) = codec.seen
    torch.testing.assert_close(seen[0], 2 * image - 1)
    torch.testing.assert_close(held_out.image[0], image)  # not mirrored
    assert torch.equal(held_out.depth_m[0], sample.depth_m)


def test_every_check_starts_from_the_same_noise(monkeypatch):
    seen, depth_m = [], torch.rand(2, 1, 16, 16) + 1
    monkeypatch.setattr(validation, "estimate", lambda *args: seen.append(args[3]) or depth_m.log())
    held_out = HeldOut(torch.zeros(2, 4, 2, 2), depth_m, depth_m > 0, depth_m.expand(-1, 3, -1, -1) / 2)
    for _ in range(2):
        check_estimates(None, None, held_out, 400)
    assert torch.equal(*seen) and seen[0].std() == pytest.approx(1, abs=0.3)


def test_an_estimate_far_below_the_range_is_cut_as_in_the_benchmarks(monkeypatch):
    log_depth = torch.tensor([-1.0, 1.0]).repeat(1, 1, 100, 50)
    depth_m = log_depth.exp()
    log_depth[..., 50, 50] = -100  # the fit leaves it at e^-50
    monkeypatch.setattr(validation, "estimate", lambda *_: log_depth)
    held_out = HeldOut(torch.zeros(1, 4, 12, 12), depth_m, depth_m > 0, depth_m.expand(-1, 3, -1, -1) / 3)
    assert check_estimates(None, None, held_out, 400).scores["rmse_log"] < 0.6


def test_a_stage_is_checked_and_calibrated_with_the_noise_that_it_was_trained_with(tmp_path, monkeypatch):
    seen = {"check_estimates": [], "measure_spread_scale": []}

    def record(module, name):
        real = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *args: seen[name].append(args[-1]) or real(*args))

    record(velocity, "check_estimates")
    record(stages, "measure_spread_scale")
    write_toy_frames(tmp_path / "out")
    stages.run_recipe(read_recipe(write_toy(tmp_path)), tmp_path / "out")
    # flow.first and flow.second, before their first and after their last step
    assert seen == {"check_estimates": [400, 400, 300, 300], "measure_spread_scale": [300]}
