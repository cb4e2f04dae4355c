"""The five benchmarks of Marigold's zero-shot protocol, and a folder of one's own, as one table.

The rules are Marigold's to the letter, because the published numbers were made with them: the mask is the reader's
`valid`, the prediction comes to the ground truth's size before it is aligned, and the aligned depth is cut to the data
set's range before it is measured. What others do differently is an option, and `notes` tells which was taken.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import ModuleType

from torch import Tensor

from ..data import diode, eth3d, kitti, nyu, pairs, scannet
from ..data.entries import Entry
from ..data.sample import DepthSample
from ..resize import resize_long_side, shrink

# Aligned depth never falls to zero, so that ratios and logarithms exist.
LOWEST_DEPTH_M = 1e-6


@dataclass(frozen=True)
class Benchmark:
    """A data set and the rules under which it is scored.

    Attributes:
        name: its key in `BENCHMARKS`.
        list_entries: (root, split list or None) -> the images, in order.
        read: an entry -> picture, depth and the protocol's mask.
        min_depth_m: what aligned depth is cut to from below before it is measured.
        max_depth_m: and from above; may be infinite.
        long_side_px: the picture's long side for the network; None keeps the picture's own size.
        alignment_max_side: of a larger map only so many columns are fitted (`align`'s max_side_px); None fits all.
        num_images: how many images the published numbers are means over; None where there are none.
        notes: what a reader of the numbers must know.
        domain: an entry -> "indoor" or "outdoor", for a method that is told; None where the data set does not say.
    """

    name: str
    list_entries: Callable[[Path, Path | None], list[Entry]]
    read: Callable[[Entry], DepthSample]
    min_depth_m: float
    max_depth_m: float
    long_side_px: int | None
    alignment_max_side: int | None
    num_images: int | None
    notes: str
    domain: Callable[[Entry], str] | None = None


def _benchmark(
    reader: ModuleType,
    num_images: int | None,
    notes: str,
    long_side_px: int | None = None,
    alignment_max_side: int | None = None,
    domain: Callable[[Entry], str] | None = None,
) -> Benchmark:
    """A row of the table; the reader brings the functions and the range."""
    return Benchmark(
        name=reader.NAME,
        list_entries=reader.list_entries,
        read=reader.read,
        min_depth_m=reader.MIN_DEPTH_M,
        max_depth_m=reader.MAX_DEPTH_M,
        long_side_px=long_side_px,
        alignment_max_side=alignment_max_side,
        num_images=num_images,
        notes=notes,
        domain=domain,
    )


def _indoor(_entry: Entry) -> str:
    return "indoor"


def _outdoor(_entry: Entry) -> str:
    return "outdoor"


_ROWS = (
    _benchmark(
        nyu,
        654,
        "Raw depth with holes, 1 mm to 10 m, in Eigen's crop (rows 45 to 470, columns 41 to 600).",
        domain=_indoor,
    ),
    _benchmark(
        kitti,
        652,
        "Annotated LiDAR depth up to 80 m; picture and depth cropped to 352 x 1216. The Eigen split lists 697 images, "
        "45 of which have no annotated depth.",
        domain=_outdoor,
    ),
    _benchmark(eth3d, 454, "Laser depth at 4032 x 6048, every measured pixel.", 756, 1024, eth3d.domain_of),
    _benchmark(scannet, 800, "Sensor depth, 1 mm to 10 m; Marigold's sample of the validation scenes.", domain=_indoor),
    _benchmark(
        diode,
        771,
        "Laser depth, 325 indoor and 446 outdoor pictures, under the data set's own mask.",
        640,
        domain=diode.domain_of,
    ),
    _benchmark(pairs, None, "Pictures with depth from a folder, every measured pixel; nothing published compares."),
)
BENCHMARKS: dict[str, Benchmark] = {row.name: row for row in _ROWS}
_DIODE_NOTES = {
    False: "No gradient filter, as in Marigold; papers that filter report far smaller errors.",
    True: "Gradient filter and 0.6 to 350 m, after Pixel-Perfect Depth; not comparable with Marigold's numbers.",
}


def choose_benchmark(name: str, kitti_mask: str | None = None, diode_gradient_filter: bool = False) -> Benchmark:
    """The benchmark, with its options bound into `read` and told in `notes`.

    Args:
        name: a key of `BENCHMARKS`.
        kitti_mask: a key of `data.kitti.MASKS`, for "kitti" alone; None is "eigen", as in Marigold.
        diode_gradient_filter: for "diode" alone; see `data.diode.read`.

    Raises:
        ValueError: an unknown name or mask, or an option of another benchmark.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"Unknown benchmark {name!r}; choose one of {', '.join(BENCHMARKS)}.")
    if kitti_mask is not None and name != kitti.NAME:
        raise ValueError(f"A KITTI mask ({kitti_mask}) was chosen for {name}; it applies to {kitti.NAME} alone.")
    if diode_gradient_filter and name != diode.NAME:
        raise ValueError(f"The gradient filter was chosen for {name}; it applies to {diode.NAME} alone.")
    if name == kitti.NAME:
        return _with_kitti_mask(BENCHMARKS[name], kitti_mask or kitti.DEFAULT_MASK)
    if name == diode.NAME:
        read = partial(diode.read, gradient_filter=diode_gradient_filter)
        return _with_read(BENCHMARKS[name], read, _DIODE_NOTES[diode_gradient_filter])
    return BENCHMARKS[name]


def prepare_image(image: Tensor, benchmark: Benchmark) -> Tensor:
    """The picture [1, 3, H, W] as methods get it: its long side at the protocol's, also where it is smaller."""
    return resize_long_side(image, benchmark.long_side_px or 0)


def prepare_prediction(prediction: Tensor, size: tuple[int, int]) -> Tensor:
    """The prediction at the ground truth's size: bilinear, with the antialiasing filter where it shrinks.

    Args:
        prediction: [B, 1, h, w], depth, log depth or disparity, as it came from the network.
        size: (H, W) of the ground truth.

    Returns:
        [B, 1, H, W]; it never leaves the range of the values that came.

    Raises:
        ValueError: a prediction of another shape.
    """
    if prediction.ndim != 4 or prediction.shape[1] != 1:
        raise ValueError(f"A prediction is [B, 1, h, w], but came as {list(prediction.shape)}.")
    return shrink(prediction, tuple(size))


def clip_aligned(depth_m: Tensor, benchmark: Benchmark) -> Tensor:
    """Aligned depth in metres, of any shape, cut to the benchmark's range and to at least `LOWEST_DEPTH_M`."""
    return depth_m.clamp(benchmark.min_depth_m, benchmark.max_depth_m).clamp_min(LOWEST_DEPTH_M)


def _with_kitti_mask(benchmark: Benchmark, mask: str) -> Benchmark:
    if mask not in kitti.MASKS:
        raise ValueError(f"Unknown KITTI mask {mask!r}; choose one of {', '.join(kitti.MASKS)}.")
    return _with_read(benchmark, partial(kitti.read, mask=mask), f"Mask within the crop: {mask}.")


def _with_read(benchmark: Benchmark, read: Callable[[Entry], DepthSample], note: str) -> Benchmark:
    return replace(benchmark, read=read, notes=f"{benchmark.notes} {note}")
