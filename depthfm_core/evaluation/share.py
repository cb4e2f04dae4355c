"""Which part of the images a process measures, when `accelerate launch` or `torchrun` started several."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch

_LONGEST_WAIT = timedelta(days=30)  # for the slowest process; PyTorch ends the others after half an hour otherwise


@dataclass(frozen=True)
class Share:
    """Every `count`-th image, from `index` on.

    Attributes:
        wait: returns once all processes have called it.
        outer: the share of all images that this is a share of, such as one machine's; None = of all images.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    outer: "Share | None" = None

    def part(self, entries: Sequence) -> Sequence:
        """The entries that this process measures."""
        return (self.outer.part(entries) if self.outer else entries)[self.index :: self.count]

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports."""
        return self.index == 0


ALL = Share()


def this_share() -> Share:
    """The part of this process; all images where it is the only one. "cuda" is its own GPU afterwards.

    Raises:
        ValueError: when several processes were started and the package accelerate is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Share()
    try:
        from accelerate import PartialState  # optional: only a run of several processes needs it
    except ModuleNotFoundError as error:
        raise ValueError("Several processes need the package accelerate; pip install accelerate.") from error
    state = PartialState(cpu=not torch.cuda.is_available(), timeout=_LONGEST_WAIT)
    return Share(state.process_index, state.num_processes, state.wait_for_everyone)
