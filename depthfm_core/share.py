"""Which part of the work a process does, when `accelerate launch` or `torchrun` started several."""

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import timedelta

import torch

from .optional import import_optional

# One process may work for hours while the others wait. Should it end, the launcher ends the others, so nobody hangs.
_PATIENCE = timedelta(days=7)


@dataclass(frozen=True)
class Share:
    """Every `count`-th image (or shard), from `index` on.

    Attributes:
        wait: returns once all processes have called it.
        outer: the share of all images that this is a share of, such as one machine's; None = of all images.
    """

    index: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    outer: "Share | None" = None

    def part(self, entries: Sequence) -> Sequence:
        """The entries that this process works on."""
        return (self.outer.part(entries) if self.outer else entries)[self.index :: self.count]

    @property
    def is_first(self) -> bool:
        """Whether this is the process that reports, and writes what there is one of."""
        return self.index == 0


ALL = Share()


def this_share() -> Share:
    """The part of this process; everything where it is the only one. "cuda" is its own GPU afterwards.

    Raises:
        ValueError: when several processes were started and the package accelerate is missing.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Share()
    accelerate = import_optional("accelerate", "A run of several processes", "`pip install accelerate`.")
    asked_for_cpu = accelerate.utils.parse_flag_from_env("ACCELERATE_USE_CPU")  # `accelerate launch --cpu`
    cpu = asked_for_cpu or not torch.cuda.is_available()
    state = accelerate.PartialState(cpu=cpu, timeout=_PATIENCE)
    return Share(state.process_index, state.num_processes, state.wait_for_everyone)
