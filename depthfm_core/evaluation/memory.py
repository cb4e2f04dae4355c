"""The most memory that a piece of work held."""

import re
import sys
from contextlib import suppress
from pathlib import Path
from types import TracebackType

import torch

_RESET = Path("/proc/self/clear_refs")


class PeakMemory:
    """Measures within `with`: of the GPUs, the most that PyTorch allocated on one; else the process's peak.

    That is of the work where Linux lets it be reset, and elsewhere of all that the process did so far.

    Attributes:
        megabytes: the peak, rounded; empty where the system does not tell (Windows).
    """

    megabytes: int | str = ""

    def __enter__(self) -> "PeakMemory":
        # Whichever it is that the work is done on; before the first use of any there is nothing to reset.
        for device in range(torch.cuda.device_count() if torch.cuda.is_initialized() else 0):
            torch.cuda.reset_peak_memory_stats(device)
        with suppress(OSError):  # no such file but on Linux, and not every container allows it
            _RESET.write_text("5", encoding="ascii")  # `VmHWM` becomes what is held now; see man 5 proc
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.megabytes = _peak_megabytes()


def _peak_megabytes() -> int | str:
    allocated = [torch.cuda.max_memory_allocated(device) for device in range(torch.cuda.device_count())]
    if any(allocated):
        return round(max(allocated) / 1e6)
    peak = peak_of_process()
    return "" if peak is None else round(peak / 1e6)


def peak_of_process() -> int | None:
    """Bytes of the process's peak, mapped files that were touched included; None where the system does not tell.

    Linux's getrusage may give the peak of the process that started this one, so its own count is preferred.
    """
    status = Path("/proc/self/status")
    if status.exists():
        found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text(encoding="utf-8"))
        return 1024 * int(found[1]) if found else None
    if sys.platform == "win32":
        return None
    import resource  # not on Windows

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
