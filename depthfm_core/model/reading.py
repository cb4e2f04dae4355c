"""Tensors from a file that may be anything: safetensors or a torch archive, whatever its suffix says.

A file never gets to run code. safetensors cannot; torch files go through PyTorch's restricted unpickler, which builds
tensors and the few harmless classes in `_allowed_globals` and refuses everything else. Weights stay mapped from disk
where the format permits it.
"""

import argparse
import codecs
import pickle
import struct
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

NEEDED_TORCH = (2, 6)  # for torch files: the first that takes functions under the names of two NumPys as safe
_MOST_ENTRIES = 100_000  # a model has hundreds of tensors
_BROKEN = (
    RuntimeError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    EOFError,
    OSError,
    AssertionError,
    struct.error,
)


class CheckpointError(ValueError):
    """A model file that cannot be used: which one, what is wrong with it, and what to do."""

    def __init__(self, path: str | Path, problem: str, remedy: str) -> None:
        super().__init__(f"{path}: {problem} {remedy}")


def read_tensor_file(path: Path) -> tuple[dict, dict[str, str]]:
    """The content of a safetensors or torch file, on the CPU, and the text metadata of a safetensors file.

    The first bytes decide what the file is. safetensors give a flat dictionary of tensors; a torch file gives the
    dictionary that was pickled, nested as it was.

    Raises:
        CheckpointError: for a missing, empty, truncated or foreign file, and for a pickle that asks for a class or
            function outside the allow-list; for a torch file also where PyTorch is older than `NEEDED_TORCH`.
    """
    header = _header(path)
    if header[:4] == b"PK\x03\x04":
        return _read_torch(path, mmap=True), {}
    if _starts_as_safetensors(header, path):
        return _read_safetensors(path)
    if header[:1] == b"\x80":
        return _read_torch(path, mmap=False), {}
    raise CheckpointError(
        path, "is neither a safetensors nor a torch file.", "Download it again, or choose another file."
    )


def weight_files(folder: Path) -> list[Path]:
    """The weights in a diffusers folder, safetensors first, and the whole ones before their variants.

    `NAME.safetensors` comes before `NAME.fp16.safetensors` and `NAME.non_ema.safetensors`.
    """

    def order(file: Path) -> tuple[int, str]:
        return len(file.name), file.name

    return sorted(folder.glob("*.safetensors"), key=order) + sorted(folder.glob("*.bin"), key=order)


def mismatch(expected: Mapping[str, torch.Size], given: Mapping[str, torch.Size]) -> str | None:
    """What distinguishes two sets of named shapes, in one sentence; None when they agree."""
    parts = [
        _name_some("missing", sorted(expected.keys() - given.keys())),
        _name_some("unexpected", sorted(given.keys() - expected.keys())),
        _name_some(
            "of another shape",
            [
                f"{k} {list(given[k])} instead of {list(expected[k])}"
                for k in sorted(expected.keys() & given.keys())
                if expected[k] != given[k]
            ],
        ),
    ]
    found = [part for part in parts if part]
    return "; ".join(found) + "." if found else None


def not_plain(tensors: Mapping[str, Tensor]) -> str | None:
    """What is no plain array of floating-point numbers among tensors, in one sentence; None when all are."""
    others = [
        name
        for name, t in tensors.items()
        if t.layout != torch.strided or t.is_meta or not t.is_floating_point()  # sparse, without values, or integers
    ]
    return f"{_name_some('not plain floating point', others)}." if others else None


def _name_some(what: str, names: list[str]) -> str:
    if not names:
        return ""
    rest = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"{what}: {', '.join(names[:3])}{rest}"


def _header(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            header = file.read(16)
    except OSError as error:
        raise CheckpointError(path, f"cannot be read ({error.strerror}).", "Check the path.") from error
    if not header:
        raise CheckpointError(path, "is empty.", "Download it again.")
    return header


def _starts_as_safetensors(header: bytes, path: Path) -> bool:
    """Whether eight bytes that can be the length of JSON come before it; their first may be that of a pickle, 0x80."""
    length = int.from_bytes(header[:8], "little")
    return header[8:9] == b"{" and (header[:1] != b"\x80" or length <= path.stat().st_size)


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, file.metadata() or {}  # noqa: SIM118
    except (SafetensorError, *_BROKEN) as error:
        raise _damaged(path, error) from error


def _read_torch(path: Path, mmap: bool) -> dict:
    if torch.__version__ < NEEDED_TORCH:
        raise CheckpointError(
            path,
            f"is a torch file, which needs PyTorch {'.'.join(map(str, NEEDED_TORCH))} or newer; this is "
            f"{torch.__version__}.",
            "Update PyTorch, in ComfyUI the way it was installed, or convert the file to safetensors where PyTorch is "
            "newer (`python -m depthfm_core convert IN OUT.safetensors`).",
        )
    try:
        with torch.serialization.safe_globals(_allowed_globals()), path.open("rb") as file:
            # By its name PyTorch would take a zip called .safetensors for safetensors; an open file has no name.
            named_rightly = mmap and path.suffix != ".safetensors"
            source = path if named_rightly else file
            content = torch.load(source, map_location="cpu", weights_only=True, mmap=named_rightly)
        _check_nesting(content, 0)
    except pickle.UnpicklingError as error:
        raise _refused(path, error) from error
    except MemoryError as error:
        raise CheckpointError(
            path,
            f"asks for more memory than there is ({_first_line(error)}).",
            "Close other programs; a small file that asks for so much is damaged.",
        ) from error
    except _BROKEN as error:
        raise _damaged(path, error) from error
    if not isinstance(content, Mapping):
        raise CheckpointError(
            path,
            f"holds a {type(content).__name__}, not a dictionary of tensors.",
            "Choose a model checkpoint.",
        )
    return dict(content)


def _check_nesting(content: object, before: int) -> int:
    """How many entries a dictionary has in all, after some before; one that a few others share counts in each.

    Raises:
        RecursionError: for a dictionary that is inside of itself, or more than any model has.
    """
    for value in content.values() if isinstance(content, Mapping) else ():
        before = _check_nesting(value, before + 1)
        if before > _MOST_ENTRIES:
            raise RecursionError(f"more than {_MOST_ENTRIES} entries")
    return before


def _damaged(path: Path, error: Exception) -> CheckpointError:
    return CheckpointError(path, f"is truncated or damaged ({_first_line(error)}).", "Download it again.")


def _refused(path: Path, error: Exception) -> CheckpointError:
    if "Unsupported global" not in str(error) and "GLOBAL" not in str(error):
        return _damaged(path, error)
    return CheckpointError(
        path,
        f"wants to run code while loading, which is refused ({_first_line(error)}).",
        "Use a safetensors version of the model from a source that you trust.",
    )


def _first_line(error: Exception) -> str:
    """The sentence of PyTorch's long report that names the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "Unsupported" in line or "GLOBAL" in line]
    return (telling or lines or [type(error).__name__])[0][:200].rstrip(".")


def _allowed_globals() -> list:
    """What the published file pickles besides tensors: one NumPy array and plain settings.

    NumPy 1 and 2 name the same functions differently, and a file keeps the names of the NumPy that wrote it.
    """
    array = np.zeros(1, np.float32)
    rebuild_array = array.__reduce__()[0]
    rebuild_scalar = array[0].__reduce__()[0]
    modules = ("numpy.core.multiarray", "numpy._core.multiarray")
    functions = [
        (f, f"{m}.{n}") for m in modules for f, n in ((rebuild_array, "_reconstruct"), (rebuild_scalar, "scalar"))
    ]
    numbers = ("float16", "float32", "float64", "int32", "int64", "bool")
    dtypes = [type(np.dtype(name)) for name in numbers]
    return [*functions, *dtypes, np.ndarray, np.dtype, (codecs.encode, "_codecs.encode"), argparse.Namespace]
