"""The auxiliary surface-normal loss, against planes whose angles are known."""

import dataclasses
import math

import pytest
import torch

from depthfm_core.flow import noise_source
from depthfm_core.model.codec import load_codec
from depthfm_core.training import normal_loss as module
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.normal_loss import decoded_normal_loss, normal_loss
from depthfm_core.training.velocity import FlowBatch, FlowSettings, build_network, flow_losses, flow_objective

from .sd_prior import HYPER

LOOP = LoopSettings(num_steps=3, batch_size=4, learning_rate=1e-3, warmup_steps=0, mixed_precision="no")
ALL = torch.ones(1, 1, 2, 3, dtype=torch.bool)


def plane(across=0.0, down=0.0, height=16, width=24):
    """Log depth whose slopes are these in the box where the longer side is 2."""
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return ((across * x + down * y) * 2 / max(height, width))[None, None]


def rough(seed=0, size=1, height=16, width=24):
    return torch.randn(size, 1, height, width, generator=torch.Generator().manual_seed(seed)) / 4


def angle_loss(degrees):
    return 1 - math.cos(math.radians(degrees))


@pytest.fixture(scope="module")
def codec(golden_dir):
    return load_codec(golden_dir / "micro-vae-diffusers.safetensors")


def latents(size=4, seed=0):
    x_1, depth_latent = torch.randn(2, size, 4, 2, 3, generator=torch.Generator().manual_seed(seed))
    valid = torch.rand(size, 1, 2, 3, generator=torch.Generator().manual_seed(seed)) < 0.7
    return x_1, depth_latent, valid


def test_equal_maps_have_no_loss():
    assert normal_loss(rough(), rough(), ALL) == 0


@pytest.mark.parametrize(
    ("slopes", "degrees"),
    [
        ({"across": 1.0}, 45),
        ({"down": -1.0}, 45),
        ({"across": math.sqrt(3)}, 60),
        ({"across": 1.0, "down": 1.0}, math.degrees(math.acos(3**-0.5))),
    ],
)
def test_the_loss_of_two_planes_is_one_minus_the_cosine_of_their_angle(slopes, degrees):
    flat = plane()
    assert normal_loss(plane(**slopes), flat, ALL) == pytest.approx(angle_loss(degrees), abs=1e-5)
    assert normal_loss(flat, plane(**slopes), ALL) == pytest.approx(angle_loss(degrees), abs=1e-5)


def test_opposite_slopes_add_their_angles():
    assert normal_loss(plane(across=1), plane(across=-1), ALL) == pytest.approx(angle_loss(90), abs=1e-5)


def test_near_to_far_along_the_longer_side_is_45_degrees_at_every_size():
    for height, width in ((8, 32), (64, 16)):
        ramp = torch.linspace(-1, 1, max(height, width) + 1)[:-1]
        target = ramp.expand(height, width) if width > height else ramp[:, None].expand(height, width)
        valid = torch.ones(1, 1, height // 8, width // 8, dtype=torch.bool)
        loss = normal_loss(torch.zeros(1, 1, height, width), target[None, None], valid)
        assert loss == pytest.approx(angle_loss(45), abs=1e-5)


def test_a_constant_added_to_log_depth_changes_nothing():
    loss = normal_loss(rough(0), rough(1), ALL)
    assert loss > 0.1
    assert normal_loss(rough(0) + 3, rough(1), ALL) == pytest.approx(float(loss), abs=1e-5)
    assert normal_loss(rough(0), rough(1) - 3, ALL) == pytest.approx(float(loss), abs=1e-5)


def test_what_is_not_valid_changes_neither_the_loss_nor_gets_a_gradient():
    valid = torch.tensor([[True, False, True], [True, True, False]])[None, None]
    masked = ~valid.repeat_interleave(8, -2).repeat_interleave(8, -1)
    predicted, target = rough(0).requires_grad_(), rough(1)
    loss = normal_loss(predicted, target, valid)
    loss.backward()
    assert (predicted.grad[masked] == 0).all() and (predicted.grad[~masked] != 0).any()
    spoiled = [one.detach().masked_fill(masked, value) for one, value in ((predicted, 1e6), (target, -1e6))]
    assert normal_loss(*spoiled, valid) == loss


def test_a_batch_without_valid_cells_has_no_loss_and_a_zero_gradient():
    predicted = rough().requires_grad_()
    loss = normal_loss(predicted, rough(1), torch.zeros_like(ALL))
    loss.backward()
    assert loss == 0 and (predicted.grad == 0).all()


def test_a_step_of_the_target_is_in_no_normal_but_one_of_the_estimate_counts():
    step = torch.zeros(1, 1, 16, 24)
    step[..., 11:] = 1.5
    assert normal_loss(plane(), step, ALL) == 0
    assert normal_loss(step, plane(), ALL) > 0.03  # of a normal turned by nearly 90 degrees in one of 24 columns
    assert normal_loss(step + plane(1), step + plane(1, 1), ALL) == pytest.approx(
        float(normal_loss(plane(1), plane(1, 1), ALL)), abs=1e-5
    )


@pytest.mark.parametrize("target", [plane(), rough(1)], ids=["flat", "rough"])
def test_gradients_are_finite_at_equal_and_at_flat_maps(target):
    for predicted in (target.clone().requires_grad_(), torch.zeros_like(target).requires_grad_()):
        normal_loss(predicted, target, ALL).backward()
        assert predicted.grad.isfinite().all()


def test_the_gradient_leads_from_a_flat_map_to_the_targets_slopes():
    target, predicted = plane(0.7, -0.4), plane().requires_grad_()
    optimizer = torch.optim.Adam([predicted], lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        normal_loss(predicted, target, ALL).backward()
        optimizer.step()
    assert normal_loss(predicted, target, ALL) < 0.02 * normal_loss(plane(), target, ALL)


def test_of_decoded_latents_it_is_the_loss_of_their_depth_maps(codec):
    x_1, depth_latent, valid = latents()
    maps = [codec.decode(latent).mean(1, keepdim=True) for latent in (x_1, depth_latent)]
    loss = decoded_normal_loss(codec, x_1, depth_latent, valid)
    assert loss > 0.01
    torch.testing.assert_close(loss, normal_loss(*maps, valid))


def test_parts_weighted_by_their_valid_cells_add_up_to_the_batch_with_the_same_gradient(codec, monkeypatch):
    x_1, depth_latent, valid = latents()
    x_1.requires_grad_()
    whole = decoded_normal_loss(codec, x_1, depth_latent, valid)
    gradient = torch.autograd.grad(whole, x_1)[0]
    shares = [(x_1[part], depth_latent[part], valid[part]) for part in (slice(0, 1), slice(1, 4))]
    counts = [part[-1].sum() for part in shares]
    assert counts[0] != counts[1] / 3  # a mean of means would be another number
    mean = sum(decoded_normal_loss(codec, *part) * count for part, count in zip(shares, counts, strict=True))
    torch.testing.assert_close(mean / sum(counts), whole)
    monkeypatch.setattr(module, "_PIXELS_AT_ONCE", 1)  # one picture at a time through the decoder
    alone = decoded_normal_loss(codec, x_1, depth_latent, valid)
    torch.testing.assert_close(alone, whole)
    torch.testing.assert_close(torch.autograd.grad(alone, x_1)[0], gradient)


def test_autocast_to_half_precision_changes_nothing(codec):
    x_1, depth_latent, valid = latents()
    full = decoded_normal_loss(codec, x_1, depth_latent, valid)
    with torch.autocast("cpu", torch.bfloat16):
        halved = decoded_normal_loss(codec, x_1, depth_latent, valid)
    assert halved.dtype == torch.float32 and torch.equal(halved, full)


def test_maps_in_half_precision_are_compared_in_full():
    predicted, target = rough(0).bfloat16(), rough(1).bfloat16()
    assert torch.equal(normal_loss(predicted, target, ALL), normal_loss(predicted.float(), target.float(), ALL))


def test_gradients_go_through_the_decoder_and_leave_it_as_it_is(codec):
    x_1, depth_latent, valid = latents()
    x_1.requires_grad_()
    depth_latent.requires_grad_()
    decoded_normal_loss(codec, x_1, depth_latent, valid).backward()
    assert x_1.grad.abs().sum() > 0 and x_1.grad.isfinite().all()
    assert depth_latent.grad is None
    assert all(parameter.grad is None for parameter in codec.parameters())


def flow_batch(size=4):
    image_latent, depth_latent, noise = torch.randn(3, size, 4, 8, 8, generator=torch.Generator().manual_seed(3))
    valid = torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(4)) < 0.7
    straight = torch.zeros(size, dtype=torch.bool)
    return FlowBatch(image_latent, depth_latent, valid, noise, torch.linspace(0, 1, size), straight)


def settings(weight, **loop):
    return FlowSettings(("a",), dataclasses.replace(LOOP, **loop), normals_weight=weight)


def test_without_a_weight_nothing_is_decoded():
    class Untouchable:
        def __getattr__(self, name):
            raise AssertionError(name)

    network = build_network(HYPER, 2, seed=0)
    assert flow_losses(network, flow_batch(), settings(0.0), Untouchable()).keys() == {"velocity"}
    with pytest.raises(AssertionError, match="to"):
        flow_losses(network, flow_batch(), settings(0.1), Untouchable())


def test_the_true_velocity_has_no_normal_loss_at_any_time_and_another_has_one_in_proportion_to_its_weight(codec):
    batch = flow_batch()

    def perfect(_x_t, _t, image_latent):
        return batch.depth_latent - noise_source(image_latent, 400, batch.noise)

    def wrong(*args):
        return 0.5 * perfect(*args)

    assert flow_losses(perfect, batch, settings(1.0), codec)["normals"] < 1e-6
    one, three = (flow_losses(wrong, batch, settings(weight), codec)["normals"] for weight in (1.0, 3.0))
    assert one > 0.01 and three == pytest.approx(3 * float(one))


def test_a_negative_weight_is_refused():
    with pytest.raises(ValueError, match="normals_weight is -1"):
        settings(-1.0)


def test_training_with_normals_in_parts_of_a_batch_equals_training_with_whole_batches(codec, tmp_path):
    def trained(weight, micro_batch_size):
        network, chosen = build_network(HYPER, 2, seed=0), settings(weight, micro_batch_size=micro_batch_size)
        objective = flow_objective(None, chosen, codec)._replace(draw=lambda _: flow_batch())
        train(network, objective, chosen.loop, tmp_path / f"{weight} {micro_batch_size}")
        return network.unet.conv_in.weight.detach()

    whole = trained(1.0, 0)
    distances = [float((other - whole).abs().mean()) for other in (trained(1.0, 1), trained(0.0, 0))]
    assert distances[0] < 1e-5 and distances[1] > 1e-4
