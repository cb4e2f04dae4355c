"""Imports that are quick and small, for processes of our own."""

import gc
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from importlib import import_module
from types import ModuleType

# Packages that diffusers imports where they are installed, and of which our networks use nothing. They were a third of
# a cold `predict`, and half of the start of `train`.
OF_DIFFUSERS_ALONE = ("accelerate", "peft", "scipy", "torchvision", "transformers")
_TRACER = "torch._dynamo"
_NETWORKS = ".model.lean"


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


def import_networks(*, compiled: bool = False) -> None:
    """Imports what builds networks the quick way; where some release does not bear that, the plain one.

    diffusers takes the packages that were left out for missing from then on: nothing in the process may use its
    pipelines or, as LoRA does, its adapters.

    Args:
        compiled: whether the networks will be compiled by PyTorch.
    """
    # diffusers makes RuntimeErrors of errors in its imports
    with estimating_imports(compiled=compiled), suppress(ImportError, AttributeError, RuntimeError):
        import_module(_NETWORKS, __package__)
    import_module(_NETWORKS, __package__)  # which is there already, or tells why it cannot be


@contextmanager
def estimating_imports(*, compiled: bool) -> Iterator[None]:
    """For the block, what builds networks is imported the quick way; `compiled`: whether PyTorch will compile them."""
    with quick_imports(OF_DIFFUSERS_ALONE), nullcontext() if compiled else without_tracer():
        yield


@contextmanager
def without_tracer() -> Iterator[None]:
    """For the block, the tracer of torch.compile is not imported for a mark on a function; for what compiles nothing.

    diffusers has such marks in many modules, and for them a cold `predict` imported the whole tracer: a sixth of its
    CPU time, and 0.12 GB. Functions that are imported in the block stay unmarked.
    """
    marks = _Marks(_TRACER)
    if sys.modules.setdefault(_TRACER, marks) is not marks:
        yield
        return
    try:
        yield
    finally:
        marks.give_way()


class _Marks(ModuleType):
    """Stands in for the tracer: its two marks, which do nothing here; asked for anything else, it gives way."""

    @staticmethod
    def allow_in_graph(function: object) -> object:
        """Also of classes, which diffusers marks."""
        return function

    @staticmethod
    def disable(function: object = None, *_args: object, **_options: object) -> object:
        """With and without brackets after the mark."""
        return _Marks.allow_in_graph if function is None else function

    def give_way(self) -> None:
        """The next import is the tracer's own."""
        if sys.modules.get(_TRACER) is self:
            del sys.modules[_TRACER]

    def __getattr__(self, name: str) -> object:
        if name.startswith("__"):  # a module inside of it is asked for by __path__, and cannot be imported
            raise AttributeError(name)
        self.give_way()
        return getattr(import_module(_TRACER), name)
