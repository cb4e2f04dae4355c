"""How a worker process begins, in every pool of processes."""

import os
from multiprocessing import parent_process
from multiprocessing.connection import wait
from threading import Thread

import torch

from . import quick_imports


def start_network_worker() -> None:
    """As `start_worker`, for processes that run networks."""
    start_worker()
    quick_imports.import_networks()


def start_worker() -> None:
    """The initializer of a pool's processes: one thread for PyTorch, and an end when their parent ends.

    A parent that is killed cannot stop them, and they would wait for its next job for ever.
    """
    torch.set_num_threads(1)
    Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    wait([parent_process().sentinel])
    os._exit(1)  # from a thread, so without the clean-up that would wait for the parent
