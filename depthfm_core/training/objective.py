"""What a training minimizes, in a form that any number of processes computes alike.

A step's randomness is drawn once for the batch of all processes together; its parts follow from their number alone.
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from ..share import Share


class StepRandom(NamedTuple):
    """The number of a step, from 0, and the two generators that all of its randomness comes from."""

    step: int
    rng: np.random.Generator
    generator: torch.Generator


def step_random(seed: int, step: int) -> StepRandom:
    """The generators of one step."""
    rng = np.random.default_rng([seed, step])
    return StepRandom(step, rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


class Objective(NamedTuple):
    """A sum of named means over a batch, which is minimized.

    Attributes:
        draw: the batch of a step for all processes together, from its generators: a NamedTuple of tensors on the CPU,
            samples first.
        losses: from the model and some samples of that batch on the model's device, named scalars, each a mean over
            something that counts (samples, valid cells). Their sum is minimized.
        counts: from some samples on the CPU, how much each of `losses` is a mean over. With it, the mean over a batch
            is put together from its parts exactly. None for losses of a batch as a whole, which is then never split.
    """

    draw: Callable[[StepRandom], Any]
    losses: Callable[[nn.Module, Any], Mapping[str, Tensor]]
    counts: Callable[[Any], Mapping[str, float]] | None = None


class Part(NamedTuple):
    """Some samples of a batch, and of how much of the whole batch's mean each loss of theirs makes up."""

    samples: Any
    fractions: Mapping[str, float] | None


def own_parts(objective: Objective, batch: Any, share: Share, micro_batch_size: int) -> list[Part]:
    """What of a batch a process computes, in parts that go through the model one after the other.

    Args:
        objective: says how much a part counts.
        batch: of all processes; at least one sample for each.
        share: the process's.
        micro_batch_size: the most samples in a part; 0 = all at once.
    """
    if objective.counts is None:
        return [Part(batch, None)]
    size = len(batch[0])
    start, stop = (size * index // share.count for index in (share.index, share.index + 1))
    length = micro_batch_size or stop - start
    whole = objective.counts(batch)
    parts = []
    for first in range(start, stop, length):
        samples = batch._make(tensor[first : min(first + length, stop)] for tensor in batch)
        # Where nothing counts, all of these losses are zero.
        fractions = {name: count / (whole[name] or 1) for name, count in objective.counts(samples).items()}
        parts.append(Part(samples, fractions))
    return parts
