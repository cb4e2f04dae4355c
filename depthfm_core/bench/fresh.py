"""What a fresh process does. This file imports nothing heavy, since the process is to import as `predict` does."""

import pickle
from multiprocessing.connection import Connection

from ..quick_imports import estimating_imports

# torch.OutOfMemoryError and most of what back ends raise are RuntimeErrors.
FAILURES = (ValueError, OSError, RuntimeError, MemoryError, ImportError)


def answer(connection: Connection, task: bytes, threads: int, compiled: bool = False) -> None:
    """Sends (True, the result) or (False, what went wrong), since not every exception can be sent itself.

    Args:
        connection: where to.
        task: a pickled function and its arguments; their modules are imported only now.
        threads: of PyTorch; 0 leaves its own choice.
        compiled: whether PyTorch will compile the networks.
    """
    with estimating_imports(compiled=compiled):
        work, arguments = pickle.loads(task)  # from the process that started this one
        import torch
    if threads:
        torch.set_num_threads(threads)
    try:
        connection.send((True, work(*arguments)))
    except FAILURES as error:
        connection.send((False, told(error)))


def told(error: BaseException) -> str:
    """The kind of an error and what it says, in one line."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
