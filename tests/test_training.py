"""The training loop, the losses and the flow stage, with toy sizes of the real classes."""

import dataclasses
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend

from depthfm_core.model.hyperparameters import UNetHyperParameters
from depthfm_core.share import Share
from depthfm_core.training import loop
from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.objective import Objective, step_random
from depthfm_core.training.velocity import (
    FlowBatch,
    FlowSettings,
    attention_backends,
    build_network,
    flow_objective,
)
from depthfm_core.training.watch import Checked

TOY = UNetHyperParameters(
    model_channels=32, channel_mult=(1, 2), num_res_blocks=1, attention_resolutions=(2,), context_dim=8, num_heads=2
)
LOOP = LoopSettings(num_steps=4, batch_size=2, learning_rate=1e-2, warmup_steps=1, save_every=2, mixed_precision="no")


def batch(seed=0, size=2):
    generator = torch.Generator().manual_seed(seed)
    image_latent, depth_latent, noise = torch.randn(3, size, 4, 8, 8, generator=generator)
    valid = torch.ones(size, 1, 8, 8, dtype=torch.bool)
    straight = torch.zeros(size, dtype=torch.bool)
    return FlowBatch(image_latent, depth_latent, valid, noise, torch.rand(size, generator=generator), straight)


class Target(NamedTuple):
    """The batch of a toy: [1, 3]."""

    target: Tensor


def quadratic(seen):
    """A noisy quadratic: the loss of a step depends on its generators alone."""

    def draw(random):
        seen.append(random.step)
        return Target(torch.randn(1, 3, generator=random.generator) + float(random.rng.normal()))

    return Objective(draw, lambda model, batch: {"loss": (model(torch.ones(1, 3)) - batch.target).square().mean()})


def always(batch, settings):
    """The flow objective, with one batch in place of draws."""
    return flow_objective(None, settings, None)._replace(draw=lambda _: batch)


def sum_of_biases(moved, factor=1):
    """A loss whose gradient is constant; keeps each step's biases."""

    def losses(model, _batch):
        moved.append(model.bias.detach().clone())
        return {"loss": factor * model.bias.sum()}

    return Objective(lambda _: Target(torch.zeros(1, 3)), losses)


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 3)


def test_a_resumed_training_equals_an_unbroken_one_bit_for_bit(tmp_path):
    straight, broken, resumed, steps = linear(), linear(), linear(), []
    train(straight, quadratic([]), LOOP, tmp_path / "straight")
    with pytest.raises(KeyboardInterrupt):
        train(broken, stop_at(2, quadratic([])), LOOP, tmp_path / "broken")
    train(resumed, quadratic(steps), LOOP, tmp_path / "broken")
    assert steps == [2, 3]
    assert all(torch.equal(a, b) for a, b in zip(straight.parameters(), resumed.parameters(), strict=True))


def stop_at(step, objective):
    def draw(random):
        if random.step == step:
            raise KeyboardInterrupt
        return objective.draw(random)

    return objective._replace(draw=draw)


def test_a_finished_training_is_not_done_again_and_gives_the_same_weights(tmp_path):
    first, second, steps = linear(), linear(), []
    train(first, quadratic([]), LOOP, tmp_path)
    train(second, quadratic(steps), LOOP, tmp_path)
    assert steps == []
    assert torch.equal(first.weight, second.weight)


def test_a_state_of_other_settings_is_refused(tmp_path):
    model = linear()
    train(model, quadratic([]), LOOP, tmp_path)
    with pytest.raises(ValueError, match="another output folder"):
        train(model, quadratic([]), dataclasses.replace(LOOP, num_steps=8), tmp_path)


def test_a_parameter_that_is_trained_takes_20_bytes_as_the_documentation_says(tmp_path):
    model, kept = nn.Linear(100, 100, bias=False), []
    model.weight.register_post_accumulate_grad_hook(lambda weight: kept.extend([weight, weight.grad]))
    run = loop._Run(model, LOOP, tmp_path, Share())
    run.advance(
        Objective(lambda _: Target(torch.ones(1, 100)), lambda module, batch: {"sum": module(batch.target).sum()})
    )
    kept += [*run.optimizer.state[model.weight].values(), *run.ema.shadow_params]
    assert sum(tensor.nbytes for tensor in kept) / model.weight.numel() == pytest.approx(20, rel=1e-3)
    page = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    assert "20 bytes a parameter that is trained" in page


def test_the_result_is_the_average_of_the_weights_and_checks_see_it(tmp_path):
    def run(decay, name):
        model, checked = linear(), []
        settings = dataclasses.replace(LOOP, ema_decay=decay)

        def check():
            checked.append(model.weight.clone())
            return Checked({}, torch.zeros(3, 4, 4))

        train(model, quadratic([]), settings, tmp_path / name, check)
        return model.weight.detach(), checked

    last, _ = run(0.0, "last")
    averaged, checked = run(0.999, "averaged")
    start = linear().weight.detach()
    assert 0 < (averaged - start).norm() < (last - start).norm()
    assert len(checked) == 3 and torch.equal(checked[-1], averaged)
    assert torch.equal(checked[0], start)  # what it starts from


def test_the_learning_rate_warms_up_and_falls_to_zero(tmp_path):
    moved = []
    settings = dataclasses.replace(LOOP, num_steps=8, warmup_steps=3, weight_decay=0.0)
    train(linear(), sum_of_biases(moved), settings, tmp_path)
    sizes = [(b - a).abs().mean() for a, b in zip(moved, moved[1:], strict=False)]
    assert sizes[0] == 0 and sizes[1] < sizes[2] < sizes[3] and sizes[-1] < sizes[3] / 2
    assert sizes[3] == pytest.approx(settings.learning_rate, rel=0.1)  # Adam moves by the rate


def test_a_constant_schedule_stays_at_the_peak_after_its_warm_up(tmp_path):
    moved = []
    settings = dataclasses.replace(LOOP, num_steps=8, warmup_steps=3, weight_decay=0.0, schedule="constant")
    train(linear(), sum_of_biases(moved), settings, tmp_path)
    sizes = [(b - a).abs().mean() for a, b in zip(moved, moved[1:], strict=False)]
    assert sizes[0] == 0 and sizes[1] < sizes[2] < sizes[3]
    assert sizes[3:] == pytest.approx([settings.learning_rate] * 4, rel=0.1)


def test_an_unknown_schedule_names_the_choices():
    with pytest.raises(ValueError, match="'linear'; choose one of cosine, constant"):
        dataclasses.replace(LOOP, schedule="linear")


def test_long_gradients_are_clipped(tmp_path):
    norms = []
    model = linear()
    model.bias.register_post_accumulate_grad_hook(lambda p: norms.append(p.grad.norm()))
    seen = []
    step = torch.optim.AdamW.step
    settings = dataclasses.replace(LOOP, num_steps=1, max_grad_norm=0.5)

    def recording(self, *args, **kwargs):
        seen.append(model.bias.grad.norm())
        return step(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.optim.AdamW, "step", recording)
        train(model, sum_of_biases([], factor=100), settings, tmp_path)
    assert norms[0] > 100 and seen[0] == pytest.approx(0.5, rel=1e-3)


def test_checkpointed_gradients_are_those_of_a_plain_backward_pass_and_cost_a_second_forward_pass(tmp_path):
    def run(checkpointing):
        network, grads, calls = build_network(TOY, 2, seed=0), {}, []
        network.unet.down_blocks[0].resnets[0].register_forward_pre_hook(lambda *_: calls.append(1))
        for name, parameter in network.named_parameters():
            parameter.register_post_accumulate_grad_hook(lambda p, name=name: grads.update({name: p.grad.clone()}))
        settings = dataclasses.replace(LOOP, num_steps=1, gradient_checkpointing=checkpointing)

        train(network, always(batch(), FlowSettings(("a",), settings)), settings, tmp_path / str(checkpointing))
        return grads, len(calls)

    (plain, once), (checkpointed, twice) = run(False), run(True)
    assert (once, twice) == (1, 2)
    assert all(torch.equal(plain[name], checkpointed[name]) for name in plain) and len(plain) > 50


@pytest.mark.parametrize(("height", "plain_formula"), [(24, True), (96, False)])
def test_the_plain_attention_formula_serves_few_tokens_only(height, plain_formula):
    backends = attention_backends(TOY, height * 32)  # attention at half resolution
    assert (backends == [SDPBackend.MATH]) == plain_formula and SDPBackend.MATH in backends


@pytest.mark.parametrize("name", ["num_steps", "batch_size", "learning_rate", "max_grad_norm", "save_every"])
def test_settings_that_are_not_positive_are_refused(name):
    with pytest.raises(ValueError, match=name):
        dataclasses.replace(LOOP, **{name: 0})


def test_the_randomness_of_a_step_depends_on_seed_and_step_only():
    def draw(seed, step):
        random = step_random(seed, step)
        return (random.rng.random(), *torch.rand(2, generator=random.generator).tolist())

    assert draw(1, 5) == draw(1, 5)
    assert len({draw(seed, step) for seed in (0, 1) for step in (0, 1)}) == 4


def test_networks_of_one_seed_agree_and_leave_the_global_generator_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    one, same, other = (build_network(TOY, 2, seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    weights = [network.unet.conv_in.weight for network in (one, same, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert one.null_text.shape == (1, 2, 8) and torch.equal(one.null_text, same.null_text)


def test_weight_decay_pulls_weights_towards_zero(tmp_path):
    def norm(decay):
        model = linear()
        settings = dataclasses.replace(LOOP, weight_decay=decay, ema_decay=0.0)
        train(model, quadratic([]), settings, tmp_path / str(decay))
        return model.weight.detach().norm()

    assert norm(10.0) < 0.95 * norm(0.0)


def test_a_check_leaves_the_training_as_it_was(tmp_path):
    def run(name, check=None):
        model, modes, toy = linear(), [], quadratic([])

        def losses(module, batch):
            modes.append(module.training)
            return toy.losses(module, batch)

        train(model, toy._replace(losses=losses), LOOP, tmp_path / name, check)
        return model.weight, modes

    (plain, _), (checked, modes) = run("plain"), run("checked", lambda: Checked({}, torch.zeros(3, 4, 4)))
    assert torch.equal(plain, checked) and modes == [True] * LOOP.num_steps
