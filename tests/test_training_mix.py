"""Batches of a flow stage, each drawn from one of several data sets, whose latents may differ in size."""

import dataclasses

import numpy as np
import pytest
import torch

from depthfm_core.training import shards
from depthfm_core.training.latents import LatentSet
from depthfm_core.training.loop import train
from depthfm_core.training.objective import step_random
from depthfm_core.training.velocity import FlowSettings, build_network, flow_objective

from .test_training import LOOP, TOY


def write_shard(folder, name, count, height, value, width=8):
    """Latents of `count` views whose every number is `value`."""
    latent = torch.full((count, 4, height, width), float(value)).half()
    valid = torch.ones(count, height, width, dtype=torch.uint8)
    tensors = {"image_latent": latent, "depth_latent": latent.clone(), "valid": valid}
    folder.mkdir(parents=True, exist_ok=True)
    shards.write_shard(folder / f"{name}-0000.safetensors", tensors, origin={})


@pytest.fixture
def mixed(tmp_path):
    """Latents of two data sets of different size and number, in two folders."""
    write_shard(tmp_path / "rooms", "hypersim", 3, 8, 1)
    write_shard(tmp_path / "streets", "vkitti2", 50, 10, 2, width=4)
    return [tmp_path / "rooms", tmp_path / "streets"]


@pytest.mark.parametrize("shares", [{"hypersim": 0.9, "vkitti2": 0.1}, {"vkitti2": 3.0, "hypersim": 27.0}])
def test_nine_of_ten_batches_are_of_the_data_set_with_nine_tenths_and_each_is_of_one(mixed, shares):
    latents = LatentSet(mixed, shares)
    batches = [latents.draw(2, step_random(0, step).rng) for step in range(3000)]
    rooms = [batch.valid.shape[-2] == 8 for batch in batches]
    assert np.mean(rooms) == pytest.approx(0.9, abs=0.02)  # three standard deviations are 0.016
    for batch, is_room in zip(batches[:100], rooms, strict=False):
        assert batch.image_latent.eq(1 if is_room else 2).all() and len(batch.image_latent) == 2
    assert len(latents) == 53 and latents.size == (8, 8) and latents.tokens == 64


def test_latents_that_cannot_be_drawn_as_the_shares_say_are_refused(mixed):
    with pytest.raises(ValueError, match="cannot share a batch.*give each data set a share"):
        LatentSet(mixed)
    with pytest.raises(ValueError, match=r"latents of \['hypersim'\] and shares are of \['hypersim', 'vkitti2'\]"):
        LatentSet(mixed[:1], {"hypersim": 0.9, "vkitti2": 0.1})
    write_shard(mixed[0], "hypersim2", 2, 8, 1)
    with pytest.raises(ValueError, match="hypersim2"):
        LatentSet(mixed, {"hypersim": 0.9, "vkitti2": 0.1})


def test_without_shares_all_views_of_all_data_sets_are_drawn_alike(tmp_path):
    write_shard(tmp_path, "hypersim", 30, 8, 1)
    write_shard(tmp_path, "vkitti2", 10, 8, 2)
    drawn = LatentSet([tmp_path]).draw(2000, np.random.default_rng(0)).image_latent[:, 0, 0, 0]
    assert (drawn == 1).float().mean() == pytest.approx(0.75, abs=0.04)


def test_a_mixed_training_that_was_stopped_equals_an_unbroken_one_bit_for_bit(mixed, tmp_path):
    latents = LatentSet(mixed, {"hypersim": 0.5, "vkitti2": 0.5})
    loop = dataclasses.replace(LOOP, num_steps=6, save_every=3)
    objective, sizes = flow_objective(latents, FlowSettings(("a",), loop), None), []

    def run(folder, stop=None):
        def draw(random):
            if random.step == stop:
                raise KeyboardInterrupt
            batch = objective.draw(random)
            sizes.append(batch.valid.shape[-2])
            return batch

        network = build_network(TOY, 2, seed=0)
        train(network, objective._replace(draw=draw), loop, folder)
        return network.state_dict()

    straight = run(tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "broken", stop=3)
    resumed = run(tmp_path / "broken")
    assert sizes[:6] == sizes[6:] and set(sizes) == {8, 10}
    assert all(torch.equal(straight[name], resumed[name]) for name in straight)
