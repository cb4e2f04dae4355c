"""How many members of an ensemble the networks take at a time, so that memory does not grow with the ensemble."""

import torch

from .model.pages import return_freed_memory

SHARE_OF_FREE_MEMORY = 0.6
# A decoder takes as much memory as hundreds of values a pixel, so it works on no more pixels than one picture of usual
# size has; more at a time are no faster, and with one at a time the memory does not grow with the ensemble.
_DECODED_AT_ONCE_PIXELS = 512 * 512
# The network's peak in values a cell of the latent and a channel of its first level: 0.17 GB a member of the published
# one at 512 x 512 in bfloat16, and twice that in float32.
_NETWORK_VALUES = 64
# On a host the network takes so many members of that one, which is no more memory than its decoder takes.
_HOST_MEMBERS = {torch.float32: 4, torch.bfloat16: 2}


def members_that_fit(cells: int, channels: int, dtype: torch.dtype, device: torch.device) -> int:
    """How many latents the network gets at a time; at least 1.

    Args:
        cells: of each latent.
        channels: of the network's first level.
        dtype, device: of the network.
    """
    budget = _HOST_MEMBERS.get(dtype, 2) * _NETWORK_VALUES * 64 * 64 * 320
    if device.type == "cuda":
        budget = free_gpu_bytes(device) * SHARE_OF_FREE_MEMORY / dtype.itemsize
    return max(1, int(budget / (_NETWORK_VALUES * cells * channels)))


def decodes_that_fit(num_pixels: int) -> int:
    """How many pictures of so many pixels the decoder gets at a time; at least 1."""
    return max(1, _DECODED_AT_ONCE_PIXELS // num_pixels)


def largest_divisor(number: int, most: int) -> int:
    """The largest divisor of a number that is not above `most`, at least 1: the size of equal chunks."""
    return next(size for size in range(min(number, most), 0, -1) if number % size == 0)


def free_gpu_bytes(device: torch.device) -> int:
    """What PyTorch can still have of a GPU's memory: what is free there, and what PyTorch holds without using it."""
    unused = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
    return torch.cuda.mem_get_info(device)[0] + unused


def end_of_stage(num_pixels: int) -> None:
    """Lets what comes next have the memory of what is done, unless it was too little to be worth the time."""
    if num_pixels >= _DECODED_AT_ONCE_PIXELS:
        return_freed_memory()
