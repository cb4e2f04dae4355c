import argparse
import os
import platform
import subprocess
import sys

import pytest

from depthfm_core.allocator import keep_freed_memory
from depthfm_core.cli import arguments

# Alone in a process, which it changes for good: how much of 256 MiB stays after it was used and freed.
KEPT = """
import sys
from pathlib import Path
from depthfm_core.allocator import keep_freed_memory
def resident():
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096
if sys.argv[1] == "keep":
    assert keep_freed_memory()
before = resident()
block = bytearray(b"x") * 2**28
del block
print((resident() - before) / 2**28)
"""


def share_kept(how):
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_"))}
    command = [sys.executable, "-c", KEPT, how]
    return float(subprocess.run(command, env=environment, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is asked")
def test_freed_memory_stays_in_the_process():
    assert share_kept("keep") > 0.9 and share_kept("not") < 0.1


@pytest.mark.parametrize("name", ["MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX", "GLIBC_TUNABLES"])
def test_an_environment_that_says_how_to_allocate_is_left_alone(monkeypatch, name):
    monkeypatch.setenv(name, "1")
    assert not keep_freed_memory()


def test_elsewhere_than_on_linux_nothing_is_asked(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("MALLOC_", "GLIBC_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setattr(sys, "platform", "win32")
    assert not keep_freed_memory()


def test_every_command_that_loads_a_pipeline_asks_for_it(monkeypatch):
    asked = []
    monkeypatch.setattr(arguments, "keep_freed_memory", lambda: asked.append(True))
    parser = argparse.ArgumentParser()
    arguments.add_model_arguments(parser)
    arguments.pipeline_from(parser.parse_args([]))
    assert asked
