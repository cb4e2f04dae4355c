"""The losses of trainings, and the points and times of the path that a flow's loss is taken at."""

import pytest
import torch

from depthfm_core.flow import noise_source, sample_path
from depthfm_core.training.losses import coarse_loss, edge_loss, masked_velocity_loss
from depthfm_core.training.velocity import TIME_SAMPLERS, FlowSettings, flow_losses

from .test_training import LOOP, batch


def test_the_velocity_loss_of_the_perfect_velocity_is_zero():
    pairs, times = batch(), []

    def perfect(x_t, t, image_latent):
        times.append(t)
        return pairs.depth_latent - noise_source(image_latent, 400, pairs.noise)

    losses = flow_losses(perfect, pairs, FlowSettings(("a",), LOOP), None)
    assert losses["velocity"] == pytest.approx(0, abs=1e-10)
    assert torch.equal(times[0], pairs.t)


def test_the_velocity_loss_ignores_what_is_not_valid():
    predicted, velocity = torch.zeros(2, 4, 6, 6), torch.ones(2, 4, 6, 6)
    valid = torch.ones(2, 1, 6, 6, dtype=torch.bool)
    valid[:, :, :3] = False
    spoiled = velocity.clone()
    spoiled[:, :, :3] = 1e6
    assert masked_velocity_loss(predicted, spoiled, valid) == 1
    assert masked_velocity_loss(predicted, velocity, torch.zeros_like(valid)) == 0


def test_the_training_path_ends_at_the_depth_latent_and_starts_at_the_noised_image():
    pairs, seen = batch(), {}

    def network(x_t, t, image_latent):
        seen.update(x_t=x_t, image_latent=image_latent)
        return torch.zeros_like(x_t)

    flow_losses(network, pairs, FlowSettings(("a",), LOOP, noising_step=0), None)
    expected = sample_path(pairs.image_latent, pairs.depth_latent, pairs.t).x_t
    assert torch.equal(seen["x_t"], expected)
    assert torch.equal(seen["image_latent"], pairs.image_latent)


@pytest.mark.parametrize(("name", "mean"), [("uniform", 1 / 2), ("logit_normal", 1 / 2), ("early", 1 / 3)])
def test_times_lie_in_the_unit_interval_with_their_mean(name, mean):
    t = TIME_SAMPLERS[name](4000, torch.Generator().manual_seed(0))
    assert t.shape == (4000,) and 0 <= t.min() and t.max() <= 1
    assert t.mean() == pytest.approx(mean, abs=0.02)


def test_logit_normal_times_crowd_the_middle():
    spread = {name: draw(4000, torch.Generator().manual_seed(0)).std() for name, draw in TIME_SAMPLERS.items()}
    assert spread["logit_normal"] < spread["uniform"] - 0.05


def test_an_unknown_time_sampling_names_the_choices():
    with pytest.raises(ValueError, match="uniform, logit_normal, early"):
        FlowSettings(("a",), LOOP, time_sampling="late")


def test_the_edge_loss_sees_slopes_and_not_offsets():
    ramp = torch.arange(5.0).expand(1, 1, 5, 5)
    assert edge_loss(ramp + 3, ramp) == 0
    assert edge_loss(2 * ramp, ramp) == 1
    assert edge_loss(2 * ramp.mT, ramp.mT) == 1


def test_the_coarse_loss_sees_means_and_not_detail():
    checker = torch.tensor([[1.0, -1.0], [-1.0, 1.0]]).repeat(4, 4)[None, None]
    assert coarse_loss(checker, torch.zeros(1, 1, 8, 8), 4) == 0
    assert coarse_loss(checker + 3, torch.zeros(1, 1, 8, 8), 4) == 9
