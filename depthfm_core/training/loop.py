"""The loop that every stage trains with: AdamW, a schedule with warm-up, clipping, EMA, and exact resuming.

All randomness of a step comes from its number and the seed (`step_random`), never from a stream that runs through the
training. So only weights, optimizer and step have to be saved, and a resumed run equals an unbroken one bit for bit.
"""

import logging
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from diffusers import ModelMixin
from diffusers.optimization import get_constant_schedule_with_warmup, get_cosine_schedule_with_warmup
from diffusers.training_utils import EMAModel
from torch import Tensor, nn
from torch.optim.lr_scheduler import LambdaLR
from tqdm import tqdm

from .state import read_state, write_state

_LOGGER = logging.getLogger(__name__)
_LOG_EVERY = 50

# How the learning rate goes on after its warm-up: from an optimizer and the settings.
SCHEDULES: dict[str, Callable[[torch.optim.Optimizer, "LoopSettings"], LambdaLR]] = {
    "cosine": lambda optimizer, s: get_cosine_schedule_with_warmup(optimizer, s.warmup_steps, s.num_steps),
    "constant": lambda optimizer, s: get_constant_schedule_with_warmup(optimizer, s.warmup_steps),
}

StepLoss = Callable[["StepRandom"], dict[str, Tensor]]


class StepRandom(NamedTuple):
    """The number of a step, from 0, and the two generators that all of its randomness comes from."""

    step: int
    rng: np.random.Generator
    generator: torch.Generator


@dataclass(frozen=True)
class LoopSettings:
    """How to optimize.

    Attributes:
        num_steps: optimizer steps.
        batch_size: how many samples a step draws.
        learning_rate: the peak, reached after `warmup_steps`.
        schedule: one of `SCHEDULES`: down to zero after the last step, or on at the peak.
        weight_decay: AdamW's; with 0 it is Adam.
        max_grad_norm: longer gradients are scaled to this norm.
        ema_decay: of the averaged weights, which the stage hands on; ramps up as (1 + step) / (10 + step).
        seed: of everything random.
        save_every: steps between saved states (and checks).
        bfloat16: whether the networks compute in bfloat16 (autocast).
        gradient_checkpointing: whether the backward pass computes activations again instead of keeping them: the same
            gradients with a fraction of the memory, about a third slower.

    Raises:
        ValueError: for counts or rates that are not positive, or an unknown schedule.
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
    bfloat16: bool = True
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        for name in ("num_steps", "batch_size", "learning_rate", "max_grad_norm", "save_every"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        if self.schedule not in SCHEDULES:
            raise ValueError(f"Unknown schedule {self.schedule!r}; choose one of {', '.join(SCHEDULES)}.")


def step_random(seed: int, step: int) -> StepRandom:
    """The generators of one step."""
    rng = np.random.default_rng([seed, step])
    return StepRandom(step, rng, torch.Generator().manual_seed(int(rng.integers(2**62))))


def train(
    model: nn.Module,
    step_loss: StepLoss,
    settings: LoopSettings,
    folder: Path,
    check: Callable[[int], None] | None = None,
) -> None:
    """Trains `model`, which afterwards holds the averaged (EMA) weights.

    Args:
        model: the network; its parameters with `requires_grad` are trained.
        step_loss: draws a batch from a step's generators; returns named scalars, of which `loss` is minimized.
        settings: how to optimize.
        folder: keeps `state.pt`; if one with the same settings is there, training goes on from it.
        check: called with the number of steps done whenever a state is saved, `model` holding the averaged weights.

    Raises:
        ValueError: a saved state that belongs to other settings.
    """
    if settings.gradient_checkpointing:
        _checkpoint_gradients(model)
    run = _Run(model, settings, folder)
    run.load()
    bar = tqdm(range(run.step, settings.num_steps), initial=run.step, total=settings.num_steps, desc=folder.name)
    for step in bar:
        losses = run.advance(step_loss)
        if step % _LOG_EVERY == 0:
            text = ", ".join(f"{name} {float(value):.4f}" for name, value in losses.items())
            _LOGGER.info("%s step %d: %s", folder.name, step, text)
            bar.set_postfix_str(text)
        if run.step % settings.save_every == 0 or run.step == settings.num_steps:
            run.save()
            run.checked(check)
    run.ema.copy_to(run.parameters)


def _checkpoint_gradients(model: nn.Module) -> None:
    """Turns it on in every network of diffusers that `model` is or holds."""
    for module in model.modules():
        if isinstance(module, ModelMixin):
            module.enable_gradient_checkpointing()


class _Run:
    """A training under way: everything that changes from step to step."""

    def __init__(self, model: nn.Module, settings: LoopSettings, folder: Path) -> None:
        self.model, self.settings, self.path = model, settings, folder / "state.pt"
        self.parameters = [p for p in model.parameters() if p.requires_grad]
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay, fused=True
        )
        self.schedule = SCHEDULES[settings.schedule](self.optimizer, settings)
        self.ema = EMAModel(self.parameters, decay=settings.ema_decay)
        self.step = 0

    def advance(self, step_loss: StepLoss) -> dict[str, Tensor]:
        """One optimizer step; its losses."""
        self.model.train()
        device = self.parameters[0].device.type
        with torch.autocast(device, torch.bfloat16, enabled=self.settings.bfloat16):
            losses = step_loss(step_random(self.settings.seed, self.step))
        losses["loss"].backward()
        nn.utils.clip_grad_norm_(self.parameters, self.settings.max_grad_norm)
        self.optimizer.step()
        self.schedule.step()
        self.optimizer.zero_grad()
        self.ema.step(self.parameters)
        self.step += 1
        return {name: value.detach() for name, value in losses.items()}

    @torch.no_grad()
    def checked(self, check: Callable[[int], None] | None) -> None:
        """Calls `check` with the averaged weights in place, then puts the trained ones back."""
        if check is None:
            return
        self.ema.store(self.parameters)
        self.ema.copy_to(self.parameters)
        self.model.eval()
        check(self.step)
        self.ema.restore(self.parameters)

    def save(self) -> None:
        """Saves all that `load` takes up."""
        state = {
            "settings": asdict(self.settings),
            "step": self.step,
            "parameters": [p.detach() for p in self.parameters],
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict(),
            "ema_step": self.ema.optimization_step,
            "ema_parameters": self.ema.shadow_params,
        }
        write_state(self.path, state)

    @torch.no_grad()
    def load(self) -> None:
        """Takes up the saved state, if there is one."""
        state = read_state(self.path, asdict(self.settings))
        if state is None:
            return
        self.step = state["step"]
        for mine, saved in zip(self.parameters, state["parameters"], strict=True):
            mine.copy_(saved)
        self.optimizer.load_state_dict(state["optimizer"])
        self.schedule.load_state_dict(state["schedule"])
        self.ema.optimization_step = state["ema_step"]
        for mine, saved in zip(self.ema.shadow_params, state["ema_parameters"], strict=True):
            mine.copy_(saved)
