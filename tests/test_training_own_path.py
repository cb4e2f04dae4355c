"""Learning where the network's own steps lead."""

import dataclasses

import pytest
import torch
from torch import nn

from depthfm_core.flow import integrate, noise_source
from depthfm_core.model.hyperparameters import UNetHyperParameters
from depthfm_core.share import ALL
from depthfm_core.training.latents import LatentBatch
from depthfm_core.training.loop import LoopSettings
from depthfm_core.training.objective import own_parts, step_random
from depthfm_core.training.velocity import (
    FlowSettings,
    build_network,
    draw_batch,
    flow_losses,
    flow_objective,
    own_points,
)

SIZE = 8
LOOP = LoopSettings(num_steps=4, batch_size=SIZE, learning_rate=1e-2, mixed_precision="no")


class Latents:
    """The same pairs at every draw; a fifth of the cells does not count."""

    def draw(self, size, _rng):
        generator = torch.Generator().manual_seed(1)
        image_latent, depth_latent = torch.randn(2, size, 4, 8, 8, generator=generator)
        return LatentBatch(image_latent, depth_latent, torch.rand(size, 1, 8, 8, generator=generator) < 0.8)


class Linear(nn.Module):
    """A velocity that depends on all that it is given, and counts its calls."""

    def __init__(self):
        super().__init__()
        self.factors = nn.Parameter(torch.tensor([0.3, -0.2, 0.5, 0.1]))
        self.times = []

    def forward(self, x_t, t, image_latent):
        self.times.append(t.detach().clone())
        a, b, c, d = self.factors
        return a * x_t + b * image_latent + c * t[:, None, None, None] + d


def settings(share, **others):
    return FlowSettings(("a",), LOOP, own_path_share=share, **others)


def drawn(share, **others):
    return draw_batch(Latents(), settings(share, **others), step_random(0, 0))


def velocity_loss(network, batch, share):
    return flow_losses(network, batch, settings(share), codec=None)["velocity"]


def test_every_weight_learns_on_the_own_path_in_mixed_precision():
    """Casts of weights that the steps without gradient made must not be taken for the one with it."""
    network = build_network(UNetHyperParameters(32, (1, 1), 1, (1, 2), 8), 2, seed=0)
    torch.nn.init.normal_(network.unet.conv_out.weight)  # zero at first, which lets no gradient through
    with torch.autocast("cpu", torch.bfloat16):
        loss = velocity_loss(network, drawn(1.0), 1.0)
    loss.backward()
    still = [name for name, weight in network.named_parameters() if weight.grad is None or not weight.grad.any()]
    assert len(still) < len(list(network.parameters())) / 4, still


@pytest.mark.parametrize(("share", "expected"), [(0, 0), (0.25, 2), (0.5, 4), (0.3, 2), (1, 8)])
def test_the_share_of_a_batch_is_on_its_own_path_evenly_spread(share, expected):
    own_path = drawn(share).own_path
    assert own_path.sum() == expected
    halves = own_path.view(2, -1).sum(1)
    assert (halves[0] - halves[1]).abs() <= 1


def test_the_others_are_drawn_as_ever_and_times_on_the_own_path_are_uniform():
    plain, half = drawn(0, time_sampling="early"), drawn(0.5, time_sampling="early")
    torch.testing.assert_close(half.t[~half.own_path], plain.t[~half.own_path])
    torch.testing.assert_close(half.noise, plain.noise)
    many = FlowSettings(("a",), dataclasses.replace(LOOP, batch_size=4000), own_path_share=0.5, time_sampling="early")
    batch = draw_batch(Latents(), many, step_random(0, 0))
    assert batch.t[batch.own_path].mean() == pytest.approx(1 / 2, abs=0.02)
    assert batch.t[~batch.own_path].mean() == pytest.approx(1 / 3, abs=0.02)


def test_own_points_are_a_solvers_of_two_steps():
    batch, network = drawn(1), Linear()
    x_0 = noise_source(batch.image_latent, 400, batch.noise)
    points = own_points(network, x_0, torch.full((SIZE,), 0.6), batch.image_latent)
    # The solver goes from 0 to 1; time and velocity are stretched so that it goes from 0 to 0.6.
    stretched = lambda x, t: 0.6 * network(x, x.new_full((SIZE,), 0.6 * t), batch.image_latent)  # noqa: E731
    torch.testing.assert_close(points, integrate(stretched, x_0, num_steps=2)[0])
    assert not points.requires_grad


def test_a_constant_velocity_has_the_same_loss_at_all_times_of_its_own_path():
    batch, network = drawn(1), Linear()
    network.factors.data = torch.tensor([0.0, 0.0, 0.0, 0.7])
    x_0 = noise_source(batch.image_latent, 400, batch.noise)
    missed = (batch.depth_latent - x_0 - 0.7).square()  # it leads from everywhere to x_0 + 0.7
    weight = batch.valid.expand_as(missed)
    expected = missed[weight].mean()
    for t in (0.0, 0.4, 1.0):
        at = batch._replace(t=torch.full((SIZE,), t))
        torch.testing.assert_close(velocity_loss(network, at, 1), expected)


def test_at_time_zero_both_paths_are_one():
    batch, network = drawn(0.5)._replace(t=torch.zeros(SIZE)), Linear()
    straight = batch._replace(own_path=torch.zeros(SIZE, dtype=torch.bool))
    torch.testing.assert_close(velocity_loss(network, batch, 0.5), velocity_loss(network, straight, 0.5))


def test_nothing_is_learnt_from_the_steps_that_lead_there():
    batch, network = drawn(1), Linear()
    velocity_loss(network, batch, 1).backward()
    learnt = network.factors.grad
    frozen = Linear()
    x_0 = noise_source(batch.image_latent, 400, batch.noise)
    x_t = own_points(frozen, x_0, batch.t, batch.image_latent)
    left = (1 - batch.t)[:, None, None, None]
    missed = (batch.depth_latent - x_t - left * frozen(x_t, batch.t, batch.image_latent)).square()
    missed[batch.valid.expand_as(missed)].mean().backward()
    torch.testing.assert_close(learnt, frozen.factors.grad)


def test_only_those_on_the_own_path_take_steps():
    network = Linear()
    batch = drawn(0.25)
    velocity_loss(network, batch, 0.25)
    assert [len(t) for t in network.times] == [2, 2, SIZE]
    network.times.clear()
    velocity_loss(network, drawn(0), 0)
    assert [len(t) for t in network.times] == [SIZE]


@pytest.mark.parametrize("micro_batch_size", [1, 3])
def test_a_batch_in_parts_gives_the_same_gradient(micro_batch_size):
    objective = flow_objective(Latents(), settings(0.5), codec=None)
    batch = objective.draw(step_random(0, 0))
    whole, parted = Linear(), Linear()
    objective.losses(whole, batch)["velocity"].backward()
    for part in own_parts(objective, batch, ALL, micro_batch_size):
        (part.fractions["velocity"] * objective.losses(parted, part.samples)["velocity"]).backward()
    torch.testing.assert_close(parted.factors.grad, whole.factors.grad)


@pytest.mark.parametrize("share", [-0.1, 1.1, float("nan")])
def test_a_share_that_is_none_is_refused(share):
    with pytest.raises(ValueError, match="own_path_share is .*choose from 0"):
        settings(share)
