"""One way, loaded and measured: seconds of each stage, memory, and the answer, to be compared with other ways'."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from ..depth.files import read_image
from ..evaluation.memory import peak_of_process
from ..model.catalog import EXAMPLE_PHOTO
from ..resize import shrink
from .model import ModelFiles
from .stages import run_timed
from .ways import WAYS, Pipeline

_VALUES_A_PAGE = 1024  # of float32 in 4096 bytes; of smaller types more fit
_READ_BYTES = 2**24


@dataclass(frozen=True)
class Case:
    """What is estimated.

    Attributes:
        height, width: of the picture in pixels, which the networks see as it is; None for the example photograph at its
            own size, which the networks see at the model's own resolution.
        steps: Euler steps.
        members: of the ensemble.
    """

    height: int | None
    width: int | None
    steps: int
    members: int

    @property
    def size(self) -> str:
        """HEIGHTxWIDTH, or "own"."""
        return "own" if self.height is None else f"{self.height}x{self.width}"

    @property
    def name(self) -> str:
        """The case in words, which is its key in the results."""
        steps, members = (f"{n} {what}{'s' * (n > 1)}" for n, what in ((self.steps, "step"), (self.members, "member")))
        return f"{self.size}, {steps}, {members}"

    @property
    def processing_resolution(self) -> int | None:
        """As in `EstimationSettings`."""
        return None if self.height is None else 0

    def image(self) -> Tensor:
        """The example photograph at the size of this case, [1, 3, H, W] in [0, 1]."""
        image = read_image(EXAMPLE_PHOTO)
        if self.height is None:
            return image
        return shrink(image, (self.height, self.width)).clamp(0, 1)


@dataclass(frozen=True)
class Subject:
    """What is measured, and where.

    Attributes:
        files: of the model.
        device: a torch device.
        threads: of PyTorch; 0 leaves its own choice.
        warmups: estimations before the one that is timed.
        alone: whether the process measures this one way only, so that its memory can be read off.
    """

    files: ModelFiles
    device: str
    threads: int = 0
    warmups: int = 1
    alone: bool = True


@dataclass(frozen=True)
class Measurement:
    """One way in one case in one round.

    Attributes:
        seconds: of "read" (the files alone), "load" (files to a pipeline whose weights are all in memory), "first" (the
            first estimation; none without a warm-up), of each of `stages.STAGES`, and of the "whole" estimation.
        work: pictures encoded, velocities computed, latents decoded.
        start_bytes: the most memory before anything was loaded, the libraries' code included; None where it cannot be
            told.
        load_peak_bytes: the most that loading added to it; None likewise.
        peak_bytes: the most memory until the end: of the process, or of a GPU what this way allocated; None likewise.
        log_depth: [h, w], the members' plain mean before alignment and normalisation.
    """

    seconds: dict[str, float]
    work: dict[str, int]
    start_bytes: int | None
    load_peak_bytes: int | None
    peak_bytes: int | None
    log_depth: np.ndarray


class LoadedWay:
    """A way with its pipeline, ready to be measured in any case.

    Args:
        name: one of `WAYS`.
        subject: what is measured.
    """

    def __init__(self, name: str, subject: Subject) -> None:
        self._way, self._subject = WAYS[name], subject
        self._gpu = torch.device(subject.device) if subject.device.startswith("cuda") else None
        self._warm: dict[Case, float | None] = {}
        read = _seconds_to_read(subject.files)
        if self._gpu:
            torch.cuda.init()  # a fresh process has not used it yet, and there would be no peak to reset
        self._reset_peak()
        self._start, allocated = self._peak(), self._allocated()
        start = time.perf_counter()
        self._pipeline = self._way.loader(subject.files.model, subject.files.vae, subject.device, **self._way.load)
        _touch(self._pipeline)
        self._loading = {"read": read, "load": time.perf_counter() - start}
        after = self._peak()
        self._load_peak = None if self._start is None or after is None else after - self._start
        self._own_bytes = self._allocated() - allocated

    def measure(self, case: Case) -> Measurement:
        """One timed estimation, in a case's first measurement after the warm-ups."""
        image = case.image()
        settings = self._way.estimation_settings(
            num_steps=case.steps, ensemble_size=case.members, processing_resolution=case.processing_resolution
        )
        for _ in range(self._subject.warmups if case not in self._warm else 0):
            self._warm.setdefault(case, run_timed(self._pipeline, image, settings)[0]["whole"])
        others = self._allocated() - self._own_bytes
        self._reset_peak()
        seconds, work, log_depth = run_timed(self._pipeline, image, settings)
        first = {"first": self._warm[case]} if case in self._warm else {}
        peak = self._peak()
        return Measurement(
            seconds=self._loading | first | seconds,
            work=work,
            start_bytes=self._start,
            load_peak_bytes=self._load_peak,
            peak_bytes=None if peak is None else peak - others,
            log_depth=log_depth.numpy(),
        )

    def _allocated(self) -> int:
        """Bytes of a GPU that tensors hold now; 0 on the CPU."""
        return torch.cuda.memory_allocated(self._gpu) if self._gpu else 0

    def _reset_peak(self) -> None:
        if self._gpu:
            torch.cuda.reset_peak_memory_stats(self._gpu)

    def _peak(self) -> int | None:
        if self._gpu:
            return torch.cuda.max_memory_allocated(self._gpu)
        return peak_of_process() if self._subject.alone else None


def measure_way(name: str, case: Case, subject: Subject) -> Measurement:
    """Loads a way and measures it once; for a process of its own."""
    return LoadedWay(name, subject).measure(case)


def _touch(pipeline: Pipeline) -> None:
    """Brings every weight into memory that is only mapped from its file so far, and waits for a GPU to have them."""
    for part in (pipeline.network, pipeline.codec):
        for weight in part.parameters() if hasattr(part, "parameters") else ():
            weight.as_strided((-(-weight.numel() // _VALUES_A_PAGE),), (_VALUES_A_PAGE,)).sum().item()


def _seconds_to_read(files: ModelFiles) -> float:
    """The time of reading the model's files and doing nothing with them, straight from memory if they are cached."""
    start, buffer = time.perf_counter(), bytearray(_READ_BYTES)
    for path in files.paths:
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass
    return time.perf_counter() - start
