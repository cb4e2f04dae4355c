"""Where a way is measured: in a fresh process each time, or all of them resident in this one."""

import os
import pickle
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context

import torch

from ..model.catalog import EXAMPLE_PHOTO
from .fresh import FAILURES, answer, told
from .measure import Case, LoadedWay, Measurement, Subject, measure_way
from .ways import WAYS

_NO_MEMORY = (MemoryError, torch.OutOfMemoryError)
_ONE_AT_A_TIME = " (Other ways stay loaded beside it; --no-in-process loads one at a time.)"


class MeasurementError(RuntimeError):
    """A measurement that did not come about."""


class FreshProcesses:
    """Every measurement in a process of its own: its memory is the way's, and nothing is warm from another way."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject

    def measure(self, way: str, case: Case) -> Measurement:
        """Raises MeasurementError when the way fails or its process is killed."""
        compiled = WAYS[way].load.get("compile", False)
        threads = self._subject.threads
        return _in_fresh_process(measure_way, way, case, self._subject, threads=threads, compiled=compiled)


class OneProcess:
    """All ways stay loaded in this process, so that rounds are quick; for GPUs, whose memory PyTorch counts."""

    def __init__(self, subject: Subject) -> None:
        self._subject = subject
        self._loaded: dict[str, LoadedWay] = {}

    def measure(self, way: str, case: Case) -> Measurement:
        """Raises MeasurementError when the way fails."""
        try:
            if way not in self._loaded:
                self._loaded[way] = LoadedWay(way, self._subject)
            return self._loaded[way].measure(case)
        except FAILURES as error:
            advice = _ONE_AT_A_TIME if isinstance(error, _NO_MEMORY) and {*self._loaded} - {way} else ""
            raise MeasurementError(told(error) + advice) from error


def cold_start(subject: Subject) -> float:
    """Seconds of `predict` on the example picture in a fresh process, from the interpreter's start to the files.

    Raises:
        MeasurementError: with what the command said, when it fails.
    """
    command = [sys.executable, "-m", __package__.rpartition(".")[0], "predict", "--device", subject.device]
    command += ["--model", str(subject.files.model)]
    command += ["--vae", str(subject.files.vae)] if subject.files.vae else []
    environment = os.environ | ({"OMP_NUM_THREADS": str(subject.threads)} if subject.threads else {})
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        command += ["--output", folder, str(EXAMPLE_PHOTO)]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        seconds = time.perf_counter() - start
    if done.returncode:
        raise MeasurementError(f"predict ended with {done.returncode}: {done.stderr.strip()}")
    return seconds


def _in_fresh_process(work: Callable, *arguments: object, threads: int, compiled: bool) -> object:
    context = get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=answer, args=(theirs, pickle.dumps((work, arguments)), threads, compiled))
    process.start()
    theirs.close()
    try:
        succeeded, result = ours.recv()
    except EOFError:
        process.join()
        succeeded, result = False, f"the process ended with {process.exitcode}; -9 often means too little memory"
    finally:
        ours.close()
        process.join()
    if not succeeded:
        raise MeasurementError(result)
    return result
