"""What the numbers depend on besides this project."""

import importlib.metadata
import os
import platform
import re
from collections.abc import Iterable
from pathlib import Path

import torch

_PACKAGES = ("torch", "diffusers", "openvino", "nncf", "torchao")
# glibc's and PyTorch's settings decide whether memory is given back between stages and in which pages it comes,
# OpenMP's how many threads compute and how they wait, the libraries' which instructions and precision they may use.
_VARIABLE = re.compile(
    r"^(MALLOC|GLIBC_TUNABLES|THP_MEM_ALLOC|LD_PRELOAD|OMP|GOMP|KMP|MKL|OPENBLAS|ONEDNN|DNNL"
    r"|ATEN|PYTORCH|TORCH|CUDA|CUBLAS|CUDNN|NVIDIA_TF32)"
)


def describe_machine(device: str, threads: int) -> dict[str, object]:
    """Processor, GPU, versions, threads, memory and the environment variables that change speed.

    Args:
        device: that is measured.
        threads: that PyTorch was given; 0 for its own choice.
    """
    told = {
        "processor": _processor(),
        "system_cores": os.cpu_count(),  # more than "cores" where this process may use some of them only
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "memory_bytes": _memory_bytes(),
        "system": platform.platform(),
        "python": platform.python_version(),
        "versions": installed_versions(_PACKAGES),
        "threads": threads or torch.get_num_threads(),
        "environment": {name: value for name, value in sorted(os.environ.items()) if _VARIABLE.match(name)},
    }
    return told | (_gpu(device) if torch.device(device).type == "cuda" else {})


def load_average() -> float | None:
    """Threads that ran or waited to, all processes' together, as the last minute's average; None where none counts."""
    try:
        return os.getloadavg()[0]
    except (AttributeError, OSError):  # Windows; a system without /proc
        return None


def _gpu(device: str) -> dict[str, object]:
    properties = torch.cuda.get_device_properties(device)
    return {
        "gpu": properties.name,
        "gpu_memory_bytes": properties.total_memory,
        "cuda": torch.version.cuda,
        "tf32_products": torch.backends.cuda.matmul.allow_tf32,
        "tf32_convolutions": torch.backends.cudnn.allow_tf32,
    }


def _processor() -> str:
    file = Path("/proc/cpuinfo")
    if file.exists():
        found = re.search(r"^model name\s*:\s*(.+)$", file.read_text(encoding="utf-8"), re.MULTILINE)
        if found:
            return found[1]
    return platform.processor() or platform.machine()


def _memory_bytes() -> int | None:
    names = getattr(os, "sysconf_names", {})
    if "SC_PHYS_PAGES" not in names:
        return None
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def installed_versions(packages: Iterable[str]) -> dict[str, str]:
    """The versions of those packages that are there."""
    installed = {}
    for package in packages:
        try:
            installed[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return installed
