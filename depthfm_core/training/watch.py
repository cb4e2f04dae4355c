"""What a training shows of itself: a bar, the log, TensorBoard's curves and pictures, and pictures as files.

Steps count from 1 and are the number of steps done, as in the saved state; 0 is what a training starts from.
"""

import logging
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from einops import rearrange
from PIL import Image, ImageDraw
from torch import Tensor
from tqdm import tqdm

from ..depth.files import write_png

_LOGGER = logging.getLogger(__name__)
_LOG_EVERY, _RECORD_EVERY = 50, 10
_TITLE_HEIGHT_PX = 16


class Checked(NamedTuple):
    """What came out of a check: scores by their names, and a picture [3, H, W] in [0, 1]."""

    scores: Mapping[str, float]
    picture: Tensor


class Watch:
    """Shows a training while it runs; a context manager.

    Args:
        folder: of the training; its name stands in the log, and pictures lie in it as `check-000500.png`.
        events: folder for TensorBoard's files; None writes none.
        first_step: the number of steps done already. What an earlier run recorded after them is taken back.
        num_steps: the number of steps in all.
        batch_size: samples a step.
        enabled: False shows nothing, as in all processes but the first.
    """

    def __init__(
        self, folder: Path, events: Path | None, first_step: int, num_steps: int, batch_size: int, *, enabled: bool
    ) -> None:
        self._folder, self._batch_size, self._enabled = folder, batch_size, enabled
        self._open = ExitStack()
        off = {} if enabled else {"disable": True}  # not False, which would overrule TQDM_DISABLE
        self._bar = self._open.enter_context(tqdm(initial=first_step, total=num_steps, desc=folder.name, **off))
        self._writer = None
        if enabled and events is not None and first_step < num_steps:
            self._writer = _writer(events, first_step + 1 if first_step else 0)  # step 0 is checked, too
        if self._writer:
            self._open.callback(self._writer.close)
        self._start_clock(first_step)

    def __enter__(self) -> "Watch":
        return self

    def __exit__(self, *_: object) -> None:
        self._open.close()

    def stepped(self, step: int, values: Mapping[str, Tensor | float]) -> None:
        """Shows the scalars of a step now and then; reading them waits for the device."""
        self._bar.update()
        if not self._enabled or (step > 1 and step % _RECORD_EVERY):
            return
        numbers = {name: float(value) for name, value in values.items()}
        if step == 1 or step % _LOG_EVERY == 0:
            self._bar.set_postfix_str(self._log(step, numbers))
        since, start = self._clock
        numbers["samples_per_second"] = (step - since) * self._batch_size / max(time.perf_counter() - start, 1e-9)
        self._record("train", step, numbers)
        self._start_clock(step)

    def checked(self, step: int, checked: Checked) -> None:
        """Shows the result of a check.

        Raises:
            ValueError: when the picture cannot be written.
        """
        self._log(step, checked.scores)
        write_png(self._folder / f"check-{step:06d}.png", checked.picture)
        if self._writer:
            self._writer.add_image("check/picture", checked.picture, step)
        self._record("check", step, checked.scores)
        self._start_clock(step)  # the check itself is not part of the training's speed

    def _start_clock(self, step: int) -> None:
        self._clock = step, time.perf_counter()

    def _log(self, step: int, values: Mapping[str, float]) -> str:
        text = ", ".join(f"{name} {value:.4g}" for name, value in values.items())
        _LOGGER.info("%s step %d: %s", self._folder.name, step, text)
        return text

    def _record(self, kind: str, step: int, values: Mapping[str, float]) -> None:
        if not self._writer:
            return
        for name, value in values.items():
            self._writer.add_scalar(f"{kind}/{name}", value, step)
        self._writer.flush()  # before the state is saved: what happened until then is not done again


def _writer(events: Path, next_step: int) -> Any:
    """TensorBoard's writer, or None without the package, which the log says."""
    try:
        from torch.utils.tensorboard import SummaryWriter  # optional: an extra of this package
    except ModuleNotFoundError:
        _LOGGER.info('No curves for TensorBoard, which is not installed; `pip install -e ".[train]"` brings it.')
        return None
    return SummaryWriter(str(events), purge_step=next_step)


def titled(rows: Sequence[Tensor], titles: Sequence[str]) -> Tensor:
    """Rows of panels below each other, with a title above each column.

    Args:
        rows: each [3, H, W] in [0, 1], of one width, with as many panels side by side as there are titles.
        titles: in ASCII.

    Returns:
        [3, 16 + the rows' heights, W].
    """
    width = rows[0].shape[-1]
    strip = Image.new("RGB", (width, _TITLE_HEIGHT_PX))
    draw = ImageDraw.Draw(strip)
    for index, title in enumerate(titles):
        draw.text((index * width // len(titles) + 4, 2), title, fill="white")
    header = rearrange(torch.from_numpy(np.asarray(strip) / 255.0), "h w c -> c h w").float()
    return torch.cat([header, *(row.cpu().float() for row in rows)], dim=1)
