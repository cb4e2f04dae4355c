"""Tensors to a safetensors file; `reading` is the way back."""

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from ..replacing import remove_leftovers, replacing


def save_tensors(tensors: dict[str, Tensor], path: Path, metadata: dict[str, str] | None = None) -> None:
    """Writes a safetensors file that is there whole or not at all, also after a kill or a power failure.

    Raises:
        OSError: when the disk refuses; what was there before stays.
    """
    remove_leftovers(path)
    try:
        with replacing(path, durable=True) as temporary:
            temporary.touch()
            usual_mode = temporary.stat().st_mode
            save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, temporary, metadata=metadata)
            temporary.chmod(usual_mode)  # safetensors makes files that nobody else may read
    except (OSError, SafetensorError) as error:
        reason = getattr(error, "strerror", None) or error  # without the temporary file's name
        raise OSError(f"{path} cannot be written ({reason}); free some space or choose another place.") from error
