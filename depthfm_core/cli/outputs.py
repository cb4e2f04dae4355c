"""What `predict` can save of a depth map: `--save` names a kind of the table `OUTPUTS`."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..depth.color import colorize
from ..depth.controlnet import controlnet_image
from ..depth.files import write_exr, write_npy, write_png, write_png16, write_tiff
from ..depth.normalize import normalize_depth
from ..depth.normals import normals_to_image
from ..depth.ply import write_ply
from ..depth.points import focal_length, unproject
from ..depth.predicted_normals import predicted_normals
from ..depth.prediction import DepthPrediction
from .errors import USER_ERRORS
from .views import ViewOptions

_FILES_AT_ONCE = 2  # the values of each are in memory
_File = tuple[Path, Callable[[Path, Tensor], None], Tensor]


class Output(NamedTuple):
    """A kind of output: what it is, its files (what their names have after the picture's -> writer), their values.

    The values are those of a prediction for one image, [1, 3, H, W].
    """

    description: str
    files: dict[str, Callable[[Path, Tensor], None]]
    views: Callable[[DepthPrediction, Tensor, ViewOptions], tuple[Tensor, ...]]


def _depth16(prediction: DepthPrediction, _image: Tensor, options: ViewOptions) -> tuple[Tensor]:
    return ((1 - prediction.depth if options.invert else prediction.depth)[0, 0],)


def _color(prediction: DepthPrediction, _image: Tensor, options: ViewOptions) -> tuple[Tensor]:
    shown = normalize_depth(prediction, options.normalization, options.limits)
    return (colorize(shown, options.colormap, options.invert)[0],)


def _normals(prediction: DepthPrediction, _image: Tensor, options: ViewOptions) -> tuple[Tensor]:
    height, width = prediction.log_depth.shape[2:]
    if min(height, width) < 2:
        raise ValueError(
            f"Normals need at least 2 x 2 pixels, not {width} x {height}; leave normals out of --save for this picture."
        )
    return (normals_to_image(predicted_normals(prediction, **options.normals))[0],)


def _relative(prediction: DepthPrediction, _image: Tensor, _options: ViewOptions) -> tuple[Tensor]:
    return (prediction.relative_depth[0, 0],)


def _disparity(prediction: DepthPrediction, _image: Tensor, _options: ViewOptions) -> tuple[Tensor]:
    return (prediction.disparity[0, 0],)


def _controlnet(prediction: DepthPrediction, _image: Tensor, _options: ViewOptions) -> tuple[Tensor]:
    return (controlnet_image(prediction)[0],)


def _uncertainty(prediction: DepthPrediction, _image: Tensor, _options: ViewOptions) -> tuple[Tensor, Tensor]:
    """A picture, from black at 0 to the brightest color at the picture's own largest value, and the numbers."""
    highest = prediction.uncertainty.amax()
    share = prediction.uncertainty / highest.where(highest > 0, 1.0)
    return colorize(share, "magma")[0], prediction.uncertainty[0, 0]


def _points(prediction: DepthPrediction, image: Tensor, options: ViewOptions) -> tuple[Tensor]:
    """[6, H, W]: camera points and their colors."""
    fov_deg, focal_px = options.normals["fov_deg"], options.normals["focal_px"]
    focal_px = focal_length(image.shape[3], fov_deg, focal_px)
    return (torch.cat([unproject(prediction.relative_depth, focal_px), image], dim=1)[0],)


def _write_points(path: Path, colored: Tensor) -> None:
    write_ply(path, colored[:3], colored[3:])


OUTPUTS = {
    "depth16": Output("16-bit gray, 0 = nearest, 65535 = farthest point", {"_depth16.png": write_png16}, _depth16),
    "color": Output("depth in colors", {"_color.png": write_png}, _color),
    "normals": Output("surface normals as colors", {"_normals.png": write_png}, _normals),
    "npy": Output(
        "float32 [H, W]: depth up to a factor and a power, in (0, 1], larger = farther", {".npy": write_npy}, _relative
    ),
    "tiff": Output("the values of npy, 32 bits", {"_depth.tiff": write_tiff}, _relative),
    "exr": Output("the values of npy, 32 bits, channel Y", {"_depth.exr": write_exr}, _relative),
    "disparity": Output("16-bit gray, inverse depth, 65535 = nearest", {"_disparity.png": write_png16}, _disparity),
    "controlnet": Output("gray for depth ControlNets, near = white", {"_controlnet.png": write_png}, _controlnet),
    "ply": Output(
        "a colored point for each pixel, for viewers of 3D; its depth is that of npy", {".ply": _write_points}, _points
    ),
    "uncertainty": Output(
        "with --ensemble 2 or more: bright = uncertain; float32 in log depth, of a range of about 2",
        {"_uncertainty.png": write_png, "_uncertainty.npy": write_npy},
        _uncertainty,
    ),
}


def describe_outputs() -> str:
    """The table for `--help`: a line a kind, with the names of its files."""
    lines = [
        f"  {kind:12} {', '.join(f'NAME{ending}' for ending in output.files)}: {output.description}"
        for kind, output in OUTPUTS.items()
    ]
    where_alike = (
        "  (of pictures that differ in the suffix alone, NAME keeps it: a.jpg_color.png, a.png_color.png; of those",
        "  named alike in two folders, the folder's name goes before it: left_1_color.png, right_1_color.png)",
    )
    return "\n".join(["what --save can write for a picture NAME.jpg:", *lines, *where_alike])


def output_paths(kinds: tuple[str, ...], stem: Path) -> list[Path]:
    """The files that `write_outputs` writes for one picture."""
    return [stem.with_name(f"{stem.name}{ending}") for kind in kinds for ending in OUTPUTS[kind].files]


def write_outputs(
    prediction: DepthPrediction, image: Tensor, kinds: tuple[str, ...], options: ViewOptions, stem: Path
) -> Iterator[Path]:
    """Writes the kinds of one picture and yields each file's path, in their order; the folder is made if missing.

    Args:
        prediction: of one picture.
        image: [1, 3, H, W] the picture.
        kinds: of `OUTPUTS`.
        options: of their views.
        stem: the files' path without the ending that each kind has.

    Raises:
        ValueError: for a kind that this picture does not have (normals of a single pixel), when the others are written.
        OSError, OutputError: for what cannot be written; of what comes after it, one file at most is tried and, if
            it is there, yielded before.
    """
    refused: list[BaseException] = []
    yield from _write(_files(prediction, image, kinds, options, stem, refused))
    if refused:
        raise refused[0]


def _files(
    prediction: DepthPrediction,
    image: Tensor,
    kinds: tuple[str, ...],
    options: ViewOptions,
    stem: Path,
    refused: list[BaseException],
) -> Iterator[_File]:
    """What to write, computed kind after kind; `refused` gets an error for each that this picture does not have.

    What ends it goes there too, in the first place, so that files that were begun before are told.
    """
    for kind in kinds:
        try:
            views = OUTPUTS[kind].views(prediction, image, options)
        except ValueError as error:
            refused.append(error)
            continue
        except USER_ERRORS as error:  # too little memory
            refused.insert(0, error)
            return
        stem.parent.mkdir(parents=True, exist_ok=True)
        yield from zip(output_paths((kind,), stem), OUTPUTS[kind].files.values(), views, strict=True)


def _write(files: Iterable[_File]) -> Iterator[Path]:
    """Writes while the next view is computed and written: of a large photo compressing takes longer than estimating.

    Whatever ends it, files that were begun are finished.
    """
    begun: deque[tuple[Path, Future]] = deque()
    failed: list[BaseException] = []
    with ThreadPoolExecutor(_FILES_AT_ONCE) as pool:
        for path, write, values in files:
            begun.append((path, pool.submit(write, path, values)))
            if len(begun) == _FILES_AT_ONCE:
                yield from _oldest(begun, failed)
            if failed:
                break
        while begun:
            yield from _oldest(begun, failed)
    if failed:
        raise failed[0]


def _oldest(begun: deque[tuple[Path, Future]], failed: list[BaseException]) -> Iterator[Path]:
    """Takes the file that was begun first and waits for it: yields its path, or adds its error to `failed`."""
    path, writing = begun.popleft()
    error = writing.exception()
    if error is None:
        yield path
    else:
        failed.append(error)
