"""The peak that a table of costs tells."""

import mmap
import sys

import pytest
import torch

from depthfm_core.evaluation.memory import PeakMemory


def _can_reset():
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
            file.write("5")
    except OSError:
        return False
    return True


def test_the_peak_is_that_of_the_gpu_that_worked(monkeypatch):
    reset = []
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", reset.append)
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: (0, 7_400_000)[device])
    with PeakMemory() as memory:
        pass
    assert (memory.megabytes, reset) == (7, [0, 1])


def test_a_gpu_that_was_not_used_yet_is_left_alone(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: False)  # PyTorch refuses to reset then
    monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: pytest.fail(f"GPU {device} was reset"))
    monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda _device: 0)
    with PeakMemory() as memory:
        pass
    assert sys.platform == "win32" or memory.megabytes > 50


@pytest.mark.skipif(not _can_reset(), reason="needs a Linux that lets a process reset its peak")
def test_the_peak_is_not_that_of_work_before():
    peaks = []
    for size in (400_000_000, 4096):
        with PeakMemory() as memory, mmap.mmap(-1, size) as held:  # which goes back to the system at once
            for page in range(0, size, mmap.PAGESIZE):
                held[page] = 1
        peaks.append(memory.megabytes)
    assert peaks[0] - peaks[1] > 300


def test_without_a_gpu_the_peak_is_the_processs():
    with PeakMemory() as memory:
        pass
    assert sys.platform == "win32" or memory.megabytes > 50
