"""The engine of training: parts of a batch, precision, and the loss against a reference in float64."""

import dataclasses
import logging
import math

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType

from depthfm_core.share import Share
from depthfm_core.training import engine
from depthfm_core.training.engine import Engine
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.objective import own_parts
from depthfm_core.training.velocity import FlowSettings, build_network, flow_losses, flow_objective
from depthfm_core.training.watch import Checked

from .test_training import LOOP, TOY, always, batch, linear, quadratic, stop_at

SETTINGS = FlowSettings(("a",), LOOP)


def masked_batch(size):
    """A batch of which very different shares are valid."""
    pairs = batch(size=size)
    chance = torch.linspace(0, 1, size)[:, None, None, None]
    return pairs._replace(valid=torch.rand(size, 1, 8, 8, generator=torch.Generator().manual_seed(1)) < chance)


def velocity_loss(network, pairs, **changed):
    return flow_losses(network, pairs, dataclasses.replace(SETTINGS, **changed), None)["velocity"]


def reference_loss(network, pairs, noising_step):
    """The loss in float64, from the formulas: x_0 is the noised image latent, x_1 the depth latent."""
    image_latent, depth_latent, noise, t = (
        tensor.double().numpy() for tensor in (pairs.image_latent, pairs.depth_latent, pairs.noise, pairs.t)
    )
    angle = math.pi / 2 * noising_step / 1000
    signal = 1 / math.sqrt(1 + (math.tan(angle) + 1e-5) ** 2)  # the square root of sigmoid(-2 log(tan + 1e-5))
    x_0 = signal * image_latent + math.sqrt(1 - signal**2) * noise
    x_t = np.stack([(1 - t[i]) * x_0[i] + t[i] * depth_latent[i] for i in range(len(t))])
    predicted = network(torch.from_numpy(x_t), pairs.t.double(), torch.from_numpy(image_latent))
    errors = predicted - torch.from_numpy(depth_latent - x_0)
    cells = [errors[i, :, y, x] for i, y, x in torch.argwhere(pairs.valid[:, 0]).tolist()]
    return sum((cell * cell).mean() for cell in cells) / len(cells)


@pytest.mark.parametrize("noising_step", [1, 400])
def test_the_loss_and_its_gradient_agree_with_a_reference_in_float64(noising_step):
    pairs, network = masked_batch(4), build_network(TOY, 2, seed=0)
    exact = build_network(TOY, 2, seed=0).double()
    loss = velocity_loss(network, pairs, noising_step=noising_step)
    expected = reference_loss(exact, pairs, noising_step)
    loss.backward()
    expected.backward()
    assert loss.item() == pytest.approx(expected.item(), rel=1e-5)
    steepest = max(parameter.grad.abs().max() for parameter in exact.parameters())
    for own, reference in zip(network.parameters(), exact.parameters(), strict=True):
        # A bias right before a normalization has no gradient but rounding.
        atol = 1e-4 * max(reference.grad.abs().max(), 1e-3 * steepest)
        torch.testing.assert_close(own.grad.double(), reference.grad, rtol=0, atol=float(atol))


def gradients(micro_batch_size, folder):
    """Of one step, before clipping changes them, and how many samples went through the network each time."""
    network, found, sizes = build_network(TOY, 2, seed=0), {}, []
    network.register_forward_pre_hook(lambda _, inputs: sizes.append(len(inputs[0])))
    settings = dataclasses.replace(LOOP, num_steps=1, batch_size=5, max_grad_norm=1e9)
    settings = dataclasses.replace(settings, micro_batch_size=micro_batch_size)
    for name, parameter in network.named_parameters():
        parameter.register_post_accumulate_grad_hook(lambda p, name=name: found.update({name: p.grad.clone()}))
    train(network, always(masked_batch(5), SETTINGS), settings, folder)
    return found, sizes


def test_gradients_added_up_over_parts_are_those_of_the_whole_batch(tmp_path):
    (whole, at_once), (parts, in_parts) = gradients(0, tmp_path / "whole"), gradients(2, tmp_path / "parts")
    assert (at_once, in_parts) == ([5], [2, 2, 1])
    for name in whole:
        torch.testing.assert_close(parts[name], whole[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(("count", "micro_batch_size"), [(1, 0), (2, 0), (2, 2), (3, 1), (5, 4)])
def test_the_parts_of_all_processes_are_the_batch_and_their_losses_add_up_to_its(count, micro_batch_size):
    network, pairs = build_network(TOY, 2, seed=0).eval(), masked_batch(5)
    objective = flow_objective(None, SETTINGS, None)
    shares = [own_parts(objective, pairs, Share(index, count), micro_batch_size) for index in range(count)]
    parts = [part for share in shares for part in share]
    assert torch.equal(torch.cat([part.samples.noise for part in parts]), pairs.noise) and all(shares)
    assert max(len(part.samples.t) for part in parts) <= (micro_batch_size or 5)
    with torch.no_grad():
        total = sum(part.fractions["velocity"] * velocity_loss(network, part.samples) for part in parts)
        assert float(total) == pytest.approx(float(velocity_loss(network, pairs)), rel=1e-5)


def test_a_batch_in_which_nothing_is_valid_has_no_loss():
    pairs = batch()
    parts = own_parts(flow_objective(None, SETTINGS, None), pairs._replace(valid=pairs.valid & False), Share(), 1)
    assert [part.fractions for part in parts] == [{"velocity": 0.0}] * 2


def test_a_batch_that_cannot_be_shared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="batch_size is 2, for 3 processes together"):
        train(linear(), quadratic([]), LOOP, tmp_path, share=Share(0, 3))
    with pytest.raises(ValueError, match="micro_batch_size is 1, .* whose loss is of a batch as a whole"):
        train(linear(), quadratic([]), dataclasses.replace(LOOP, micro_batch_size=1), tmp_path)


@pytest.mark.parametrize(("precision", "dtype"), [("no", torch.float32), ("bf16", torch.bfloat16)])
def test_the_network_computes_in_the_precision_of_the_recipe_and_checks_in_full(tmp_path, precision, dtype):
    network, trained, checked = build_network(TOY, 2, seed=0), [], []
    block = network.unet.down_blocks[0].resnets[0].conv1
    block.register_forward_hook(lambda module, _, out: (trained if module.training else checked).append(out.dtype))
    pairs = batch()

    def check():
        network(pairs.noise, pairs.t, pairs.image_latent)
        return Checked({}, torch.zeros(3, 4, 4))

    settings = dataclasses.replace(LOOP, num_steps=1, mixed_precision=precision)
    train(network, always(pairs, SETTINGS), settings, tmp_path, check)
    assert (trained, checked) == ([dtype], [torch.float32] * 2)
    assert all(parameter.dtype == torch.float32 for parameter in network.parameters())


@pytest.mark.parametrize(("has_bfloat16", "precision"), [(True, "bf16"), (False, "no")])
def test_auto_takes_bfloat16_where_the_device_multiplies_it_and_says_so(monkeypatch, caplog, has_bfloat16, precision):
    monkeypatch.setattr(engine, "multiplies_bfloat16", lambda device: has_bfloat16)
    caplog.set_level(logging.INFO)
    assert Engine(LoopSettings(1, 1, 1e-3).mixed_precision, Share()).accelerator.mixed_precision == precision
    assert f"mixed precision: {precision}" in caplog.text
    assert Engine("bf16", Share()).accelerator.mixed_precision == "bf16"


def test_precisions_and_launches_that_cannot_train_are_refused(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="'fp8'; choose one of auto, no, bf16, fp16"):
        dataclasses.replace(LOOP, mixed_precision="fp8")
    with pytest.raises(ValueError, match="micro_batch_size is -1"):
        dataclasses.replace(LOOP, micro_batch_size=-1)
    with pytest.raises(ValueError, match="on the CPU choose 'bf16' or 'no'"):
        train(linear(), quadratic([]), dataclasses.replace(LOOP, mixed_precision="fp16"), tmp_path)
    monkeypatch.setattr(Accelerator, "distributed_type", property(lambda _: DistributedType.FSDP))
    with pytest.raises(ValueError, match="set to FSDP"):
        Engine("no", Share())


def test_the_gradient_scaler_of_fp16_is_saved_and_resumed(tmp_path, monkeypatch):
    """On the CPU, in float32: accelerate makes a scaler on GPUs alone."""
    prepare = Engine.prepare

    def with_scaler(self, optimizer):
        self.accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0, growth_interval=1)
        return prepare(self, optimizer)

    monkeypatch.setattr(Engine, "prepare", with_scaler)
    straight, broken, resumed = linear(), linear(), linear()
    train(straight, quadratic([]), LOOP, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop_at(2, quadratic([])), LOOP, tmp_path / "broken")
    train(resumed, quadratic([]), LOOP, tmp_path / "broken")
    for folder in ("straight", "broken"):
        state = torch.load(tmp_path / folder / "state.pt", weights_only=True)
        assert state["scaler"]["scale"] == 2.0 * 2**4  # doubled by each of four steps
    assert torch.equal(straight.weight, resumed.weight)


def test_a_training_that_goes_on_where_auto_is_another_precision_says_so(tmp_path, monkeypatch, caplog):
    loop = dataclasses.replace(LOOP, save_every=1, mixed_precision="auto")
    caplog.set_level(logging.INFO)
    for has_bfloat16, steps in ((True, 1), (True, 2), (False, 3)):
        assert "until now" not in caplog.text
        monkeypatch.setattr(engine, "multiplies_bfloat16", lambda _device, has=has_bfloat16: has)
        with pytest.raises(KeyboardInterrupt):
            train(linear(), stop_at(steps, quadratic([])), loop, tmp_path)
    assert "goes on in mixed precision no; until now it was bf16" in caplog.text
    assert torch.load(tmp_path / "state.pt", weights_only=True)["precision"] == "no"


def test_a_run_may_go_on_with_another_use_of_memory(tmp_path):
    objective = always(masked_batch(4), SETTINGS)
    loop = dataclasses.replace(LOOP, save_every=1)
    smaller = dataclasses.replace(loop, micro_batch_size=1, gradient_checkpointing=True)
    straight, changed = (build_network(TOY, 2, seed=0) for _ in range(2))
    train(straight, objective, loop, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(changed, stop_at(2, objective), loop, tmp_path / "changed")
    train(changed, objective, smaller, tmp_path / "changed")
    start, one, other = (
        torch.cat([tensor.flatten() for tensor in network.state_dict().values()])
        for network in (build_network(TOY, 2, seed=0), straight, changed)
    )
    # Adam makes a step of full length of a rounding error, where a gradient is nothing else.
    assert (one - other).norm() < 1e-2 * (one - start).norm()


def test_a_count_of_accumulation_steps_in_the_environment_changes_nothing(tmp_path, monkeypatch):
    plain, _ = gradients(0, tmp_path / "plain")
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert all(torch.equal(plain[name], grad) for name, grad in gradients(0, tmp_path / "set")[0].items())
