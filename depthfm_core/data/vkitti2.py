"""Virtual KITTI 2 (2.0.3): five rendered street scenes under many conditions, 375 x 1242, with depth.

The two archives, `vkitti_2.0.3_rgb.tar` and `vkitti_2.0.3_depth.tar`, both hold SceneXX/VARIATION/frames/...; extracted
into one folder they merge, extracted into folders `rgb` and `depth` they lie side by side as in Marigold. Depth is a
16-bit PNG in centimetres, whose end, 655.35 m, stands for the sky. It counts between 1e-5 m and 80 m, both excluded.

Source: Cabon et al. 2020, https://europe.naverlabs.com/research/computer-vision/proxy-virtual-worlds-vkitti-2/; scenes,
variations, range and crop: Marigold, `data_split/vkitti_depth` and `src/dataset/vkitti_dataset.py`.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from .entries import Entry, first_existing, nothing_found, read_split, require_folder
from .kitti import benchmark_crop
from .rasters import between, check_sizes, make_sample, read_png_m, read_rgb
from .sample import DepthSample

NAME = "vkitti2"
MIN_DEPTH_M, MAX_DEPTH_M = 1e-5, 80.0
SPLITS = {"train": ("Scene02", "Scene06", "Scene18", "Scene20"), "val": ("Scene01",)}
# What Marigold trains on; with both cameras 20,148 frames.
MARIGOLD_VARIATIONS = ("15-deg-left", "15-deg-right", "clone", "morning", "overcast", "sunset")
VARIATIONS = (*MARIGOLD_VARIATIONS, "30-deg-left", "30-deg-right", "fog", "rain")
EXAMPLE = (
    "rgb/Scene02/clone/frames/rgb/Camera_0/rgb_00000.jpg depth/Scene02/clone/frames/depth/Camera_0/depth_00000.png"
)
_CAMERAS = ("Camera_0", "Camera_1")


def list_entries(
    root: Path, split: str = "train", variations: Sequence[str] = MARIGOLD_VARIATIONS, listed: Path | None = None
) -> list[Entry]:
    """The frames of a split, by scene, variation, camera and number.

    Args:
        root: the folder into which both archives were extracted, or the one with the folders `rgb` and `depth`.
        split: a key of `SPLITS`.
        variations: which of `VARIATIONS` to take.
        listed: a list of pictures in place of split and variations, such as Marigold's.

    Raises:
        ValueError: an unknown split or variation, files or lists that are missing or of another form.
    """
    root = require_folder(root, "Virtual KITTI 2")
    if split not in SPLITS:
        raise ValueError(f"Unknown Virtual KITTI 2 split {split!r}; choose one of {', '.join(SPLITS)}.")
    unknown = [variation for variation in variations if variation not in VARIATIONS]
    if unknown or not variations:
        raise ValueError(f"Virtual KITTI 2 has no variations {unknown}; choose out of {', '.join(VARIATIONS)}.")
    if listed is not None:
        return [_entry(root, *_parse(line[0], listed)) for line in read_split(listed)]
    return [
        entry
        for scene in SPLITS[split]
        for variation in sorted(variations)
        for camera in _CAMERAS
        for entry in _sequence(root, scene, variation, camera)
    ]


def read(entry: Entry, *, crop: bool = False) -> DepthSample:
    """One frame; `valid` where depth is in range, which the sky is not.

    Args:
        entry: as `list_entries` gives it.
        crop: whether to cut it to the KITTI benchmark's 352 x 1216 (the lowest rows, the middle columns).

    Raises:
        ValueError: a file that cannot be read, files of different sizes, or a picture smaller than the crop.
    """
    image, depth_m = read_rgb(entry.image), read_png_m(entry.depth, 100)
    check_sizes(image, depth_m, entry.image)
    if crop:
        image, depth_m = benchmark_crop(image, entry.image), benchmark_crop(depth_m, entry.depth)
    return make_sample(image, depth_m, between(depth_m, MIN_DEPTH_M, MAX_DEPTH_M), entry.image)


def _sequence(root: Path, scene: str, variation: str, camera: str) -> list[Entry]:
    """The frames of one drive as one camera saw it.

    Raises:
        ValueError: there are none; every scene was rendered under every variation.
    """
    below = f"{scene}/{variation}/frames/rgb/{camera}"
    folders = [folder for folder in (root / "rgb" / below, root / below) if folder.is_dir()]
    pictures = sorted(folders[0].glob("rgb_*.jpg")) if folders else []
    if not pictures:
        patterns = (f"{below}/rgb_*.jpg", f"rgb/{below}/rgb_*.jpg")
        raise nothing_found(root, "Virtual KITTI 2", patterns)
    return [_entry(root, *_parse(f"{below}/{picture.name}", root)) for picture in pictures]


def _parse(picture: str, source: Path) -> tuple[str, str, str]:
    """SceneXX/VARIATION, the camera and the number in the path of a picture."""
    match = re.fullmatch(r"(?:.*/)?(Scene\d+/[\w-]+)/frames/rgb/(Camera_\d)/rgb_(\d+)\.jpg", picture)
    if match is None:
        raise ValueError(f"{picture!r} in {source} is no picture of Virtual KITTI 2; a line of a list is {EXAMPLE!r}.")
    return match[1], match[2], match[3]


def _entry(root: Path, drive: str, camera: str, number: str) -> Entry:
    image = f"{drive}/frames/rgb/{camera}/rgb_{number}.jpg"
    depth = f"{drive}/frames/depth/{camera}/depth_{number}.png"
    image_path = first_existing((root / "rgb" / image, root / image), "Virtual KITTI 2")
    depth_path = first_existing((root / "depth" / depth, root / depth), "Virtual KITTI 2")
    return Entry(f"{drive}/{camera}/{number}", image_path, depth_path)
