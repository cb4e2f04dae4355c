"""Which back end a model runs on."""

import importlib.util
from collections.abc import Sequence

import torch

from ..model.precision import LARGE_NETWORK

BACKENDS = ("auto", "torch", "openvino")
INSTALL = 'pip install -e ".[openvino]"'


def choose_backend(
    name: str, device: torch.device, attention: str, num_parameters: int, torch_only: Sequence[str] = ()
) -> str:
    """What was asked for, once it is known to work, or what is faster: "torch" or "openvino".

    "auto" takes OpenVINO where it is installed and pays: on AMD's processors, where PyTorch's matrix products take
    about twice as long as OpenVINO's, for networks so large that this makes up for compiling them at every start. On
    an Intel processor with AMX the two are about equal; docs/openvino.md has the numbers.

    Args:
        name: one of `BACKENDS`.
        device: where the networks are to be.
        attention: one of `model.attention.ATTENTIONS`.
        num_parameters: of the velocity network.
        torch_only: what else is asked for that only PyTorch has.

    Raises:
        ValueError: for another name, or OpenVINO where it is not installed, on another device than a CPU, or with
            something that only PyTorch has.
    """
    if name not in BACKENDS:
        raise ValueError(f"Unknown backend {name!r}; choose one of {', '.join(BACKENDS)}.")
    obstacle = _obstacle(device, attention, torch_only)
    if name == "openvino" and obstacle:
        raise ValueError(obstacle)
    if name != "auto":
        return name
    pays = num_parameters >= LARGE_NETWORK and not obstacle and _cpu_is_amd()
    return "openvino" if pays else "torch"


def _obstacle(device: torch.device, attention: str, torch_only: Sequence[str]) -> str | None:
    """What keeps OpenVINO from being used, in one sentence; None if nothing."""
    if device.type != "cpu":
        return f"The openvino backend computes on the CPU, not on {device}; take --device cpu, or --backend torch."
    if attention != "plain":
        return f"The openvino backend has plain attention only, not {attention!r}; take --backend torch."
    if torch_only:
        return f"The openvino backend has no {' and no '.join(torch_only)}; take --backend torch, or leave it out."
    if importlib.util.find_spec("openvino") is None:
        return f"The openvino backend needs the package openvino; {INSTALL}, or take --backend torch."
    return None


def _cpu_is_amd() -> bool:
    try:
        import openvino
    except ImportError:  # it is there, and one of its libraries is not
        return False

    return "AMD" in openvino.Core().get_property("CPU", "FULL_DEVICE_NAME")
