"""The processes of a pool."""

import subprocess
import sys

import pytest

# A parent with two workers, one of which works and one of which waits. What they are told to print goes to one pipe,
# which ends when the last of them does.
PARENT = """
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import torch

from depthfm_core.workers import start_worker

if __name__ == "__main__":
    with ProcessPoolExecutor(2, get_context("spawn"), start_worker) as pool:
        first = pool.submit(time.sleep, SECONDS)
        print(pool.submit(torch.get_num_threads).result(), flush=True)
        first.result()
"""


@pytest.fixture
def parent(tmp_path):
    """Starts the parent, whose first worker sleeps for so long; returned once the second one has said its threads."""
    started = []

    def start(seconds):
        script = tmp_path / "parent.py"
        script.write_text(PARENT.replace("SECONDS", str(seconds)), encoding="utf-8")
        started.append(subprocess.Popen([sys.executable, str(script)], stdout=subprocess.PIPE, text=True))
        assert started[0].stdout.readline() == "1\n"
        return started[0]

    yield start
    started[0].kill()


def test_workers_end_when_their_parent_is_killed(parent):
    process = parent(seconds=300)
    process.kill()
    process.communicate(timeout=60)  # raises while a worker still holds the pipe


def test_a_pool_ends_in_order_when_its_work_is_done(parent):
    process = parent(seconds=0)
    process.communicate(timeout=60)
    assert process.returncode == 0
