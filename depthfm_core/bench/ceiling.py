"""What the machine can do: the rate of a large matrix product and of a 3x3 convolution like the autoencoder's."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F

from .gpu import wait_for

_CHANNELS = 256
_MATRIX_SIDES_PER_PICTURE_SIDE = 16  # 4096 beside 256 pixels: both then take about as long
_REPETITIONS = 3
_LAUNCHES = {"cpu": 1, "cuda": 50, "mps": 10}  # timed together, so that waiting for the device does not count
PRECISIONS = {
    "cpu": ("float32", "bfloat16"),
    "cuda": ("float32", "bfloat16", "float16"),
    "mps": ("float32", "float16"),
}


@torch.inference_mode()
def measure_ceilings(device: str, side: int) -> dict[str, dict[str, float]]:
    """TFLOP/s, best of three, in each precision that suits the device: "matmul", "conv", "conv_channels_last".

    Args:
        device: a torch device.
        side: of the square matrices; the convolution's picture has a sixteenth of it, with 256 channels.
    """
    return {name: _rates(torch.device(device), getattr(torch, name), side) for name in PRECISIONS[_kind(device)]}


def highest(rates: dict[str, float]) -> float:
    """The machine's ceiling in one precision, whatever reaches it."""
    return max(rates.values())


def _kind(device: str) -> str:
    return torch.device(device).type


def _rates(device: torch.device, dtype: torch.dtype, side: int) -> dict[str, float]:
    matrices = torch.randn(2, side, side, device=device).to(dtype)
    pixels = max(1, side // _MATRIX_SIDES_PER_PICTURE_SIDE)
    picture = torch.randn(1, _CHANNELS, pixels, pixels, device=device).to(dtype)
    kernel = torch.randn(_CHANNELS, _CHANNELS, 3, 3, device=device).to(dtype)
    last = [x.to(memory_format=torch.channels_last) for x in (picture, kernel)]
    convolution = 2 * 9 * (_CHANNELS * pixels) ** 2
    return {
        "matmul": _rate(lambda: F.linear(matrices[0], matrices[1]), 2 * side**3, device),
        "conv": _rate(lambda: F.conv2d(picture, kernel, padding=1), convolution, device),
        "conv_channels_last": _rate(lambda: F.conv2d(*last, padding=1), convolution, device),
    }


def _rate(work: Callable[[], object], flops: int, device: torch.device) -> float:
    work()
    return flops / min(_seconds(work, device) for _ in range(_REPETITIONS)) / 1e12


def _seconds(work: Callable[[], object], device: torch.device) -> float:
    launches = _LAUNCHES[device.type]
    wait_for(device)
    start = time.perf_counter()
    for _ in range(launches):
        work()
    wait_for(device)
    return (time.perf_counter() - start) / launches
