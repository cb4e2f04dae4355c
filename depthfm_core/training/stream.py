"""Frames that are rendered while a training runs, and kept where it runs.

A GPU learns faster than a disk and one thread hand out frames. So processes render, a thread puts their frames into
memory of the training's device, and views are made there, a batch at a time (`batched_views`). Training starts with
the first frames and sees more and more of them. What a step draws follows from its seed and from how many frames were
there, so a training that was interrupted goes on, but not bit for bit.
"""

import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from threading import Event, Thread

import numpy as np
import torch

from ..workers import start_worker

_AHEAD = 64  # rendered frames that may wait for the thread, a worker


@dataclass(frozen=True)
class StreamSettings:
    """When training may start, and what is kept of the views that it draws.

    Attributes:
        first_frames: how many must be there before training starts.
        first_views: views that are encoded before the first step, `kept_views` at most; a few would be drawn so often
            in the first steps that they are learnt by heart.
        kept_views: views whose latents are kept; a new one takes the place of the oldest.
        fresh_share: how many new views each step encodes before it draws, as a share of the batch; they take the place
            of the oldest, and the whole batch is drawn from all that are kept.

    Raises:
        ValueError: for counts that are not positive, or a share outside of 0..1.
    """

    first_frames: int = 512
    first_views: int = 1024
    kept_views: int = 65_536
    fresh_share: float = 0.125

    def __post_init__(self) -> None:
        for name in ("first_frames", "first_views", "kept_views", "fresh_share"):
            if getattr(self, name) <= 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be positive.")
        if not self.fresh_share <= 1:
            raise ValueError(f"fresh_share is {self.fresh_share}; choose above 0 and up to 1, as many as a batch has.")

    def fresh_views(self, batch_size: int) -> int:
        """How many views a step with such a batch encodes."""
        return max(1, round(batch_size * self.fresh_share))


class FrameStream:
    """Synthetic frames of ascending seeds, rendered by processes in the background; use it in a `with`.

    Args:
        seeds: what to render; as many frames are kept.
        size: height and width in pixels.
        workers: processes.
        device: where frames are kept, at 5 bytes a pixel.

    Attributes:
        images: [N, 3, H, W] uint8, of which the first `len(self)` are there; memory is taken by the first `wait_for`.
        depths_m: [N, 1, H, W] float16 metres, 0 where there is no depth (sky); likewise.
    """

    def __init__(self, seeds: range, size: tuple[int, int], workers: int, device: torch.device) -> None:
        self._seeds, self._size, self._workers, self._device = seeds, size, workers, device
        self._count = 0
        self._stop = Event()
        self._problem: BaseException | None = None
        self._started = False
        self._thread = Thread(target=self._fill, daemon=True)

    def __enter__(self) -> "FrameStream":
        return self

    def __exit__(self, *_error: object) -> None:
        self._stop.set()
        if self._started:
            self._thread.join()

    def __len__(self) -> int:
        return self._count

    def wait_for(self, count: int) -> None:
        """Returns once at least `count` frames are there, or all; the first call starts to render.

        Raises:
            RuntimeError: rendering failed.
        """
        if not self._started:
            self._start()
        while self._count < min(count, len(self._seeds)):
            self.check()
            time.sleep(0.05)

    def _start(self) -> None:
        count = len(self._seeds)
        self.images = torch.empty(count, 3, *self._size, dtype=torch.uint8, device=self._device)
        self.depths_m = torch.empty(count, 1, *self._size, dtype=torch.float16, device=self._device)
        self._started = True
        self._thread.start()

    def check(self) -> None:
        """Raises RuntimeError if rendering failed."""
        if self._problem is not None:
            raise RuntimeError(f"Rendering frames failed: {self._problem}") from self._problem

    def _fill(self) -> None:
        try:
            for image, depth_m in self._rendered():
                self.images[self._count] = torch.from_numpy(image).permute(2, 0, 1)
                self.depths_m[self._count] = torch.from_numpy(depth_m)
                self._count += 1  # last: from here on it may be drawn
        except BaseException as error:  # noqa: BLE001 (handed to the thread that trains)
            self._problem = error

    def _rendered(self) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Frames as they are finished, in the order of their seeds."""
        with ProcessPoolExecutor(self._workers, get_context("spawn"), start_worker) as pool:
            render = partial(_render, self._size)
            waiting = [pool.submit(render, seed) for seed in self._seeds[: _AHEAD * self._workers]]
            for done in range(len(self._seeds)):
                if self._stop.is_set():
                    pool.shutdown(cancel_futures=True)
                    return
                yield waiting.pop(0).result()
                following = done + _AHEAD * self._workers
                if following < len(self._seeds):
                    waiting.append(pool.submit(render, self._seeds[following]))


def _render(size: tuple[int, int], seed: int) -> tuple[np.ndarray, np.ndarray]:
    """uint8 picture [H, W, 3] and float16 depth [H, W] in metres."""
    from ..data.synthetic import render_scene  # needs the optional libraries of the "train" extra

    sample = render_scene(seed, size)
    image = (sample.image * 255).round().byte().permute(1, 2, 0).numpy()
    return image, sample.depth_m[0].numpy().astype(np.float16)
