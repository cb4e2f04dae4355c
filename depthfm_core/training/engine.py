"""`accelerate` as a training's engine: device, precision, and gradients summed over parts of a batch and processes.

Launched alone it takes the GPU where there is one; launched by `accelerate launch` or `torchrun`, each process has a
copy of the model (DDP). The environment and accelerate's own configuration choose devices and processes, the recipe
everything that a result depends on.
"""

import logging
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.optimizer import AcceleratedOptimizer
from accelerate.state import AcceleratorState, PartialState
from accelerate.utils import (
    DistributedDataParallelKwargs,
    DistributedType,
    GradientAccumulationPlugin,
    parse_flag_from_env,
)
from torch import Tensor, nn

from ..model.precision import multiplies_bfloat16
from ..share import Share
from .objective import Objective, Part, own_parts

_LOGGER = logging.getLogger(__name__)
# What the networks compute in (their weights stay in float32), in accelerate's words; "auto" is one of the first two.
PRECISIONS = ("auto", "no", "bf16", "fp16")
_SHARDED = (DistributedType.FSDP, DistributedType.DEEPSPEED, DistributedType.MEGATRON_LM)


def training_device() -> torch.device:
    """Where this process trains: its own GPU where there is one, unless accelerate is told to use the CPU."""
    return PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU")).device


def check_precision(mixed_precision: str, device: torch.device) -> None:
    """Raises ValueError for fp16 on the CPU."""
    if mixed_precision == "fp16" and device.type == "cpu":
        raise ValueError("mixed_precision is 'fp16', which needs a GPU; on the CPU choose 'bf16' or 'no'.")


def choose_precision(mixed_precision: str, device: torch.device) -> str:
    """What accelerate is told: for "auto" bf16 where the device multiplies it, else no, and the others as they are."""
    if mixed_precision != "auto":
        return mixed_precision
    return "bf16" if multiplies_bfloat16(device) else "no"


class Engine:
    """One process of a training.

    Args:
        mixed_precision: one of `PRECISIONS`.
        share: which of the processes that train together this is; `Share()` trains alone, whatever was launched.

    Raises:
        ValueError: for fp16 on the CPU, or where accelerate is set to spread one copy of the model over devices.
    """

    def __init__(self, mixed_precision: str, share: Share) -> None:
        AcceleratorState._reset_state()  # an earlier stage may have had another precision
        self.share = share
        chosen = choose_precision(mixed_precision, training_device())
        self.accelerator = Accelerator(
            mixed_precision=chosen,
            # Parts of a batch are weighted here; the plugin keeps a count in the environment from dividing them again.
            gradient_accumulation_plugin=GradientAccumulationPlugin(num_steps=1),
            kwargs_handlers=[DistributedDataParallelKwargs(broadcast_buffers=False, gradient_as_bucket_view=True)],
        )
        if self.accelerator.distributed_type in _SHARDED:
            raise ValueError(
                f"accelerate is set to {self.accelerator.distributed_type.value}; training needs a whole model in each "
                "process. Launch it otherwise, for example with --multi_gpu."
            )
        check_precision(mixed_precision, self.accelerator.device)
        if share.is_first:
            _LOGGER.info("training on %s, mixed precision: %s", self.accelerator.device, chosen)

    @property
    def precision(self) -> str:
        """What the networks compute in: "no" (float32), "bf16" or "fp16"."""
        return self.accelerator.mixed_precision

    def tell_other_precision(self, saved: str) -> None:
        """Logs where a training goes on in another precision than its saved one."""
        if saved != self.precision and self.share.is_first:
            _LOGGER.info("goes on in mixed precision %s; until now it was %s", self.precision, saved)

    def place(self, model: nn.Module) -> nn.Module:
        """Moves `model` to the device; returns what to compute losses with, so that processes share gradients."""
        wrapped = self.accelerator.prepare_model(model, evaluation_mode=self.share.count == 1)
        # Without its own change of `model.forward`: `backward` computes in mixed precision, checks in full.
        self.accelerator.unwrap_model(wrapped, keep_fp32_wrapper=False)
        return wrapped

    def prepare(self, optimizer: torch.optim.Optimizer) -> AcceleratedOptimizer:
        """The optimizer with fp16's gradient scaler, where there is one."""
        return self.accelerator.prepare_optimizer(optimizer)

    def backward(self, model: nn.Module, objective: Objective, batch: Any, micro_batch_size: int) -> dict[str, Tensor]:
        """Adds the gradients of a batch of all processes; its losses, over all processes, and "loss", their sum.

        Args:
            model: what `place` returned.
            objective: what to minimize.
            batch: what it drew.
            micro_batch_size: the most samples that go through the model at once; 0 = the process's whole part.
        """
        *others, last = own_parts(objective, batch, self.share, micro_batch_size)
        found = []
        for part in others:
            with self.accelerator.no_sync(model):
                found.append(self._add_gradients(model, objective, part))
        found.append(self._add_gradients(model, objective, last))
        losses = {name: sum(part[name] for part in found) for name in found[0]}
        return self._of_all_processes({"loss": sum(losses.values()), **losses})

    def scaler_state(self) -> dict[str, Any]:
        """The state of fp16's gradient scaler; empty without one."""
        return self.accelerator.scaler.state_dict() if self.accelerator.scaler else {}

    def load_scaler_state(self, state: dict[str, Any]) -> None:
        """Takes up what `scaler_state` gave, where there is a scaler and was one."""
        if self.accelerator.scaler and state:
            self.accelerator.scaler.load_state_dict(state)

    def _add_gradients(self, model: nn.Module, objective: Objective, part: Part) -> dict[str, Tensor]:
        """Adds the gradients of a part; what its losses contribute to the batch's."""
        samples = part.samples._make(tensor.to(self.accelerator.device) for tensor in part.samples)
        with self.accelerator.autocast():
            losses = objective.losses(model, samples)
        if part.fractions is not None:
            losses = {name: loss * part.fractions[name] for name, loss in losses.items()}
        self.accelerator.backward(sum(losses.values()) * self.share.count)  # the mean over processes is DDP's
        return {name: loss.detach() for name, loss in losses.items()}

    def _of_all_processes(self, losses: dict[str, Tensor]) -> dict[str, Tensor]:
        if self.share.count == 1:
            return losses
        summed = self.accelerator.reduce(torch.stack(list(losses.values())), reduction="sum")
        return dict(zip(losses, summed, strict=True))
