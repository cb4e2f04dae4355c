"""Memory that goes back to the system: what was read of a mapped file, and what was freed.

A mapped tensor takes memory only for the pages that were touched, and a conversion touches all of them: without
letting go of what was read, a float32 file turned into bfloat16 would take three times the model.
"""

import ctypes
import mmap
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from torch import Tensor

_DONTNEED = getattr(mmap, "MADV_DONTNEED", None)


def convert_tensors(
    tensors: Mapping[str, Tensor], source: str | Path, convert: Callable[[str, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Each tensor converted, one after another; of what is read from `source`, only one is in memory at a time.

    Args:
        tensors: from `reading.read_tensor_file`, mapped or not.
        source: the file or the folder of files that they came from.
        convert: of a name and its tensor; gives another tensor, or the same one, which then stays mapped.
    """
    pages = MappedPages(Path(source))
    converted = {}
    for name, tensor in tensors.items():
        converted[name] = convert(name, tensor)
        if converted[name].data_ptr() != tensor.data_ptr():
            pages.release(tensor)
    return converted


def return_freed_memory() -> None:
    """Hands back what was freed and lies in pieces between what is in use; without glibc nothing happens.

    The next network's tensors are of other sizes and would not fit into the pieces.
    """
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim:
            trim(0)


class MappedPages:
    """The pages of a file, or of the files in a folder, that are mapped into this process.

    Only pages that the system itself lists as this file's are ever let go of, and only on Linux, which lists them:
    reading such a page again brings its content back, while other memory would come back as zeros.

    Args:
        source: the file or folder.
    """

    def __init__(self, source: Path) -> None:
        self._areas = list(_mapped_areas(source.resolve())) if sys.platform == "linux" else []
        self._advise = ctypes.CDLL(None).madvise if self._areas else None

    def release(self, tensor: Tensor) -> None:
        """Lets go of the memory behind a tensor's whole pages; its values are read from the file again when needed."""
        first = -(-tensor.data_ptr() // mmap.PAGESIZE) * mmap.PAGESIZE
        last = (tensor.data_ptr() + tensor.nbytes) // mmap.PAGESIZE * mmap.PAGESIZE
        if first < last and any(start <= first and last <= end for start, end in self._areas):
            self._advise(ctypes.c_void_p(first), ctypes.c_size_t(last - first), _DONTNEED)


def _mapped_areas(source: Path) -> list[tuple[int, int]]:
    """First and last address of each mapping of the file, or of a file below the folder."""
    areas, name = [], str(source)
    maps = Path("/proc/self/maps").read_text(encoding="utf-8", errors="surrogateescape")  # paths may be any bytes
    for line in maps.split("\n"):
        if not line:
            continue
        addresses, *_, path = line.split(maxsplit=5)
        if path == name or path.startswith(f"{name}/"):
            start, end = addresses.split("-")
            areas.append((int(start, 16), int(end, 16)))
    return areas
