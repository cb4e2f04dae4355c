"""Keeps freed memory in the process, so that the next layer does not get it from the system again.

glibc hands every large block back when it is freed. On a virtual machine memory that is touched for the first time is
slow, and a network touches gigabytes anew with every call.
"""

import ctypes
import os
import sys

# glibc's malloc.h, https://man7.org/linux/man-pages/man3/mallopt.3.html
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4
_NEVER = -1


def keep_freed_memory() -> bool:
    """Asks the C library to keep what is freed, for the rest of the process; whether it was asked.

    Only glibc on Linux is, and not where the environment says how it shall allocate (MALLOC_ARENA_MAX and the like).
    """
    configured = any(name.startswith("MALLOC_") for name in os.environ) or "GLIBC_TUNABLES" in os.environ
    if sys.platform != "linux" or configured:
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):
        return False
    return bool(library.mallopt(_M_MMAP_MAX, 0) and library.mallopt(_M_TRIM_THRESHOLD, _NEVER))
