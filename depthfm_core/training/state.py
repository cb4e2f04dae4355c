"""The saved state of a training: one file that is always whole, and that belongs to its settings."""

import os
from pathlib import Path
from typing import Any

import torch


def write_state(path: Path, state: dict[str, Any]) -> None:
    """Writes the state to a new file, then puts it in the place of the old one, so a crash leaves one whole.

    Args:
        path: the file; its folder is made if missing.
        state: tensors and plain values, with the run's settings under "settings".
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)


def read_state(path: Path, settings: dict[str, Any]) -> dict[str, Any] | None:
    """The state in a file, on the CPU, or None where there is no file.

    Raises:
        ValueError: a state that belongs to other settings.
    """
    if not path.exists():
        return None
    state = torch.load(path, map_location="cpu", weights_only=True)
    if state["settings"] != settings:
        raise ValueError(
            f"{path} was saved with {state['settings']}; this run has {settings}. "
            "Use the old settings, or another output folder."
        )
    return state
