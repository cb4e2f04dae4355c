"""Errors that a user can do something about, and the one sentence that says what."""

import errno

BAD_INPUT = 2  # the exit code
# torch.OutOfMemoryError and the adaptive solver's step limit are RuntimeErrors; the project's own errors ValueErrors.
USER_ERRORS = (ValueError, OSError, RuntimeError, MemoryError)
_REQUIRED = ("torch", "diffusers", "safetensors", "numpy", "PIL", "einops", "tqdm")  # by the library itself
DISK_FULL = (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
# What takes less memory, by command; each has its own ways.
_ESTIMATE_SMALLER = "try a smaller --resolution, --members-at-once 1, --dtype bfloat16 or --device cpu"
_LESS_MEMORY = {
    "predict": _ESTIMATE_SMALLER,
    "label": _ESTIMATE_SMALLER,
    "evaluate": _ESTIMATE_SMALLER,
    "train": "set micro_batch_size = 1 and gradient_checkpointing = true in the recipe's [flow.NAME.loop], which go on "
    "from the saved state, or begin anew with lora = { rank = 8 } in [flow.NAME], a smaller view in [latents.NAME], or "
    "a smaller batch_size of the autoencoder; docs/training.md, Devices, says what a training takes",
    "precompute": "try --device cpu, or set workers = 1 or a smaller view in the recipe's [latents.NAME]",
}
_ELSEWHERE = "end other programs, or run it where there is more"


def sentence(error: BaseException, command: str = "predict") -> str:
    """The error on one line, with advice where the error itself has none.

    Args:
        error: one of those above, or an ImportError.
        command: whose options and settings the advice may name.
    """
    text = " ".join(str(error).split())
    if isinstance(error, ModuleNotFoundError):
        what = "." if str(error.name).partition(".")[0] in _REQUIRED else '".[train]"'
        install = f"`pip install -e {what}` in the project's folder"
        return f"This needs the package {error.name}, which is not installed; {install} brings it."
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}."
    if isinstance(error, OSError) and error.errno in DISK_FULL and error.strerror:  # and no file's name: a stream
        return f"The output could not be written ({error.strerror}); free some space, or send it elsewhere."
    if isinstance(error, MemoryError | RuntimeError) and _is_memory(error):
        advice = _LESS_MEMORY.get(command, _ELSEWHERE)
        return f"There is not enough memory ({text.partition('. ')[0] or 'MemoryError'}); {advice}."
    return text or type(error).__name__


def _is_memory(error: BaseException) -> bool:
    """Whether memory ran out; PyTorch's own class for it is of GPUs only."""
    told = ("out of memory", "allocate memory", "not enough memory")  # of GPUs, of Linux and of Windows
    return isinstance(error, MemoryError) or any(text in str(error) for text in told)
