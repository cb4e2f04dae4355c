"""The saved state of a training: one file that is always whole, and that belongs to its settings."""

import logging
import pickle
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from filelock import FileLock, Timeout
from torch import Tensor

from ..model.reading import CheckpointError
from ..replacing import remove_leftovers, replacing
from .places import state_of

_LOGGER = logging.getLogger(__name__)
# What a run may change when it goes on: how it steps and in what memory, but neither from what nor how far; but for
# `grows`, since then the steps that are done would be the same.
CHANGEABLE = (
    "learning_rate",
    "weight_decay",
    "max_grad_norm",
    "ema_decay",
    "save_every",
    "mixed_precision",
    "micro_batch_size",
    "gradient_checkpointing",
)
_REMEDY = "Put a whole copy in its place, or delete it to begin this stage anew."
# What torch.load raises for a file that is cut short, overwritten or of another kind.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, ValueError, LookupError, EOFError, AttributeError, TypeError)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Keeps other runs out of a training's folder; whatever ends the process ends that too.

    The run itself may enter it again: the stage holds it for all that it writes, and its loop for whoever calls it
    alone. On a disk that knows no locks it says so and keeps nobody out.

    Args:
        folder: of the training; made if missing. The lock lies beside it, `.NAME.lock`, and stays there.

    Raises:
        ValueError: when another run trains there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder.with_name(f".{folder.name}.lock"), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout as error:
        raise ValueError(
            f"Another run trains in {folder}; wait for its end or stop it, or choose another output folder."
        ) from error
    except (OSError, NotImplementedError) as error:
        _LOGGER.info("%s cannot be locked (%s); start no second run in it", folder, error)
    try:
        yield
    finally:
        lock.release()


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Writes the state to a new file on the disk, then puts it in the place of the old one, so one is always whole.

    Args:
        path: the file; its folder is made if missing.
        state: tensors and plain values, with the run's settings under "settings" and the steps done under "step".

    Raises:
        OSError: when the disk refuses; the old state stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        with replacing(path, durable=True) as temporary, temporary.open("wb") as file:
            torch.save(state, file)
    except (OSError, RuntimeError) as error:  # torch covers the disk's error with one of its own
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise OSError(
            f"The state of step {state['step']} cannot be saved as {path} ({reason}). {_what_is_there(path)} "
            f"{_how_to_save(reason)}, then run the same command again."
        ) from error


def _how_to_save(reason: Exception) -> str:
    held = isinstance(reason, PermissionError)
    return "Let this user write there, and no other program hold the file" if held else "Free some space"


def _what_is_there(path: Path) -> str:
    return "The state that was saved before it is still whole." if path.exists() else "No state was saved before it."


def read_state(path: Path, settings: dict[str, Any], *, mapped: bool = False) -> dict[str, Any] | None:
    """The state in a file, on the CPU, or None where there is no file.

    Of the settings those in `CHANGEABLE` may differ, and `num_steps` where it `grows`, which is logged. What a killed
    run left half written is removed.

    Args:
        path: the file.
        settings: of this run.
        mapped: whether tensors are read from the file as they are used. For a caller that copies or leaves them: the
            file cannot be replaced on every system as long as they are there.

    Raises:
        CheckpointError: a file that is damaged or no state.
        ValueError: a state that belongs to other settings.
    """
    remove_leftovers(path)
    if not path.exists():
        return None
    state = _load(path, mapped)
    for name in _changed(path, state, settings):
        old, new = state["settings"][name], settings[name]
        _LOGGER.info("%s goes on after step %d with %s %s, not %s", path, state["step"], name, new, old)
    return state


def is_made(result: Path, settings: dict[str, Any]) -> bool:
    """Whether a training is done and its result written, which then stays as it is: others were made from its bits.

    One that `grows` is not done.

    Args:
        result: what the training's stage writes after the last step, beside `state.pt`.
        settings: of the loop in this run.

    Raises:
        as `read_state`.
    """
    path = state_of(result)
    if not (result.exists() and path.exists()):
        return False
    state = _load(path, mapped=True)
    _changed(path, state, settings)
    return state["step"] == settings["num_steps"]


def tell_made(stage: str, result: Path, settings: dict[str, Any]) -> None:
    """Logs that a training is done and stays, and which settings of this run it was not trained with.

    Args:
        stage: its name.
        result, settings: as of `is_made`.
    """
    saved = saved_settings(state_of(result))
    changed = ", ".join(_said(name, saved, settings) for name in sorted(settings) if saved.get(name) != settings[name])
    _LOGGER.info("%s is done and stays as it is%s", stage, f"; it was trained with {changed}" if changed else "")


def averaged_weights(path: Path, settings: dict[str, Any]) -> tuple[int, list[Tensor]]:
    """The steps done and the averaged weights, in the order of the trained parameters; mapped from the file.

    Changes nothing, not even what a run that is under way has half written.

    Args:
        path: the file of a state.
        settings: of this run.

    Raises:
        as `read_state`.
    """
    state = _load(path, mapped=True)
    _changed(path, state, settings)
    return state["step"], state["ema_parameters"]


def grows(saved: Mapping[str, Any], settings: Mapping[str, Any]) -> bool:
    """Whether a run only has more steps at a constant rate, so that those of the saved settings are its first ones."""
    constant = saved.get("schedule") == settings.get("schedule") == "constant"
    return constant and settings["num_steps"] > saved["num_steps"]


def saved_settings(path: Path) -> dict[str, Any]:
    """The settings that a state was saved with; nothing where there is no file. Errors: `read_state`."""
    return _load(path, mapped=True)["settings"] if path.exists() else {}


def settings_as_trained(path: Path) -> dict[str, Any]:
    """`saved_settings`, whose mixed_precision is what the networks computed in: no, bf16 or fp16, not "auto"."""
    if not path.exists():
        return {}
    state = _load(path, mapped=True)
    return state["settings"] | {"mixed_precision": state["precision"]}


def _changed(path: Path, state: dict[str, Any], settings: dict[str, Any]) -> list[str]:
    """The settings that differ from the state's; raises ValueError for one that may not."""
    saved = state["settings"]
    changed = {name for name in settings if settings[name] != saved.get(name)}
    free = {*CHANGEABLE, *(["num_steps"] if grows(saved, settings) else [])}
    refused = sorted((changed - free) | (settings.keys() ^ saved.keys()))
    if refused:
        raise ValueError(
            f"{path} was saved with {', '.join(_said(name, saved, settings) for name in refused)}. Use the old "
            f"settings, or delete {path.parent} and what was made from it to begin it anew, or choose another output "
            f"folder; only {', '.join(CHANGEABLE)} may change, and num_steps may grow at a constant rate."
        )
    return sorted(changed)


def _said(name: str, saved: Mapping[str, Any], now: Mapping[str, Any]) -> str:
    """A setting that has changed: "num_steps 6 (now 12)"."""
    return f"{name} {saved.get(name, 'unset')} (now {now.get(name, 'unset')})"


def _load(path: Path, mapped: bool) -> dict[str, Any]:
    try:
        state = torch.load(str(path), map_location="cpu", weights_only=True, mmap=mapped)
    except _UNREADABLE as error:
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise CheckpointError(path, f"is damaged, or no state of a training ({reason[:200]}).", _REMEDY) from error
    is_state = isinstance(state, dict) and {"settings", "precision", "step"} <= state.keys()
    if not is_state or not isinstance(state["settings"], dict):
        raise CheckpointError(path, "is no state of a training.", _REMEDY)
    return state


def check_finite(values: Mapping[str, Tensor], step: int, folder: Path, saved_step: int) -> None:
    """Raises ValueError unless all values are finite; to be called before the optimizer moves the weights.

    It waits for the device, so once an optimizer step, and for all values together.

    Args:
        values: scalars of one device by their names, for example the loss and the norm of its gradient.
        step: the number of the step, from 1.
        folder: of the training, for the message.
        saved_step: the steps done in the saved state; 0 = there is none.
    """
    if sum(values.values()).isfinite():
        return
    found = ", ".join(f"{name.replace('_', ' ')} {float(value):.4g}" for name, value in values.items())
    kept = f"The state of step {saved_step} is kept in {folder}" if saved_step else "No state was saved yet"
    raise ValueError(
        f"Training {folder.name} stopped in step {step}: {found}. {kept}. Look for broken pictures or depth in the "
        "data, and delete the shards of latents that hold them, which do not change with it; or set a smaller "
        'learning_rate or max_grad_norm, or mixed_precision = "no". The same command then goes on from there.'
    )
