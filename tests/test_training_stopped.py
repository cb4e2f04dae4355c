"""A training that stops at a loss that is no number, and one that goes on with other settings than it began with."""

import dataclasses
from itertools import pairwise
from typing import NamedTuple

import pytest
import torch
from torch import Tensor, nn

from depthfm_core.training.loop import LoopSettings, train
from depthfm_core.training.objective import Objective
from depthfm_core.training.state import is_made, saved_settings

LOOP = LoopSettings(num_steps=6, batch_size=1, learning_rate=1e-2, warmup_steps=1, save_every=2, mixed_precision="no")


class Step(NamedTuple):
    """The batch of a toy: the number of its step."""

    number: Tensor


def linear():
    torch.manual_seed(0)
    return nn.Linear(3, 1)


def spoiled_from(step, value, seen=None, slope=1.0):
    """A loss whose gradient is `slope` for the bias, until the step from which it is `value`."""

    def losses(model, batch):
        if seen is not None:
            seen.append(model.bias.item())
        return {"sum": model.bias.sum() * (value if batch.number >= step else slope)}

    return Objective(lambda random: Step(torch.tensor([random.step])), losses)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_no_number_stops_before_the_weights_move(tmp_path, value):
    model = linear()
    with pytest.raises(ValueError, match=r"stopped in step 4: loss .*state of step 2 is kept in .*learning_rate"):
        train(model, spoiled_from(3, value), LOOP, tmp_path / "flow")
    assert all(parameter.isfinite().all() for parameter in model.parameters())
    state = torch.load(tmp_path / "flow" / "state.pt", weights_only=True)
    assert state["step"] == 2 and all(tensor.isfinite().all() for tensor in state["parameters"])


def test_a_gradient_that_is_no_number_stops_too_though_the_loss_is_one(tmp_path):
    model = linear()

    def losses(model, _batch):
        return {"sum": model.bias.sum() + (model.weight.sum() * 0).sqrt()}  # the root's slope at 0 is infinite

    with pytest.raises(ValueError, match="step 1: .*norm nan. No state was saved yet"):
        train(model, Objective(lambda _: Step(torch.zeros(1)), losses), LOOP, tmp_path)


def test_a_run_that_goes_on_with_another_rate_moves_by_it(tmp_path):
    model, seen = linear(), []
    settings = dataclasses.replace(LOOP, schedule="constant", weight_decay=0.0)
    with pytest.raises(ValueError, match="stopped"):
        train(model, spoiled_from(2, float("nan")), settings, tmp_path)
    slower = dataclasses.replace(settings, learning_rate=1e-4)
    model = linear()
    train(model, spoiled_from(9, 1.0, seen), slower, tmp_path)
    steps = [before - after for before, after in pairwise(seen)]
    assert steps == pytest.approx([1e-4] * 3, rel=0.01)  # the first one, and what the schedule says of the others


def test_a_training_at_a_constant_rate_can_be_made_longer_bit_for_bit(tmp_path):
    def trained(folder, num_steps, schedule="constant"):
        settings = dataclasses.replace(LOOP, schedule=schedule, num_steps=num_steps)
        train(model := linear(), spoiled_from(9, 1.0), settings, tmp_path / folder)
        return [parameter.detach() for parameter in model.parameters()]

    once = trained("once", 4)
    short = trained("twice", 2)
    assert is_made(tmp_path / "twice" / "state.pt", saved_settings(tmp_path / "twice" / "state.pt"))
    longer = trained("twice", 4)
    assert all(torch.equal(one, other) for one, other in zip(once, longer, strict=True))
    assert not torch.equal(short[1], longer[1])
    trained("cosine", 4, "cosine")
    for folder, num_steps, schedule in (("twice", 2, "constant"), ("twice", 6, "cosine"), ("cosine", 6, "cosine")):
        with pytest.raises(ValueError, match=f"saved with num_steps 4 .now {num_steps}.*may grow at a constant rate"):
            trained(folder, num_steps, schedule)


def test_a_run_that_goes_on_with_another_weight_decay_shrinks_its_weights_by_it(tmp_path):
    seen, settings = [], dataclasses.replace(LOOP, schedule="constant", weight_decay=0.0)
    with pytest.raises(ValueError, match="stopped"):
        train(linear(), spoiled_from(2, float("nan"), slope=0.0), settings, tmp_path)
    decaying = dataclasses.replace(settings, weight_decay=0.5)
    train(linear(), spoiled_from(9, 1.0, seen, slope=0.0), decaying, tmp_path)
    shares = [after / before for before, after in pairwise(seen)]
    assert shares == pytest.approx([1 - settings.learning_rate * 0.5] * 3, rel=1e-5)
