"""What a clock asks of a device."""

import torch


def wait_for(device: torch.device) -> None:
    """Returns once the device has done all that it was asked for: this one, not whichever PyTorch takes by itself."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    elif device.type == "mps":
        torch.mps.synchronize()
