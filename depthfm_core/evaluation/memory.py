"""The most memory that a piece of work held."""

import sys
from types import TracebackType

import torch


class PeakMemory:
    """Measures within `with`: of a GPU, what PyTorch allocated; else the process's peak so far, which never falls.

    Attributes:
        megabytes: the peak, rounded; empty where the system does not tell (Windows).
    """

    megabytes: int | str = ""

    def __enter__(self) -> "PeakMemory":
        if torch.cuda.is_available():
            torch.cuda.reset_peak_memory_stats()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.megabytes = _peak_megabytes()


def _peak_megabytes() -> int | str:
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated():
        torch.cuda.synchronize()
        return round(torch.cuda.max_memory_allocated() / 1e6)
    if sys.platform == "win32":
        return ""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
