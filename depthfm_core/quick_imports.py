"""Imports that are quick and small, for processes of our own."""

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

# Packages that diffusers imports where they are installed, and of which estimating uses nothing. They were a third of
# a cold `predict` and 0.12 GB.
OF_DIFFUSERS_ALONE = ("accelerate", "peft", "scipy", "torchvision", "transformers")


@contextmanager
def quick_imports(left_out: Iterable[str] = ()) -> Iterator[None]:
    """For the block, garbage is not collected, and some packages count as not installed unless they were imported.

    What is there at the end is never looked at by the collector again, neither while the process works nor when it
    ends: a million objects of PyTorch and diffusers, which took a cold `predict` a quarter of its time.

    Args:
        left_out: names of packages; after the block they can be imported.
    """
    hidden = [name for name in left_out if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # None is Python's own mark of a module that must not be imported
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
        gc.freeze()
        if collecting:
            gc.enable()
