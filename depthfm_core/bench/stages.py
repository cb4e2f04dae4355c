"""Seconds and work of each stage of one estimation, seen from outside: a pipeline's parts are wrapped, not changed."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor

from ..settings import EstimationSettings
from .gpu import wait_for
from .ways import COMPUTED, Pipeline

STAGES = (*COMPUTED, "post")  # the last is the rest: fitting, noise, the solver's sums, combining, normalising


class StageClock:
    """Adds up the seconds of each stage and what went through it.

    Attributes:
        seconds: of each of `COMPUTED`, in wall-clock time.
        work: how many pictures were encoded, velocities computed and latents decoded.
        log_depth: [N, 1, h, w], what was decoded, in the order of decoding.
    """

    def __init__(self, device: torch.device) -> None:
        self.seconds = dict.fromkeys(COMPUTED, 0.0)
        self.work = dict.fromkeys(COMPUTED, 0)
        self._device = device
        self._decoded: list[Tensor] = []

    @contextmanager
    def stage(self, name: str, items: int) -> Iterator[None]:
        """Times the block as work of one stage on so many pictures or latents."""
        start = self.now()
        yield
        self.seconds[name] += self.now() - start
        self.work[name] += items

    def now(self) -> float:
        """Seconds, once the device has done all that it was asked for."""
        wait_for(self._device)
        return time.perf_counter()

    def keep(self, decoded: Tensor) -> None:
        """Remembers the decoder's output, [N, 1 or 3, h, w]."""
        self._decoded.append(decoded.float().mean(1, keepdim=True))

    @property
    def log_depth(self) -> Tensor:
        return torch.cat([decoded.cpu() for decoded in self._decoded])


class _TimedNetwork:
    """A velocity network whose calls are timed."""

    def __init__(self, network: object, clock: StageClock) -> None:
        self._network, self._clock = network, clock

    def __call__(self, x_t: Tensor, *others: Tensor) -> Tensor:
        with self._clock.stage("solve", len(x_t)):
            return self._network(x_t, *others)

    def __getattr__(self, name: str) -> object:
        return getattr(self._network, name)


class _TimedCodec:
    """An autoencoder whose `encode` and `decode`, and methods whose names start so, are timed."""

    def __init__(self, codec: object, clock: StageClock) -> None:
        self._codec, self._clock = codec, clock

    def __getattr__(self, name: str) -> object:
        value = getattr(self._codec, name)
        stage = name.partition("_")[0]
        if stage not in ("encode", "decode") or not callable(value):
            return value

        def timed(batch: Tensor) -> Tensor:
            with self._clock.stage(stage, len(batch)):
                result = value(batch)
            if stage == "decode":
                self._clock.keep(result)
            return result

        return timed


def run_timed(
    pipeline: Pipeline, image: Tensor, settings: EstimationSettings
) -> tuple[dict[str, float], dict[str, int], Tensor]:
    """One estimation: seconds of `STAGES` and of the "whole", work of `COMPUTED`, and the log depth before combining.

    Args:
        pipeline: with a `network`, a `codec` and a `device`.
        image: [1, 3, H, W] in [0, 1].
        settings: how to estimate.

    Returns:
        Seconds, work, and the plain mean of all that was decoded: [h, w], neither aligned nor normalised.
    """
    clock = StageClock(pipeline.device)
    watched = replace(
        pipeline, network=_TimedNetwork(pipeline.network, clock), codec=_TimedCodec(pipeline.codec, clock)
    )
    start = clock.now()
    watched(image, settings)
    whole = clock.now() - start
    seconds = clock.seconds | {"post": whole - sum(clock.seconds.values()), "whole": whole}
    return seconds, clock.work, clock.log_depth.mean((0, 1))
