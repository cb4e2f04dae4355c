"""Frames in a folder: `{name}_rgb.jpg` beside `{name}_depth_mm.png`, the form in which synthetic scenes are kept.

Depth is a 16-bit PNG in millimetres, so it is exact to 0.5 mm and ends at 65.535 m, which stands for all that is
farther; 0 says that nothing was hit (sky).
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from ..replacing import replacing
from .rasters import make_sample, read_png_m, read_rgb
from .sample import DepthSample

IMAGE_SUFFIX = "_rgb.jpg"
DEPTH_SUFFIX = "_depth_mm.png"
MAX_DEPTH_MM = 65535
KNOWN_UP_TO_M = (MAX_DEPTH_MM - 0.5) / 1000  # beyond it, depth was cut
_JPEG_QUALITY = 93


def list_frames(folders: Sequence[Path]) -> list[Path]:
    """The frames of some folders as paths without suffix (`folder/name`), sorted by name within each folder.

    A picture without its depth map is left out, so a folder may be read while another process still writes to it.

    Raises:
        ValueError: a folder that does not exist.
    """
    frames = []
    for folder in map(Path, folders):
        if not folder.is_dir():
            raise ValueError(f"There is no folder of frames at {folder}; render some or name another folder.")
        names = {path.name for path in folder.iterdir()}
        images = sorted(name for name in names if name.endswith(IMAGE_SUFFIX))
        stems = (name[: -len(IMAGE_SUFFIX)] for name in images)
        frames += [folder / stem for stem in stems if stem + DEPTH_SUFFIX in names]
    return frames


def frame_name(seed: int) -> str:
    """What a rendered frame is called; names are in the order of seeds."""
    return f"{seed:08d}"


def read_frame(frame: Path) -> DepthSample:
    """One frame, `valid` where depth is known: where something was hit, nearer than what a file can hold.

    Args:
        frame: `folder/name`, as `list_frames` gives it.

    Raises:
        ValueError: a file that is missing or no whole picture, or a picture and a depth map of different sizes.
    """
    depth_m = read_png_m(frame.with_name(frame.name + DEPTH_SUFFIX), units_per_m=1000)
    valid = (depth_m > 0) & (depth_m < KNOWN_UP_TO_M)
    image_path = frame.with_name(frame.name + IMAGE_SUFFIX)
    return make_sample(read_rgb(image_path), depth_m, valid, image_path)


def write_frame(frame: Path, sample: DepthSample) -> None:
    """Writes a frame; depth beyond 65.535 m is cut there.

    Each file appears whole or not at all, the depth map first, so that a listed frame is always whole.

    Args:
        frame: `folder/name`; the folder must exist.
        sample: what to write; pixels that are not valid are written as 0.
    """
    depth_mm = (sample.depth_m[0] * 1000).round().clamp(1, MAX_DEPTH_MM).where(sample.valid[0], 0.0)
    image = (sample.image.clamp(0, 1) * 255).round().byte().permute(1, 2, 0)  # [H, W, 3]
    depth_path, image_path = (frame.with_name(frame.name + suffix) for suffix in (DEPTH_SUFFIX, IMAGE_SUFFIX))
    _save(Image.fromarray(depth_mm.numpy().astype(np.uint16)), depth_path, format="PNG", compress_level=1)
    _save(Image.fromarray(image.numpy()), image_path, format="JPEG", quality=_JPEG_QUALITY)


def _save(image: Image.Image, path: Path, **options: object) -> None:
    with replacing(path) as temporary:
        image.save(temporary, **options)
