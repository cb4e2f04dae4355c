"""The loop that every stage trains with: AdamW, a schedule with warm-up, clipping, EMA, and exact resuming.

All randomness of a step comes from its number and the seed (`step_random`), never from a stream that runs through the
training. So only weights, optimizer and step have to be saved, and a resumed run equals an unbroken one bit for bit.

`accelerate` is the engine, but its `save_state` is not used: it writes a folder, file by file, so that a crash can
leave half of one, with a pickle of the random states of each process, of which there must be as many again. Ours is
one file, whole or not there, and any number of processes goes on from it.
"""

import math
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from diffusers import ModelMixin
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR

from ..share import Share
from .engine import PRECISIONS, Engine
from .objective import Objective, step_random
from .state import check_finite, only_one, read_state, write_state
from .watch import Checked, Watch

# How the learning rate goes on after its warm-up: from an optimizer and the settings.
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, "LoopSettings"], LambdaLR]] = {
    "cosine": lambda optimizer, s: get_cosine_schedule_with_warmup(optimizer, s.warmup_steps, s.num_steps),
    "constant": lambda optimizer, s: get_constant_schedule_with_warmup(optimizer, s.warmup_steps),
}


@dataclass(frozen=True)
class LoopSettings:
    """How to optimize.

    Attributes:
        num_steps: optimizer steps.
        batch_size: how many samples a step draws, for all processes together.
        learning_rate: the peak, reached after `warmup_steps`; not reached if there are no more steps.
        schedule: one of `SCHEDULES`: down to zero after the last step, or on at the peak.
        weight_decay: AdamW's; with 0 it is Adam.
        max_grad_norm: longer gradients are scaled to this norm; infinite leaves all as they are.
        ema_decay: of the averaged weights, which the stage hands on; ramps up as (1 + step) / (10 + step).
        seed: of everything random.
        save_every: steps between saved states (and checks).
        mixed_precision: what the networks compute in: "no" (float32), "bf16", "fp16", which needs a GPU, or "auto":
            bf16 on CUDA GPUs and CPUs with instructions for it, else no, since it is several times slower without
            them. Weights are float32 always.
        micro_batch_size: the most samples that go through a process's network at once; their gradients are added up.
            The result is the same, with memory for so many samples. 0 = a process's whole part of the batch.
        gradient_checkpointing: whether the backward pass computes activations again instead of keeping them: the same
            gradients with a fraction of the memory, about a third slower.

    Raises:
        ValueError: for counts or rates that are not positive, what is negative, no number or infinite, a decay outside
            0..1, or an unknown schedule or precision.
    """

    num_steps: int
    batch_size: int
    learning_rate: float
    warmup_steps: int = 100
    schedule: str = "cosine"
    weight_decay: float = 0.01
    max_grad_norm: float = 1.0
    ema_decay: float = 0.999
    seed: int = 0
    save_every: int = 500
    mixed_precision: str = "auto"
    micro_batch_size: int = 0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "learning_rate", "max_grad_norm", "save_every"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        for name in ("micro_batch_size", "warmup_steps", "weight_decay", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; choose 0 or more.")
        for name in ("learning_rate", "weight_decay"):  # max_grad_norm may be infinite, which clips nothing
            if getattr(self, name) == math.inf:
                raise ValueError(f"{name} is infinite; choose a finite one.")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; choose from 0 (the last weights) to below 1.")
        for name, choices in (("schedule", SCHEDULES), ("mixed_precision", PRECISIONS)):
            if getattr(self, name) not in choices:
                raise ValueError(f"Unknown {name} {getattr(self, name)!r}; choose one of {', '.join(choices)}.")


def train(
    model: nn.Module,
    objective: Objective,
    settings: LoopSettings,
    folder: Path,
    check: Callable[[], Checked] | None = None,
    share: Share = Share(),  # noqa: B008 (frozen)
    events: Path | None = None,
) -> None:
    """Trains `model`, which afterwards holds the averaged (EMA) weights, on the device that it came on.

    Args:
        model: the network; its parameters with `requires_grad` are trained.
        objective: what to minimize; its losses are of the module that they are given, which runs `model`.
        settings: how to optimize.
        folder: keeps `state.pt`; if one with the same settings is there, training goes on from it.
        check: called before the first step and whenever a state is saved, `model` holding the averaged weights; by the
            first process only. What it returns is shown, and its picture lies in `folder`.
        share: which of the processes that train `model` together this is. All call this with the same arguments, see
            the same folder, and end with the same weights.
        events: folder for TensorBoard's files; None writes none.

    Raises:
        ValueError: a saved state that belongs to other settings, a batch that cannot be shared, what `Engine` refuses,
            another run that trains in `folder`, or a loss or gradient that is not finite, before the weights follow it.
        CheckpointError: a saved state that is damaged.
        OSError: a state that cannot be saved; the one before it stays.
    """
    check_processes(settings, share.count)
    _check_parts(objective, settings, share)
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model)
    home = next(model.parameters()).device
    run = _Run(model, settings, folder, share)
    with ExitStack() as held:
        if share.is_first:
            held.enter_context(only_one(folder))
        share.wait()  # `load` removes what is half written, which would be another run's
        run.load()
        first, many = run.step, settings.num_steps
        watch = held.enter_context(Watch(folder, events, first, many, settings.batch_size, enabled=share.is_first))
        if run.step == 0 and share.is_first:
            run.checked(check, watch)  # what training starts from, and whether the check works
        while run.step < settings.num_steps:
            values = run.advance(objective)
            watch.stepped(run.step, values)
            if run.step % settings.save_every == 0 or run.step == settings.num_steps:
                if share.is_first:
                    run.save()
                    run.checked(check, watch)
                run.saved_step = run.step  # the first process's state is everybody's
                share.wait()
    run.ema.copy_to(run.parameters)
    model.to(home)


def check_processes(settings: LoopSettings, count: int) -> None:
    """Raises ValueError unless a batch has a sample for each of `count` processes that train together."""
    if settings.batch_size < count:
        raise ValueError(
            f"batch_size is {settings.batch_size}, for {count} processes together; start at most so many, or raise "
            "batch_size."
        )


def _check_parts(objective: Objective, settings: LoopSettings, share: Share) -> None:
    if objective.counts is None and (settings.micro_batch_size or share.count > 1):
        raise ValueError(
            f"micro_batch_size is {settings.micro_batch_size}, with {share.count} process(es), in a training whose "
            "loss is of a batch as a whole; leave it 0, and train in one process."
        )


def _checkpoint_gradients(model: nn.Module) -> None:
    """Turns it on in every network of diffusers that `model` is or holds."""
    for module in model.modules():
        if isinstance(module, ModelMixin):
            module.enable_gradient_checkpointing()


class _Run:
    """A training under way: everything that changes from step to step."""

    def __init__(self, model: nn.Module, settings: LoopSettings, folder: Path, share: Share) -> None:
        self.model, self.settings, self.path = model, settings, folder / "state.pt"
        self.engine = Engine(settings.mixed_precision, share)
        self.wrapped = self.engine.place(model)
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        # Not accelerate's schedule, which goes on by as many steps as there are processes.
        self.schedule = SCHEDULES[settings.schedule](optimizer, settings)
        self.optimizer = self.engine.prepare(optimizer)
        self.ema = EMAModel(self.parameters, decay=settings.ema_decay, foreach=True)
        self.step = self.saved_step = 0

    def advance(self, objective: Objective) -> dict[str, Tensor | float]:
        """One optimizer step; its losses, over all processes, its gradient's norm and its learning rate."""
        self.model.train()
        batch = objective.draw(step_random(self.settings.seed, self.step))
        losses = self.engine.backward(self.wrapped, objective, batch, self.settings.micro_batch_size)
        norm = self.engine.accelerator.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self._check_finite(losses["loss"], norm)
        rate = self.optimizer.param_groups[0]["lr"]
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.ema.step(self.parameters)
        self.step += 1
        return losses | {"gradient_norm": norm, "learning_rate": rate}

    def _check_finite(self, loss: Tensor, norm: Tensor) -> None:
        """Raises ValueError where a step would spoil the weights; one that fp16's scaler skips would not."""
        values = {"loss": loss} if self.engine.accelerator.scaler else {"loss": loss, "gradient_norm": norm}
        check_finite(values, self.step + 1, self.path.parent, self.saved_step)

    @torch.no_grad()
    def checked(self, check: Callable[[], Checked] | None, watch: Watch) -> None:
        """Shows what `check` says of the averaged weights, then puts the trained ones back."""
        if check is None:
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.model.eval()
        watch.checked(self.step, check())
        self.ema.restore(self.parameters)

    def save(self) -> None:
        """Saves all that `load` takes up."""
        state = {
            "settings": asdict(self.settings),
            "precision": self.engine.precision,
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema_step": self.ema.optimization_step,
            "ema_parameters": self.ema.shadow_params,
            "scaler": self.engine.scaler_state(),
        }
        write_state(self.path, state)
        self.saved_step = self.step

    @torch.no_grad()
    def load(self) -> None:
        """Takes up the saved state, if there is one."""
        # On the CPU the optimizer would keep the mapped tensors as its own.
        on_gpu = self.engine.accelerator.device.type != "cpu"
        state = read_state(self.path, asdict(self.settings), mapped=on_gpu)
        if state is None:
            return
        self.engine.tell_other_precision(state["precision"])
        self.step = self.saved_step = state["step"]
        for mine, saved in zip(self.parameters, state["parameters"], strict=True):
            mine.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self._set_rates()
        self.engine.load_scaler_state(state["scaler"])
        self.ema.optimization_step = state["ema_step"]
        for mine, saved in zip(self.ema.shadow_params, state["ema_parameters"], strict=True):
            mine.copy_(saved)

    def _set_rates(self) -> None:
        """Puts the settings' rates in the place of the saved ones, since a run may go on with others."""
        factor = self.schedule.lr_lambdas[0](self.schedule.last_epoch)
        self.schedule.base_lrs = [self.settings.learning_rate] * len(self.optimizer.param_groups)
        for group in self.optimizer.param_groups:
            group["initial_lr"], group["weight_decay"] = self.settings.learning_rate, self.settings.weight_decay
            group["lr"] = self.settings.learning_rate * factor
