"""The frames that a recipe trains on: where they come from, rendering them, and which of them are held out."""

import logging
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from pathlib import Path

from tqdm import tqdm

from ..data.folder import frame_name
from ..share import Share
from .engine import training_device
from .held_out import count_others, find_complete_frames, source_frames
from .sources import DataSetSettings, Frame, folder_frames
from .stream import FrameStream, StreamSettings

_LOGGER = logging.getLogger(__name__)
_SMALLEST_PX = 16  # that `render_scene` takes, which needs optional libraries


@dataclass(frozen=True)
class FrameSettings:
    """Where frames come from.

    Attributes:
        folders: folders of frames, absolute or below the output folder; each is a data set named as the folder.
        datasets: other data sets.
        count: frames to render into the first of them with our own generator; 0 = render none.
        first_seed: seed of the first rendered frame.
        height_px, width_px: their size.
        workers: processes that render.
        held_out: how many frames of each folder and data set are for checks and never trained on.
        stream: renders the frames after the held-out ones while the training runs and keeps them in memory, where a
            [frames.stream] table is there; then `folders` is where the held-out ones lie.

    Raises:
        ValueError: nothing to train on, no folder to render into, nothing held out, no workers, a size or seed that
            cannot be rendered, settings of rendering where nothing is rendered, a folder without a name, two data sets
            of one name, or shares for some only.
    """

    folders: tuple[str, ...] = ("frames",)
    datasets: tuple[DataSetSettings, ...] = ()
    count: int = 0
    first_seed: int = 0
    height_px: int = 192
    width_px: int = 256
    workers: int = 1
    held_out: int = 100
    stream: StreamSettings | None = None

    def __post_init__(self) -> None:
        labels = [source.label for source in self.sources]
        shared = [source.label for source in self.sources if source.share]
        if self.stream and (len(labels) != 1 or self.datasets or self.count <= self.held_out):
            raise ValueError(
                "[frames.stream] trains on rendered frames only: one folder, no data sets, and a count above held_out; "
                f"got {', '.join(labels)}, count {self.count}, held_out {self.held_out}."
            )
        if self.held_out < 1:
            raise ValueError(
                f"[frames] has held_out {self.held_out}; trainings are checked on held-out frames: 1 or more."
            )
        if self.first_seed < 0 or min(self.height_px, self.width_px) < _SMALLEST_PX:
            raise ValueError(
                f"[frames] has first_seed {self.first_seed}, height_px {self.height_px} and width_px {self.width_px}; "
                f"choose a seed of 0 or more and sides of {_SMALLEST_PX} or more."
            )
        if self.workers < 1:
            raise ValueError(f"[frames] has workers {self.workers}; choose 1 or more.")
        rendering = ("first_seed", "height_px", "width_px", "workers")
        idle = [name for name in rendering if getattr(self, name) != getattr(FrameSettings, name)]
        if not self.count and idle:
            raise ValueError(
                f"[frames] has {', '.join(idle)}, which is for frames that are rendered, and count 0; set count or "
                "leave it out."
            )
        if not labels or (self.count and not self.folders):
            raise ValueError("[frames] names no folder to render into and to train on, or no data set; name one.")
        if len(set(labels)) < len(labels):
            raise ValueError(f"Data sets must differ in their names, which name their latents; got {labels}.")
        if shared and len(shared) < len(labels):
            raise ValueError(
                f"Of the data sets {', '.join(labels)} only {', '.join(shared)} have a share; give all of them one "
                '(a folder as [[frames.datasets]] with kind = "frames"), or none.'
            )

    @property
    def sources(self) -> tuple[DataSetSettings, ...]:
        """The folders and the other data sets, in this order."""
        folders = (DataSetSettings("frames", folder, _name_of(folder)) for folder in self.folders)
        return (*folders, *self.datasets)

    @property
    def shares(self) -> dict[str, float]:
        """The share of each data set, or nothing where no data set has one."""
        return {source.label: source.share for source in self.sources if source.share}


def _name_of(folder: str) -> str:
    """What the data set in a folder is called, unless the path ends where no name stands."""
    name = Path(folder).name
    if name == "..":
        raise ValueError(
            f"[frames] has the folder {folder!r}, which has no name to call results by; give it as a "
            '[[frames.datasets]] of kind = "frames" with a name.'
        )
    return name


def open_stream(frames: FrameSettings, share: Share) -> AbstractContextManager[FrameStream | None]:
    """The frames that are rendered during the training, where the recipe wants that; the first who asks starts it."""
    if frames.stream is None:
        return nullcontext()
    if share.count > 1:
        raise ValueError(f"[frames.stream] trains in one process, and {share.count} were started; start one.")
    seeds = range(frames.first_seed + frames.held_out, frames.first_seed + frames.count)
    return FrameStream(seeds, (frames.height_px, frames.width_px), frames.workers, training_device())


def check_data_sets(settings: FrameSettings, output: Path) -> None:
    """Lists the data sets, those that are there and what is to be rendered, before hours of work; reads no frame.

    Raises:
        ValueError: a missing data set, or one with nothing left to train on.
    """
    if settings.stream:
        return
    rendered = 1 if settings.count else 0
    for source in settings.sources[rendered:]:
        # Which of its frames are complete may be found by this run, by reading them.
        source_frames(replace(source, complete_only=False), output, settings.held_out)
    if rendered:
        folder, seeds = output / settings.folders[0], range(settings.first_seed, settings.first_seed + settings.count)
        there = folder_frames(folder, folder.name) if folder.is_dir() else []
        count = len({frame.name for frame in there} | {frame_name(seed) for seed in seeds})
        if count <= settings.held_out:
            raise ValueError(
                f"{folder} has {count} frames once they are rendered and {settings.held_out} are held out; raise count "
                "or lower held_out."
            )


def make_frames(settings: FrameSettings, output: Path) -> None:
    """Renders what is missing, of a stream the held-out frames only, and lists complete frames where that is asked.

    Raises:
        ImportError: when frames have to be rendered and the generator's libraries are missing.
    """
    if settings.count:
        _render(settings, output)
    for source in settings.sources:
        if source.complete_only:
            find_complete_frames(source, output)


def _render(settings: FrameSettings, output: Path) -> None:
    from ..data import synthetic  # needs the optional libraries of the "train" extra

    count = settings.held_out if settings.stream else settings.count
    seeds = range(settings.first_seed, settings.first_seed + count)
    size = (settings.height_px, settings.width_px)
    frames = synthetic.write_frames(output / settings.folders[0], seeds, size, workers=settings.workers)
    for _ in tqdm(frames, total=count, desc="frames", unit="frame"):
        pass


def split_frames(settings: FrameSettings, output: Path) -> tuple[list[Frame], list[Frame]]:
    """The frames to train on, none of which is on the disk where a stream renders them, and the held-out ones.

    Raises:
        ValueError: a missing data set, or one with nothing left to train on.
    """
    if settings.stream:
        folder, first = settings.folders[0], settings.first_seed
        names = {frame_name(seed) for seed in range(first, first + settings.held_out)}
        found = folder_frames(output / folder, Path(folder).name)
        return [], [frame for frame in found if frame.name in names]  # others that lie there may be trained on
    train, held_out = [], []
    for source in settings.sources:
        own, own_held_out = source_frames(source, output, settings.held_out)
        train += own
        held_out += own_held_out
    return train, held_out


def tell_frames(
    settings: FrameSettings, output: Path, train: Sequence[Frame], held_out: Sequence[Frame], labels: Sequence[str] = ()
) -> None:
    """Logs how many frames there are of each data set, and warns of other pictures that lie there.

    Args:
        settings, output: as of `split_frames`.
        train, held_out: what that gave.
        labels: the data sets to speak of; none = all.
    """
    for source in settings.sources:
        if not labels or source.label in labels:
            trained, apart = (sum(frame.data_set == source.label for frame in frames) for frames in (train, held_out))
            others = count_others(source, output, trained + apart)
            left_out = f", {others} other pictures" if others else ""
            level = logging.WARNING if others else logging.INFO
            _LOGGER.log(level, "%s: %d frames to train on, %d held out%s", source.label, trained, apart, left_out)
