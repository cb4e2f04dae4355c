"""The most memory that a piece of work held."""

import sys
from types import TracebackType

import torch


class PeakMemory:
    """Measures within `with`: of the GPUs, the most that PyTorch allocated on one; else the process's peak so far.

    That of the process never falls.

    Attributes:
        megabytes: the peak, rounded; empty where the system does not tell (Windows).
    """

    megabytes: int | str = ""

    def __enter__(self) -> "PeakMemory":
        # Whichever it is that the work is done on; before the first use of any there is nothing to reset.
        for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
            torch.cuda.reset_peak_memory_stats(device)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.megabytes = _peak_megabytes()


def _peak_megabytes() -> int | str:
    allocated = [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]
    if any(allocated):
        return round(max(allocated) / 1e6)
    if sys.platform == "win32":
        return ""
    import resource  # not on Windows

    unit = 1 if sys.platform == "darwin" else 1024  # bytes on macOS, kilobytes elsewhere
    return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6)
